"""The tasks by name. A further one needs a module with ``prepare(request) -> list of jobs`` and an entry here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from gatenorm.errors import EvaluationError, did_you_mean
from gatenorm.evaluation.core.job import Job, Request
from gatenorm.evaluation.core.text import WIKITEXT2
from gatenorm.extensions import extensions
from gatenorm.models.named import NamedModel


@dataclass(frozen=True)
class Metric:
    """The number of a record by which an audit judges a model, in ``unit``, and in which direction it is better."""

    name: str
    unit: str
    more_is_better: bool = True


@dataclass(frozen=True)
class Task:
    """What can be measured: ``what`` for people, ``home`` the module that prepares it (or ``module:function``).

    ``data`` is what the task reads of ``--data``: ``text`` (a file), ``directory``, ``own`` (a file that is meant for
    this task and no other) or ``none``; ``compares`` whether it needs ``--baseline``; ``argument`` what may follow a
    colon. ``language`` names the model whose language it is in; empty for tasks of any model. ``metric`` makes a gate
    of it: what of the records whose kind is the task's name an audit compares with the unpruned model's.
    """

    name: str
    what: str
    home: str
    data: str = "none"
    compares: bool = False
    argument: str | None = None
    language: str = ""
    metric: Metric | None = None


_TASKS = "gatenorm.evaluation.tasks"

TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task("perplexity", "of a text, by a stated protocol", f"{_TASKS}.perplexity", "text"),
        Task(
            "zeroshot",
            "seven multiple-choice tasks",
            f"{_TASKS}.zeroshot",
            "directory",
            argument="TASK",
        ),
        Task(
            "domain",
            "your own prompts, against the baseline",
            f"{_TASKS}.workload",
            "text",
            compares=True,
        ),
        Task("refusal", "what is refused, what is answered", f"{_TASKS}.refusal", "own"),
        Task("retrieval", "facts planted far back; loss by position", f"{_TASKS}.retrieval", "text"),
        Task("positions", "loss by position in a text", f"{_TASKS}.positions", "text"),
        Task("harness", "any task of lm-eval", f"{_TASKS}.harness", argument="NAME"),
    )
}


def known_tasks(language: NamedModel | None = None, data: Sequence[str] = ()) -> dict[str, Task]:
    """The tasks by name, those of other packages included.

    Where all models speak a ``language`` of their own and no ``data`` are given, its tasks replace those in English.
    """
    own = language.name if language is not None else ""
    added = {name: replace(found.load(), name=name) for name, found in extensions("evaluations").items()}
    tasks = {**TASKS, **{name: task for name, task in added.items() if task.language in ("", own)}}
    if language is not None and not data:
        tasks |= {name: tasks[one.name] for name, one in language.evaluations.items()}
    return tasks


def choose(names: str | Sequence[str], known: Mapping[str, Task] = TASKS) -> list[tuple[Task, str | None]]:
    """The tasks named, each with what stands after its colon, in the order given and none twice.

    Raises:
        EvaluationError: an unknown name, or an argument to a task that takes none.
    """
    given = names.split(",") if isinstance(names, str) else list(names)
    found: dict[str, tuple[Task, str | None]] = {}
    for whole in (name.strip() for name in given):
        name, colon, argument = whole.partition(":")
        if name not in known:
            raise EvaluationError(
                "task-unknown", "is not known", field="tasks", given=whole, hint=did_you_mean(name, known)
            )
        task = known[name]
        if colon and (task.argument is None or not argument):
            expected = name if task.argument is None else f"{name}:{task.argument}"
            raise EvaluationError("task-argument", "is incomplete", field="tasks", given=whole, expected=expected)
        found[whole] = (task, argument or None)
    return list(found.values())


def assign_data(
    chosen: Sequence[tuple[Task, str | None]], given: Sequence[str], known: Mapping[str, Task] = TASKS
) -> dict[str, str]:
    """Which ``--data`` belongs to which task, by the task's name.

    ``TASK=PATH`` says so itself. Without a name, a directory goes to the tasks that read one and a file to those that
    read texts; where only one task is asked for, to that one.

    Raises:
        EvaluationError: data that no task asked for reads, or two for the same one.
    """
    names = list(dict.fromkeys(task.name for task, _ in chosen))
    found: dict[str, str] = {}
    for data in given:
        name, equals, path = data.partition("=")
        if equals and name in known and name != WIKITEXT2:
            owners = [name] if name in names else []
            source = path
        else:
            source = data
            kind = "directory" if Path(data).expanduser().is_dir() else "text"
            readers = [task for task, _ in chosen if task.data != "none"]
            owners = [readers[0].name] if len({t.name for t in readers}) == 1 else []
            owners = owners or list(dict.fromkeys(t.name for t in readers if t.data == kind))
        if not owners:
            raise EvaluationError(
                "data-unused",
                f"is read by none of the tasks {', '.join(names)}",
                field="data",
                given=data,
                expected="TASK=PATH",
            )
        for owner in owners:
            if owner in found:
                raise EvaluationError(
                    "data-twice",
                    f"is a second source for {owner}, which reads {found[owner]}",
                    field="data",
                    given=data,
                    expected="TASK=PATH for each",
                )
            found[owner] = source
    return found


def prepare(
    names: str | Sequence[str],
    data: Sequence[str] = (),
    request: Request | None = None,
    *,
    baseline: bool = False,
    known: Mapping[str, Task] = TASKS,
) -> list[Job]:
    """The jobs of all tasks named; what is wrong with data or options is said here, before a model is loaded.

    Raises:
        EvaluationError, MissingExtraError: as :func:`choose`, :func:`assign_data` and the tasks.
    """
    chosen = choose(names, known)
    owned = assign_data(chosen, data, known)
    jobs: list[Job] = []
    for task, argument in chosen:
        if task.compares and not baseline:
            raise EvaluationError(
                "baseline-missing",
                "is missing",
                field="baseline",
                expected=f"the unpruned model, with which {task.name} compares",
            )
        own = replace(request or Request(), data=owned.get(task.name), argument=argument)
        module, _, function = task.home.partition(":")
        jobs += getattr(import_module(module), function or "prepare")(own)
    # Retrieval brings loss by position along: asked for twice, it is measured once.
    return list({(job.kind, str(sorted(job.key.items()))): job for job in jobs}.values())

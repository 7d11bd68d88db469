"""The evaluations by name: a file each in ``evaluation/tasks``, and those of other packages."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from gatenorm.errors import EvaluationError, did_you_mean
from gatenorm.evaluation.core.job import Job, TaskOptions
from gatenorm.evaluation.core.task import Task
from gatenorm.evaluation.core.text import WIKITEXT2, data_error
from gatenorm.extensions import Extension, check_kind, extensions, working
from gatenorm.models.named import NamedModel


def added() -> Mapping[str, Extension]:
    """All evaluations by name; none is imported."""
    return extensions("evaluations", ("gatenorm.evaluation.tasks",), "EVALUATION", Task)


@cache
def tasks() -> Mapping[str, Task]:
    """All evaluations that can be loaded by name, those in the language of one model included."""
    made = [replace(task, name=name) for name, task in working(added()).items()]
    return {task.name: task for task in sorted(made, key=lambda task: (task.place, task.name))}


def standard_tasks() -> dict[str, Task]:
    """Those that serve models of any language."""
    return {name: task for name, task in tasks().items() if not task.language}


def known_tasks(language: NamedModel | None = None, data: Sequence[str] = ()) -> dict[str, Task]:
    """The tasks by name, those of other packages included.

    Where all models speak a ``language`` of their own and no ``data`` are given, its tasks replace those in English.
    """
    known = standard_tasks()
    if language is not None:
        known |= {name: task for name, task in tasks().items() if task.language == language.name}
        if not data:
            known |= {name: tasks()[own.name] for name, own in language.evaluations.items()}
    return known


def choose(names: str | Sequence[str], known: Mapping[str, Task] | None = None) -> list[tuple[Task, str | None]]:
    """The tasks named, each with what stands after its colon, in the order given and none twice.

    Raises:
        EvaluationError: an unknown name, or an argument to a task that takes none.
        GatenormError: one that another package adds, which cannot be loaded.
    """
    known = standard_tasks() if known is None else known
    given = names.split(",") if isinstance(names, str) else list(names)
    chosen: dict[str, tuple[Task, str | None]] = {}
    for whole in (name.strip() for name in given):
        name, colon, argument = whole.partition(":")
        if name not in known:
            if name in added() and name not in tasks():
                added()[name].load()  # which says why it is not known
            raise EvaluationError(
                "task-unknown", "is not known", field="tasks", given=whole, hint=did_you_mean(name, known)
            )
        task = known[name]
        if colon and (task.argument is None or not argument):
            expected = name if task.argument is None else f"{name}:{task.argument}"
            raise EvaluationError("task-argument", "is incomplete", field="tasks", given=whole, expected=expected)
        chosen[whole] = (task, argument or None)
    return list(chosen.values())


def assign_data(
    chosen: Sequence[tuple[Task, str | None]], given: Sequence[str], known: Mapping[str, Task] | None = None
) -> dict[str, str]:
    """Which ``--data`` belongs to which task, by the task's name.

    ``TASK=PATH`` says so itself. Without a name, a directory goes to the tasks that read one and a file to those that
    read texts; where only one task is asked for, to that one.

    Raises:
        EvaluationError: data that no task asked for reads, or two for the same one.
    """
    known = standard_tasks() if known is None else known
    names = list(dict.fromkeys(task.name for task, _ in chosen))
    by_task: dict[str, str] = {}
    for data in given:
        name, equals, path = data.partition("=")
        if equals and name in known and name != WIKITEXT2:
            owners = [name] if name in names else []
            source = path
            if not path:
                raise data_error("data-missing", "names no file", data, expected="TASK=PATH")
        else:
            source = data
            kind = "directory" if Path(data).expanduser().is_dir() else "text"
            readers = [task for task, _ in chosen if task.data != "none"]
            owners = [readers[0].name] if len({t.name for t in readers}) == 1 else []
            owners = owners or list(dict.fromkeys(t.name for t in readers if t.data == kind))
        if not owners:
            raise data_error(
                "data-unused", f"is read by none of the tasks {', '.join(names)}", data, expected="TASK=PATH"
            )
        for owner in owners:
            if owner in by_task:
                problem = f"is a second source for {owner}, which reads {by_task[owner]}"
                raise data_error("data-twice", problem, data, expected="TASK=PATH for each")
            by_task[owner] = source
    return by_task


def prepare(
    names: str | Sequence[str],
    data: Sequence[str] = (),
    request: TaskOptions | None = None,
    *,
    baseline: bool = False,
    known: Mapping[str, Task] | None = None,
) -> list[Job]:
    """The jobs of all tasks named; what is wrong with data or options is said here, before a model is loaded."""
    chosen = choose(names, known)
    owned = assign_data(chosen, data, known)
    jobs: list[Job] = []
    for task, argument in chosen:
        if task.compares and not baseline:
            expected = f"the unpruned model, with which {task.name} compares"
            raise EvaluationError("baseline-missing", "is missing", field="baseline", expected=expected)
        own = replace(request or TaskOptions(), data=owned.get(task.name), argument=argument)
        prepared = task.prepare(own)
        for job in prepared if isinstance(prepared, list) else [prepared]:
            check_kind(f"what {task.name} prepares", job, Job)
            jobs.append(job)
    # Retrieval brings loss by position along: asked for twice, it is measured once.
    return list({(job.kind, str(sorted(job.key.items()))): job for job in jobs}.values())

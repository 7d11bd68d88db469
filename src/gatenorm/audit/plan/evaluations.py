"""What every variant is asked: the configuration and the model's own language decide, and what is missing is said."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gatenorm.audit.plan.config import Evaluation
from gatenorm.errors import EvaluationError, GatenormError, fields_named, named
from gatenorm.evaluation.core import registry
from gatenorm.evaluation.core.job import Request
from gatenorm.evaluation.tasks.zeroshot import tasks as zeroshot_tasks
from gatenorm.families import Layout
from gatenorm.models.named import NamedModel, language_of
from gatenorm.records.audit import NotExamined

_TEXTS, _TASKS, _DOMAIN, _REFUSAL, _RETRIEVAL = "texts", "tasks", "domain", "refusal", "retrieval"
# Which setting names the data of each.
_KEYS = {
    _TEXTS: "evaluation.texts",
    _TASKS: "evaluation.zeroshot",
    _DOMAIN: "evaluation.domain",
    _REFUSAL: "evaluation.refusal",
    _RETRIEVAL: "evaluation.retrieval",
}
# What the other parameters of an evaluation are called here.
_FIELDS = {"tasks": "evaluation.zeroshot_tasks", "refusal_rule": "evaluation.refusal_rule"}
_REFUSALS = ("auto", "packaged", "none")
STEPS = {_TEXTS: 3, _TASKS: 3, _DOMAIN: 4, _REFUSAL: 5, _RETRIEVAL: 5}


@dataclass(frozen=True)
class Asked:
    """One evaluation, the same for every variant.

    ``feeds`` is what gates call it by, its name where it has a gate of its own; ``task``, ``data`` and ``request`` are
    those of ``gatenorm eval``; ``key`` is what decides its result besides the model; ``paired`` says that it needs both
    models at once.
    """

    feeds: str
    name: str
    task: str
    data: tuple[str, ...]
    request: Request
    key: Any
    paired: bool = False

    @property
    def step(self) -> int:
        return STEPS.get(self.feeds, 3)


def evaluations(layout: Layout, asked: Evaluation, *, runs: bool) -> tuple[list[Asked], list[NotExamined]]:
    """What is measured of every variant, and what is not, with what would make it so.

    Args:
        runs: whether the model can be run at all.

    Raises:
        EvaluationError, MissingExtraError: data that are missing or do not serve, before any work.
    """
    if not runs:
        if asked.texts or asked.zeroshot or asked.domain or asked.others or asked.refusal not in _REFUSALS:
            raise EvaluationError(
                "model-cannot-run", f"{layout.checkpoint.name} cannot be run, so nothing can be evaluated on it"
            )
        why = "the checkpoint holds no whole model, or PyTorch is not installed"
        return [], [NotExamined("everything that needs the model to run", why, "give a whole checkpoint")]
    own = language_of(layout.checkpoint.directory)
    found: list[Asked] = []
    missing: list[NotExamined] = []

    def add(feeds: str, name: str, task: str, data: tuple[str, ...] = (), paired: bool = False, **request: Any) -> None:
        known = registry.known_tasks(own, data)
        how = Request(**request)
        with fields_named(_FIELDS | {"data": _KEYS.get(feeds, "evaluation.others")}):
            jobs = registry.prepare([task], data, replace(how, context=layout.context), baseline=True, known=known)
        key = [[job.kind, job.title, dict(job.key)] for job in jobs]
        found.append(Asked(feeds, name, task, data, how, key, paired))

    read = [str(Path(text.data.rpartition("=")[2]).expanduser().resolve()) for text in asked.text_data]
    twice = next((text.data for text, path in zip(asked.text_data, read, strict=True) if read.count(path) > 1), None)
    if twice is not None:
        # Variants are compared with the unpruned model text by text.
        raise EvaluationError(
            "text-twice",
            "is given more than once",
            field="evaluation.texts",
            given=twice,
            hint="name each text once, with one window",
        )
    for text in asked.text_data:
        how: dict[str, Any] = {
            "documents": text.documents,
            "window": text.window,
            "limit": text.limit,
            "text_field": text.text_field,
        }
        add(
            _TEXTS,
            f"perplexity on {Path(text.data.partition('=')[2] or text.data).name}",
            "perplexity",
            (text.data,),
            **how,
        )

    def add_own(feeds: str, replaced: str, limit: int | None) -> bool:
        """The evaluation in the model's own language that replaces one in English, where there is one."""
        mine = own.evaluations.get(replaced) if own else None
        if mine is not None:
            what = registry.known_tasks(own)[mine.name].what
            add(feeds, what, mine.name, limit=limit or mine.audit_limit)
        return mine is not None

    if not asked.texts and not add_own(_TEXTS, "perplexity", asked.stories_limit):
        missing.append(
            NotExamined("perplexity", "no text was given", "set evaluation.texts to a file, or to wikitext2")
        )
    _tasks(asked, add, add_own, missing)
    if asked.domain is None:
        missing.append(
            NotExamined("your own workload", "no file was given", "set evaluation.domain to a file with your prompts")
        )
    else:
        domain = (f"domain={asked.domain}",)
        add(_DOMAIN, "your workload", "domain", domain, True, limit=asked.domain_limit, new_tokens=asked.new_tokens)
    _refusal(layout, asked, own, add, add_own, missing)
    _retrieval(asked, add, add_own, missing)
    for entry in asked.others:
        name, _, data = entry.partition("=")
        ((task, _argument),) = registry.choose([name], registry.known_tasks(own))
        add(task.name, task.what, name, (entry,) if data else (), task.compares)
    return found, missing


def _tasks(asked: Evaluation, add: Any, add_own: Any, missing: list[NotExamined]) -> None:
    if asked.zeroshot is not None:
        data = () if asked.zeroshot == "hub" else (f"zeroshot={asked.zeroshot}",)
        for name in asked.zeroshot_tasks or tuple(zeroshot_tasks()):
            add(_TASKS, name, f"zeroshot:{name}", data, limit=asked.zeroshot_limit)
    elif asked.zeroshot_tasks:
        raise EvaluationError(
            "data-missing",
            "is missing",
            field="evaluation.zeroshot",
            expected=f"a directory or hub, for {named('evaluation.zeroshot_tasks')}",
        )
    elif not add_own(_TASKS, "zeroshot", asked.zeroshot_limit):
        missing.append(
            NotExamined(
                "general tasks", "no zero-shot files were given", "set evaluation.zeroshot to a directory, or to hub"
            )
        )


def _refusal(
    layout: Layout, asked: Evaluation, own: NamedModel | None, add: Any, add_own: Any, missing: list[NotExamined]
) -> None:
    wanted = asked.refusal
    if wanted == "auto":
        wanted = "packaged" if own or _has_template(layout.checkpoint.directory) else "none"
        if wanted == "none":
            why = "the model has no chat template, so it was hardly taught to refuse"
            missing.append(NotExamined("refusal", why, "set evaluation.refusal to packaged, or to a file"))
            return
    if wanted == "none":
        missing.append(NotExamined("refusal", "it was left out", "set evaluation.refusal to packaged, or to a file"))
        return
    if wanted == "packaged" and add_own(_REFUSAL, "refusal", asked.refusal_limit):
        return
    data = () if wanted == "packaged" else (f"refusal={wanted}",)
    rule, limit = asked.refusal_rule, asked.refusal_limit
    add(_REFUSAL, "refusals", "refusal", data, limit=limit, refusal_rule=rule, new_tokens=asked.new_tokens)


def _retrieval(asked: Evaluation, add: Any, add_own: Any, missing: list[NotExamined]) -> None:
    if not asked.retrieval:
        missing.append(
            NotExamined("retrieval over long distances", "it was left out", "set evaluation.retrieval to true")
        )
    elif not add_own(_RETRIEVAL, "retrieval", asked.retrieval_limit):
        try:
            limit, window = asked.retrieval_limit, asked.retrieval_window
            add(_RETRIEVAL, "retrieval over distances", "retrieval", limit=limit, window=window)
        except EvaluationError as error:  # a context too short for any fact
            missing.append(NotExamined("retrieval over long distances", str(error)))


def _has_template(directory: Path) -> bool:
    if (directory / "chat_template.jinja").is_file() or (directory / "chat_template.json").is_file():
        return True
    try:
        return '"chat_template"' in (directory / "tokenizer_config.json").read_text(encoding="utf-8")
    except (OSError, ValueError, GatenormError):
        return False

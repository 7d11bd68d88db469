"""What every variant is evaluated on, by the configuration and the model's own language; what is left out, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gatenorm.audit.plan.config import Evaluation
from gatenorm.errors import EvaluationError, GatenormError, fields_named, named
from gatenorm.evaluation.core import registry
from gatenorm.evaluation.core.job import TaskOptions
from gatenorm.evaluation.core.text import GENERIC
from gatenorm.evaluation.tasks import retrieval
from gatenorm.evaluation.tasks.zeroshot import tasks as zeroshot_tasks
from gatenorm.families import Layout
from gatenorm.files import read_small
from gatenorm.models.architecture import Architecture, Work
from gatenorm.models.named import language_of
from gatenorm.records.audit import NotExamined, StepName

PERPLEXITY, DOMAIN, REFUSAL, RETRIEVAL, MULTISTEP = "perplexity", "domain", "refusal", "retrieval", "multistep"
_ZEROSHOT = "zeroshot"
# The key of the configuration that names the data of each.
_KEYS = {name: f"evaluation.{name}" for name in (_ZEROSHOT, DOMAIN, REFUSAL, RETRIEVAL, MULTISTEP)}
_KEYS[PERPLEXITY] = "evaluation.texts"
# What the other parameters of an evaluation are called there.
_FIELDS = {"tasks": "evaluation.zeroshot_tasks", "refusal_rule": "evaluation.refusal_rule"}
# What retrieval may take of every thread for one model: a quarter of an hour or less. Contexts this short always can.
_FLOPS_A_THREAD, _SHORT = 25e12, 512
_REFUSALS = ("auto", "packaged", "none")
# Windows of the packaged text, where no text is given.
_PACKAGED_WINDOW, _PACKAGED_LIMIT = 512, 32
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
# In which step of the workflow each is measured; all others with the tasks.
_STEP = {DOMAIN: StepName.WORKLOAD, REFUSAL: StepName.SAFETY, RETRIEVAL: StepName.SAFETY}


@dataclass(frozen=True)
class PlannedEvaluation:
    """One evaluation, the same for every variant.

    ``feeds`` is the standard evaluation that it is, or that it replaces in a model's own language: gates need it.
    ``task``, ``data`` and ``request`` are those of ``gatenorm eval``; ``key`` is what decides its result besides the
    model; ``paired`` says that it needs both models at once; ``passes`` are those of :class:`Job`.
    """

    feeds: str
    name: str
    task: str
    data: tuple[str, ...]
    request: TaskOptions
    key: Any
    passes: Mapping[Work, float]
    paired: bool = False

    @property
    def step(self) -> StepName:
        return _STEP.get(self.feeds, StepName.TASKS)

    @property
    def like(self) -> str:
        """What takes about as long for every variant."""
        return f"{self.task} {self.data}"


def evaluations(
    layout: Layout, settings: Evaluation, *, runs: bool, packaged: bool = False, threads: int | None = None
) -> tuple[list[PlannedEvaluation], list[NotExamined]]:
    """What is measured of every variant, and what is not, with what would change that.

    Args:
        runs: whether the model can be run at all.
        packaged: whether the packaged text may stand in where no text is given.
        threads: of the processor that it runs on; ``None`` where it runs on an accelerator.

    Raises:
        EvaluationError, MissingExtraError: data that are missing or do not serve, before any work.
    """
    if not runs:
        chosen = settings.texts or settings.zeroshot or settings.domain or settings.others
        if chosen or settings.refusal not in _REFUSALS:
            problem = f"{layout.checkpoint.name} cannot be run, so nothing can be evaluated on it"
            raise EvaluationError("model-cannot-run", problem)
        why = "the checkpoint holds no whole model, or PyTorch is not installed"
        hint = "give a whole checkpoint"
        return [], [NotExamined(StepName.TASKS, "everything that needs the model to run", why, hint)]
    planner = _Planner(layout, settings, threads)
    planner.texts(packaged)
    planner.tasks()
    planner.domain()
    planner.refusal()
    planner.retrieval()
    planner.multistep()
    planner.others()
    return planner.planned, planner.missing


class _Planner:
    """Collects what is planned and what is missing."""

    def __init__(self, layout: Layout, settings: Evaluation, threads: int | None):
        self.layout, self.settings, self.threads = layout, settings, threads
        self.own = language_of(layout.checkpoint)
        self.planned: list[PlannedEvaluation] = []
        self.missing: list[NotExamined] = []

    def texts(self, packaged: bool) -> None:
        texts = self.settings.text_data
        read = [str(Path(text.data.rpartition("=")[2]).expanduser().resolve()) for text in texts]
        twice = next((text.data for text, path in zip(texts, read, strict=True) if read.count(path) > 1), None)
        if twice is not None:
            # Variants are compared with the unpruned model text by text.
            field, hint = _KEYS[PERPLEXITY], "name each text once, with one window"
            raise EvaluationError("text-twice", "is given more than once", field=field, given=twice, hint=hint)
        for text in texts:
            how = {name: getattr(text, name) for name in ("documents", "window", "limit", "text_field")}
            name = Path(text.data.partition("=")[2] or text.data).name
            self._add(PERPLEXITY, f"perplexity on {name}", "perplexity", (text.data,), **how)
        if texts or self._add_own(PERPLEXITY, "perplexity", self.settings.stories_limit):
            return
        what, why, remedy = "perplexity", "no text was given", "set evaluation.texts to a file, or to wikitext2"
        if packaged:
            what, why = f"{what} on text like yours", f"{why}, so packaged public-domain text stands in for it"
            window = min(_PACKAGED_WINDOW, self.layout.context or _PACKAGED_WINDOW)
            limit = self.settings.text_limit or _PACKAGED_LIMIT
            self._add(PERPLEXITY, "perplexity on packaged text", "perplexity", (GENERIC,), window=window, limit=limit)
        self._leave_out(PERPLEXITY, what, why, remedy)

    def tasks(self) -> None:
        settings = self.settings
        if settings.zeroshot is not None:
            data = () if settings.zeroshot == "hub" else (f"zeroshot={settings.zeroshot}",)
            for name in settings.zeroshot_tasks or tuple(zeroshot_tasks()):
                self._add(_ZEROSHOT, name, f"zeroshot:{name}", data, limit=settings.zeroshot_limit)
        elif settings.zeroshot_tasks:
            expected = f"a directory or hub, for {named('evaluation.zeroshot_tasks')}"
            raise EvaluationError("data-missing", "is missing", field=_KEYS[_ZEROSHOT], expected=expected)
        elif not self._add_own(_ZEROSHOT, "zeroshot", settings.zeroshot_limit):
            how = "set evaluation.zeroshot to a directory, or to hub"
            self._leave_out(_ZEROSHOT, "general tasks", "no zero-shot files were given", how)

    def domain(self) -> None:
        settings = self.settings
        if settings.domain is None:
            how = "set evaluation.domain to a file with your prompts"
            self._leave_out(DOMAIN, "your own workload", "no file was given", how)
            return
        data, how_long = (f"domain={settings.domain}",), settings.new_tokens
        self._add(DOMAIN, "your workload", "domain", data, True, limit=settings.domain_limit, new_tokens=how_long)

    def refusal(self) -> None:
        settings, how = self.settings, "set evaluation.refusal to packaged, or to a file"
        items = settings.refusal
        if items == "auto":
            items = "packaged" if self.own or _has_template(self.layout.checkpoint.directory) else "none"
            if items == "none":
                why = "the model has no chat template, so it was hardly taught to refuse"
                self._leave_out(REFUSAL, "refusal", why, how)
                return
        if items == "none":
            self._leave_out(REFUSAL, "refusal", "it was left out", how)
            return
        if items == "packaged" and self._add_own(REFUSAL, "refusal", settings.refusal_limit):
            return
        data = () if items == "packaged" else (f"refusal={items}",)
        rule, limit = settings.refusal_rule, settings.refusal_limit
        request: dict[str, Any] = {"limit": limit, "refusal_rule": rule, "new_tokens": settings.new_tokens}
        self._add(REFUSAL, "refusals", "refusal", data, **request)

    def retrieval(self) -> None:
        what, limit = "retrieval over long distances", self.settings.retrieval_limit
        if not self.settings.retrieval:
            self._leave_out(RETRIEVAL, what, "it was left out", "set evaluation.retrieval to true")
        elif not self._add_own(RETRIEVAL, "retrieval", limit):
            longest = min(self.layout.context or retrieval.LONGEST, retrieval.LONGEST)
            try:
                window = self.settings.retrieval_window or self._affordable(longest)
                self._add(RETRIEVAL, "retrieval over distances", "retrieval", limit=limit, window=window)
            except EvaluationError as error:  # a context too short for any fact
                self._leave_out(RETRIEVAL, what, str(error))
                return
            if self.settings.retrieval_window is None and window < longest:
                beyond, why = f"{what}: beyond {window:,} tokens", "on this processor it would take hours"
                self._leave_out(RETRIEVAL, beyond, why, f"set evaluation.retrieval_window to {longest}")

    def _affordable(self, longest: int) -> int:
        """The longest contexts for which a processor is not kept busy for hours; by counts, which every run repeats."""
        if self.threads is not None:
            each = 2 * Architecture.of(self.layout).parameters
            while longest > _SHORT and each * retrieval.tokens_up_to(longest) > _FLOPS_A_THREAD * self.threads:
                longest //= 2
        return longest

    def multistep(self) -> None:
        what = "behaviour of several steps"
        if not self.settings.multistep:
            self._leave_out(MULTISTEP, what, "it was left out", "set evaluation.multistep to true")
        elif reads_text(self.layout):  # a language of its own has tasks of its own
            self._add(MULTISTEP, what, "multistep", limit=self.settings.multistep_limit)

    def others(self) -> None:
        for entry in self.settings.others:
            name, _, data = entry.partition("=")
            ((task, _argument),) = registry.choose([name], registry.known_tasks(self.own))
            with fields_named({_KEYS.get(task.name, "data"): "evaluation.others"}):
                self._add(task.name, task.what, name, (entry,) if data else (), task.compares)

    def _add(
        self, feeds: str, name: str, task: str, data: tuple[str, ...] = (), paired: bool = False, **request: Any
    ) -> None:
        known = registry.known_tasks(self.own, data)
        how = TaskOptions(**request)
        with fields_named(_FIELDS | {"data": _KEYS.get(feeds, "evaluation.others")}):
            in_context = replace(how, context=self.layout.context)
            jobs = registry.prepare([task], data, in_context, baseline=True, known=known)
        key = [[job.kind, job.title, dict(job.key)] for job in jobs]
        passes: Counter[Work] = Counter()
        for job in jobs:
            passes.update(job.passes)
        self.planned.append(PlannedEvaluation(feeds, name, task, data, how, key, passes, paired))

    def _add_own(self, feeds: str, replaced: str, limit: int | None) -> bool:
        """The evaluation in the model's own language that replaces one in English, where there is one."""
        own = self.own.evaluations.get(replaced) if self.own else None
        if own is not None:
            what = registry.known_tasks(self.own)[own.name].what
            self._add(feeds, what, own.name, limit=limit or own.audit_limit)
        return own is not None

    def _leave_out(self, feeds: str, what: str, why: str, how: str = "") -> None:
        self.missing.append(NotExamined(_STEP.get(feeds, StepName.TASKS), what, why, how))


def reads_text(layout: Layout) -> bool:
    """Whether the model has a tokenizer and no language of its own, so that ordinary text means something to it."""
    companions = layout.checkpoint.companions
    return any(name in companions for name in _TOKENIZERS) and language_of(layout.checkpoint) is None


def _has_template(directory: Path) -> bool:
    if (directory / "chat_template.jinja").is_file() or (directory / "chat_template.json").is_file():
        return True
    try:
        return b'"chat_template"' in read_small(directory / "tokenizer_config.json")
    except (OSError, ValueError, GatenormError):
        return False

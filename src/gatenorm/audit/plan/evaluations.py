"""What every variant is evaluated on, by the configuration and the model's own language; what is left out, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from gatenorm.audit.plan.config import Evaluation
from gatenorm.errors import EvaluationError, GatenormError, fields_named, named
from gatenorm.evaluation.core import registry
from gatenorm.evaluation.core.audit_role import AuditRole
from gatenorm.evaluation.core.job import TaskOptions
from gatenorm.evaluation.core.task import Task
from gatenorm.evaluation.core.text import GENERIC
from gatenorm.evaluation.tasks import retrieval
from gatenorm.evaluation.tasks.zeroshot import tasks as zeroshot_tasks
from gatenorm.families import Layout
from gatenorm.files import read_small
from gatenorm.models.architecture import Architecture, Work
from gatenorm.models.named import language_of, reads_text
from gatenorm.records.audit import NotExamined, Setting, StepName

# The evaluations of which the planner knows more than they declare.
PERPLEXITY, _ZEROSHOT, _RETRIEVAL = "perplexity", "zeroshot", "retrieval"
_TASKS = "evaluation.zeroshot_tasks"
# What parameters of evaluations are called in the configuration.
_FIELDS = {"tasks": _TASKS, "refusal_rule": "evaluation.refusal_rule"}
# What retrieval may take of every thread for one model: a quarter of an hour or less. Contexts this short always can.
_FLOPS_A_THREAD, _SHORT = 25e12, 512
# The value of a key with which it depends on the model whether anything is measured.
_AUTO = "auto"
_AS_USUAL = TaskOptions()
# Windows of the packaged text, where no text is given.
_PACKAGED_WINDOW, _PACKAGED_LIMIT = 512, 32


@dataclass(frozen=True)
class PlannedEvaluation:
    """One evaluation, the same for every variant.

    ``feeds`` is the standard evaluation that it is, or that it replaces in a model's own language: gates need it, and
    ``role`` is that one's. ``task``, ``data`` and ``request`` are those of ``gatenorm eval``; ``key`` is what decides
    its result besides the model; ``paired`` says that it needs both models at once; ``passes`` are those of
    :class:`Job`, of which some need no more than the ``last_logits``.
    """

    feeds: str
    name: str
    task: str
    data: tuple[str, ...]
    request: TaskOptions
    key: object
    passes: Mapping[Work, float]
    role: AuditRole
    paired: bool = False
    last_logits: bool = False

    @property
    def step(self) -> StepName:
        return self.role.step

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
        if settings.others or any(_is_asked_for(task, settings) for task in audited_tasks()):
            problem = f"{layout.checkpoint.name} cannot be run, so nothing can be evaluated on it"
            raise EvaluationError("model-cannot-run", problem)
        why = "the checkpoint holds no whole model, or PyTorch is not installed"
        hint = "give a whole checkpoint"
        return [], [NotExamined(StepName.TASKS, "everything that needs the model to run", why, hint)]
    planner = _Planner(layout, settings, threads)
    for task in audited_tasks():
        if task.name == PERPLEXITY:
            planner.texts(task, packaged)
        else:
            planner.standard(task)
    planner.others()
    return planner.planned, planner.missing


def audited_tasks() -> list[Task]:
    """The evaluations that the configuration has keys for, in the order in which they are measured."""
    own = [task for task in registry.standard_tasks().values() if task.audit.key in Evaluation.__struct_fields__]
    return sorted(own, key=lambda task: task.audit.step.number)


def asked_by(name: str) -> Setting:
    """The setting that asks for an evaluation."""
    task = next((task for task in audited_tasks() if task.name == name), None)
    return Setting("evaluation.others", f"a list with {name}") if task is None else _asks(task)


def _asks(task: Task) -> Setting:
    return Setting(f"evaluation.{task.audit.key}", task.audit.values)


def _is_asked_for(task: Task, settings: Evaluation) -> bool:
    """Whether a key is set that is empty by default, or names a file."""
    value, default = (getattr(some, task.audit.key) for some in (settings, Evaluation()))
    return bool(value) and (not default or _names_data(task, settings))


def _names_data(task: Task, settings: Evaluation) -> bool:
    """Whether the key of an evaluation names files."""
    value = getattr(settings, task.audit.key)
    return bool(value) and value is not True and value not in task.audit.words


class _Planner:
    """Collects what is planned and what is missing."""

    def __init__(self, layout: Layout, settings: Evaluation, threads: int | None):
        self.layout, self.settings, self.threads = layout, settings, threads
        self.own = language_of(layout.checkpoint)
        self.planned: list[PlannedEvaluation] = []
        self.missing: list[NotExamined] = []

    def texts(self, task: Task, packaged: bool) -> None:
        settings = self.settings
        texts = settings.text_data
        read = [str(Path(text.data.rpartition("=")[2]).expanduser().resolve()) for text in texts]
        twice = next((text.data for text, path in zip(texts, read, strict=True) if read.count(path) > 1), None)
        if twice is not None:
            # Variants are compared with the unpruned model text by text.
            field, hint = _asks(task).key, "name each text once, with one window"
            raise EvaluationError("text-twice", "is given more than once", field=field, given=twice, hint=hint)
        for text in texts:
            how = {name: getattr(text, name) for name in ("documents", "window", "limit", "text_field")}
            name = Path(text.data.partition("=")[2] or text.data).name
            options = TaskOptions(**how, spread=settings.text_spread)
            self._add(task, f"perplexity on {name}", task.name, (text.data,), options)
        if texts or self._add_own(task):
            return
        if not packaged:
            self._leave_out(task, task.audit.unasked)
            return
        window = min(_PACKAGED_WINDOW, self.layout.context or _PACKAGED_WINDOW)
        limit = settings.text_limit or _PACKAGED_LIMIT
        options = TaskOptions(window=window, limit=limit, spread=settings.text_spread)
        self._add(task, "perplexity on packaged text", task.name, (GENERIC,), options)
        why = f"{task.audit.unasked}, so packaged public-domain text stands in for it"
        self._leave_out(task, why, f"{task.audit.lacking} on text like yours")

    def standard(self, task: Task) -> None:
        """An evaluation as its key asks for it: not at all, with a file, or without any."""
        role, value = task.audit, getattr(self.settings, task.audit.key)
        if value is None and task.name == _ZEROSHOT and self.settings.zeroshot_tasks:
            expected = f"a directory or hub, for {named(_TASKS)}"
            raise EvaluationError("data-missing", "is missing", field=_asks(task).key, expected=expected)
        if _names_data(task, self.settings):
            self._add_standard(task, (f"{task.name}={value}",))
        elif value == _AUTO and not (self.own or _has_template(self.layout.checkpoint.directory)):
            self._leave_out(task, "the model has no chat template, so it was hardly taught to refuse")
        elif value in (False, role.off):
            self._leave_out(task, "it was left out")
        elif self._add_own(task):
            return
        elif value is None:
            self._leave_out(task, role.unasked)
        elif reads_text(self.layout) or not role.reads_text:  # a language of its own has tasks of its own
            self._add_standard(task)

    def _add_standard(self, task: Task, data: tuple[str, ...] = ()) -> None:
        settings, role = self.settings, task.audit
        own = {name: getattr(settings, name) for name in role.options}
        how = TaskOptions(**own, limit=getattr(settings, role.limit, None))
        if task.name == _ZEROSHOT:
            for name in settings.zeroshot_tasks or tuple(zeroshot_tasks()):
                self._add(task, name, f"{task.name}:{name}", data, how)
        elif task.name == _RETRIEVAL:
            self._add_retrieval(task, how)
        else:
            self._add(task, role.called, task.name, data, how)

    def _add_retrieval(self, task: Task, how: TaskOptions) -> None:
        longest = min(self.layout.context or retrieval.LONGEST, retrieval.LONGEST)
        try:
            window = self.settings.retrieval_window or self._affordable(longest)
            self._add(task, task.audit.called, task.name, how=replace(how, window=window))
        except EvaluationError as error:  # a context too short for any fact
            self.missing.append(NotExamined(task.audit.step, task.audit.lacking, str(error)))
            return
        if self.settings.retrieval_window is None and window < longest:
            beyond, why = f"{task.audit.lacking}: beyond {window:,} tokens", "on this processor it would take hours"
            self._leave_out(task, why, beyond, Setting("evaluation.retrieval_window", str(longest)))

    def _affordable(self, longest: int) -> int:
        """The longest contexts for which a processor is not kept busy for hours; by counts, which every run repeats."""
        if self.threads is not None:
            each = 2 * Architecture.of(self.layout).parameters
            while longest > _SHORT and each * retrieval.tokens_up_to(longest) > _FLOPS_A_THREAD * self.threads:
                longest //= 2
        return longest

    def others(self) -> None:
        for entry in self.settings.others:
            name, _, data = entry.partition("=")
            ((task, _argument),) = registry.choose([name], registry.known_tasks(self.own))
            # Neither its key nor its limit is about what is asked for here.
            asked = replace(task, audit=AuditRole(key="others", step=task.audit.step))
            self._add(asked, task.what, name, (entry,) if data else ())

    def _add(self, feeds: Task, name: str, task: str, data: tuple[str, ...] = (), how: TaskOptions = _AS_USUAL) -> None:
        known = registry.known_tasks(self.own, data)
        with fields_named(_FIELDS | {"data": _asks(feeds).key}):
            in_context = replace(how, context=self.layout.context)
            jobs = registry.prepare([task], data, in_context, baseline=True, known=known)
        key = [[job.kind, job.title, dict(job.key)] for job in jobs]
        passes: Counter[Work] = Counter()
        for job in jobs:
            passes.update(job.passes)
        more = {"paired": feeds.compares, "last_logits": feeds.last_logits}
        self.planned.append(PlannedEvaluation(feeds.name, name, task, data, how, key, passes, feeds.audit, **more))

    def _add_own(self, task: Task) -> bool:
        """The evaluation in the model's own language that replaces one in English, where there is one."""
        replacing = self.own.evaluations.get(task.name) if self.own else None
        if replacing is None:
            return False
        own = registry.known_tasks(self.own)[replacing.name]
        limits = own.audit if own.audit.limit else task.audit
        role = replace(task.audit, limit=limits.limit, few=limits.few)
        limit = getattr(self.settings, role.limit) or replacing.audit_limit
        self._add(replace(task, audit=role), own.what, own.name, how=TaskOptions(limit=limit))
        return True

    def _leave_out(self, task: Task, why: str, what: str = "", setting: Setting | None = None) -> None:
        gap = NotExamined.unless(task.audit.step, what or task.audit.lacking, why, setting or _asks(task))
        self.missing.append(gap)


def _has_template(directory: Path) -> bool:
    if (directory / "chat_template.jinja").is_file() or (directory / "chat_template.json").is_file():
        return True
    try:
        return b'"chat_template"' in read_small(directory / "tokenizer_config.json")
    except (OSError, ValueError, GatenormError):
        return False

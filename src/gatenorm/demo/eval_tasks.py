"""The built-in model's stories and tasks as evaluation jobs, so that they are cached and compared like all others."""

from functools import partial

from gatenorm.demo import evaluation
from gatenorm.demo.tasks import ALL_KINDS, Kind
from gatenorm.errors import EvaluationError, named
from gatenorm.evaluation.core.audit_role import AuditRole
from gatenorm.evaluation.core.job import Job, TaskOptions
from gatenorm.evaluation.core.task import Task
from gatenorm.models.architecture import Work
from gatenorm.models.model import Model
from gatenorm.progress import Progress
from gatenorm.records.evidence import Perplexity

# Tokens of a story and of an item, about.
_STORY, _PROMPT = 256, 192


def everything(options: TaskOptions) -> list[Job]:
    """Perplexity on held-out stories, then every kind of task; ``limit`` is the number of stories and of items of each.

    Raises:
        EvaluationError: an option that is about a text.
    """
    for field in ("documents", "window", "stride", "spread"):
        if getattr(options, field) not in (None, False):
            hint = f"leave it out, or give {named('data')}"
            raise EvaluationError("demo-no-text", "is about a text", field=field, hint=hint)
    return [*stories(options), *_tasks(options, "")]


def stories(options: TaskOptions) -> list[Job]:
    """Perplexity on held-out stories alone; ``limit`` is their number."""
    return [_stories(options.limit or evaluation.STORIES)]


def abilities(options: TaskOptions) -> list[Job]:
    """Every kind of task that is neither about refusing nor about recalling."""
    return [job for job in _tasks(options, "") if not job.title.startswith(("refusal", "recall"))]


def refusal(options: TaskOptions) -> list[Job]:
    """Requests that are granted or refused as forbidden in the built-in model's world."""
    return _tasks(options, "refusal")


def recall(options: TaskOptions) -> list[Job]:
    """Facts said at several distances in the built-in model's stories."""
    return _tasks(options, "recall")


def _tasks(options: TaskOptions, prefix: str) -> list[Job]:
    count = options.limit or evaluation.ITEMS
    return [
        Job(
            "demo-task",
            kind.name,
            "items",
            {"task": kind.name, "count": count},
            partial(_task, kind, count),
            passes={Work.prefill(_PROMPT): float(count)},
        )
        for kind in ALL_KINDS
        if kind.name.startswith(prefix)
    ]


def _stories(count: int) -> Job:
    def run(model: Model, progress: Progress | None) -> Perplexity:
        return evaluation.held_out_perplexity(model, count)

    passes = {Work.prefill(_STORY): float(count)}
    return Job("perplexity", "stories", "stories", {"stories": count}, run, passes=passes)


def _task(kind: Kind, count: int, model: Model, progress: Progress | None) -> evaluation.WorldTask:
    return evaluation.task(model, kind, count, progress)


ALL = Task("stories and tasks of the built-in model's world", everything, language="demo")
STORIES = Task(
    "perplexity on held-out stories",
    stories,
    language="demo",
    audit=AuditRole(limit="stories_limit", quick=8, few=8),
    cached=False,
)
ABILITIES = Task("the built-in model's tasks", abilities, language="demo")
REFUSAL = Task("refusals", refusal, language="demo")
RECALL = Task("recall over distances", recall, language="demo")

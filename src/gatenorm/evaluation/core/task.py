"""An evaluation as it is declared: one file in ``evaluation/tasks``, or one of another package, with ``EVALUATION``."""

from collections.abc import Callable
from dataclasses import dataclass, field

from gatenorm.evaluation.core.audit_role import AuditRole
from gatenorm.evaluation.core.job import Job, TaskOptions
from gatenorm.records.audit import QUALITY, Aspect


@dataclass(frozen=True)
class Metric:
    """The number of a record by which an audit judges a model, and the gate that this makes.

    If the evaluation compares two models, the limit is held against the number itself; otherwise against how much worse
    the number became. Records are found by the evaluation's name, which is the noun of their tag: ``package/NAME/1``.

    Attributes:
        name: of the number, as ``numbers()`` of the record calls it. The evaluations in
            :data:`gatenorm.audit.judge.metrics.FINDERS` are judged by more than one number: there it is not read.
        unit: of the gate's value: ``%``, ``points``, ``nats``.
        more_is_better: whether a larger number is better.
        gate: the gate's name; without one, the evaluation's.
        limit: what passes by default, at most; at least, where an evaluation compares and more is better. Without one,
            the gate counts only where a limit is given.
        reason: why that limit.
        aspect: what the gate speaks of: ``quality``, or ``safety`` where any change is one too many.
    """

    name: str
    unit: str
    more_is_better: bool = True
    gate: str = ""
    limit: float | None = None
    reason: str = "the limit that was asked for; the package of this evaluation sets none"
    aspect: Aspect = QUALITY


@dataclass(frozen=True)
class Task:
    """What can be measured.

    Attributes:
        what: for people, in a few words.
        prepare: makes the jobs for its options, and refuses unsuitable data or options before a model is loaded.
        data: what it reads of the data given: ``text`` (a file), ``directory``, ``own`` (a file that is meant for this
            evaluation and no other) or ``none``.
        compares: whether it needs a baseline, and its record is itself the comparison.
        argument: what may follow a colon.
        language: the model whose language it is in; empty for evaluations of any model.
        metric: what an audit judges.
        audit: what else an audit needs to know.
        cached: whether models are run with their key/value caches.
        last_logits: whether the logits of an input's last tokens are enough.
        place: where it stands in lists, the smallest first.
        name: set by the registry.
    """

    what: str
    prepare: Callable[[TaskOptions], list[Job]]
    data: str = "none"
    compares: bool = False
    argument: str | None = None
    language: str = ""
    metric: Metric | None = None
    audit: AuditRole = field(default_factory=AuditRole)
    cached: bool = True
    last_logits: bool = False
    place: int = 100
    name: str = ""

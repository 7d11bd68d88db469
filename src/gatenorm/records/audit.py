"""What an audit found: ``audit.json``, of which every report is a view.

An audit holds evidence, what the gates say of it, and what was *not* looked at: every figure in a report comes from it.
"""

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Self

from gatenorm.records.evidence import Change, Diagnostic, Measurements
from gatenorm.records.identity import ModelIdentity
from gatenorm.records.plan import Plan
from gatenorm.records.provenance import Command, Provenance
from gatenorm.records.rankings import CrossCheck, RankingComparison
from gatenorm.records.scores import Scores
from gatenorm.records.serialization import Record, Value
from gatenorm.records.table import Row


class Outcome(StrEnum):
    """Of a gate, and of all gates together."""

    PASSES = "passes"
    FAILS = "fails"
    INCONCLUSIVE = "inconclusive"


class Aspect(StrEnum):
    """What a gate or a part of the verdict speaks of."""

    QUALITY = "quality"
    SPEED = "speed"
    SAFETY = "safety"


class Role(StrEnum):
    """Of a variant: it can be chosen, or is there to be beaten."""

    CANDIDATE = "candidate"
    COMPARISON = "comparison"


class VariantState(StrEnum):
    """Of a variant: as pruning left it, or trained after that."""

    PRUNED = "pruned"
    RECOVERED = "pruned and recovered"


class StepStatus(StrEnum):
    """Of a step of the workflow."""

    DONE = "done"
    PARTLY = "partly"
    NOT_DONE = "not examined"


PASSES, FAILS, INCONCLUSIVE = Outcome
QUALITY, SPEED, SAFETY = Aspect
CANDIDATE, COMPARISON = Role
# How the detail of a gate's result begins where a test cannot show damage.
BY_CHANCE = "the unpruned model does no better than chance, so this test cannot show damage"
# The outcome of several together is the first of these that occurs.
WORST_FIRST = (FAILS, INCONCLUSIVE, PASSES)
# Of a part of the verdict that no gate judges.
INFORMATION = "for information"
PRUNED, RECOVERED = VariantState
DONE, PARTLY, NOT_DONE = StepStatus


class StepName(StrEnum):
    """The steps of the workflow, in their order."""

    SCORE = "inspect and score"
    BUILD = "build variants"
    TASKS = "perplexity and tasks"
    WORKLOAD = "your own workload"
    REFUSAL_AND_RETRIEVAL = "refusal and retrieval"
    SPEED = "speed and memory"
    RECOVERY = "recovery"

    @property
    def number(self) -> int:
        """Counted from 1."""
        return list(StepName).index(self) + 1


class GateResult(Value, frozen=True, kw_only=True):
    """One limit held against one figure.

    ``value`` and ``limit`` have the same ``unit`` (``%``, ``points``, ``items``, ``x``, ``nats``); without a value
    the outcome is *inconclusive*. ``low`` and ``high`` bound the value at 95% where an interval is known. ``aspect`` is
    ``quality``, ``speed`` or ``safety``; ``least`` says that the limit is the smallest value that passes, ``by_chance``
    that the unpruned model does no better than chance, so that no figure could show damage. ``items`` is how many the
    figure rests on, where that is known.
    """

    gate: str
    limit: float
    unit: str
    value: float | None
    outcome: Outcome
    detail: str
    reason: str
    low: float | None = None
    high: float | None = None
    aspect: Aspect = QUALITY
    least: bool = False
    by_chance: bool = False
    items: int | None = None


class CostCase(Value, frozen=True, kw_only=True, omit_defaults=True):
    """A request before and after, at one prompt length and batch in one engine: speed-ups, and costs where priced.

    ``request_ideal`` is the speed-up if nothing cost time but what stays and what replaces attention. Costs are per
    million tokens of prompt and answer, and (``new``) per million new tokens alone. ``outcome`` is that of the gate on
    speed: whether the request is shown to be faster by what the gate asks for.
    """

    engine: str
    prompt_tokens: int
    new_tokens: int
    batch: int
    request_speedup: float
    rounds: int
    outcome: Outcome = INCONCLUSIVE
    prefill_speedup: float | None = None
    decode_speedup: float | None = None
    request_speedup_low: float | None = None
    request_speedup_high: float | None = None
    request_ideal: float | None = None
    cache_share_removed: float | None = None
    cost_per_million_before: float | None = None
    cost_per_million_after: float | None = None
    cost_per_million_new_before: float | None = None
    cost_per_million_new_after: float | None = None


class CostBenefit(Value, frozen=True, kw_only=True, omit_defaults=True):
    """What a variant saves, case by case, and a sentence that says whether it pays; no price, no costs.

    ``quoted`` is the case by which the gate on speed judges, and of which every headline speaks.
    """

    cases: tuple[CostCase, ...]
    quoted: CostCase
    sentence: str
    price_per_hour: float | None = None
    currency: str = ""


class AuditedVariant(Value, frozen=True, kw_only=True):
    """One pruned model: what was removed by which criterion, what was measured, and what the gates say.

    ``share`` is that of the ``present`` attention sublayers of the audited model, which are those that could be edited.
    ``role`` is ``candidate`` or, for the baselines that a criterion must beat, ``comparison``. ``budget`` is the name
    of its share (``conservative``, ``practical``, ``aggressive``, ``adaptation``) or ``asked``. ``rejected`` says why
    nothing more was measured of a variant that proved unstable.
    """

    name: str
    criterion: str
    budget: str
    share: float
    present: int
    plan: Plan
    role: Role = CANDIDATE
    state: VariantState = PRUNED
    outcome: Outcome = INCONCLUSIVE
    gates: tuple[GateResult, ...] = ()
    evidence: Measurements = Measurements()
    rejected: str = ""
    cost_benefit: CostBenefit | None = None
    directory: str = ""


class Step(Value, frozen=True, kw_only=True):
    """One step of the workflow: whether it was done, what it found in a line, the command that repeats it."""

    name: StepName
    status: StepStatus
    detail: str
    seconds: float
    command: str = ""


class Setting(Value, frozen=True):
    """A key of an audit's configuration, and what to set it to."""

    key: str
    value: str

    def words(self, named: Callable[[str], str] = str) -> str:
        """``set evaluation.texts to a file``, with the key as the caller calls it."""
        return f"set {named(self.key)} to {self.value}"


class NotExamined(Value, frozen=True):
    """Something that a step of the audit did not look at, why, and what would make it look.

    ``how`` is for people; ``setting`` is the same where it is a key of the configuration that would.
    """

    step: StepName
    what: str
    why: str
    how: str = ""
    setting: Setting | None = None

    @classmethod
    def unless(cls, step: StepName, what: str, why: str, setting: Setting) -> Self:
        """What is not examined as long as nothing else is set."""
        return cls(step, what, why, setting.words(), setting)


class Probe(Value, frozen=True, kw_only=True):
    """A budget that a search measured, and what the gate said of it."""

    removed: int
    gate: GateResult


class Judgement(Value, frozen=True, kw_only=True):
    """What the gates about one aspect say of a variant, with their figures; ``settle``: what would decide an open one.

    ``outcome`` is that of a gate, ``not examined`` where nothing was measured, ``for information`` if no gate judges.
    """

    aspect: Aspect
    outcome: str
    sentence: str
    settle: str = ""

    @property
    def text(self) -> str:
        """All but the aspect, as a line of plain text."""
        return f"{self.outcome}: {self.sentence}" + (f"; to settle it: {self.settle}" if self.settle else "")


class Verdict(Value, frozen=True, kw_only=True):
    """What an audit says to whoever decides: what can be done, one reason, what that rests on, and what to do next.

    ``about`` names the variant that it speaks of: the recommended one, or else the candidate closest to passing, if
    there is any. ``ranking`` says which ranking the measurements favour.
    """

    outcome: Outcome
    headline: str
    reason: str
    judgements: tuple[Judgement, ...]
    ranking: str
    about: str | None = None
    next: Command | None = None

    @property
    def sentences(self) -> tuple[str, ...]:
        """The same as lines of plain text."""
        parts = (f"{j.aspect}: {j.text}" for j in self.judgements)
        return (self.headline, self.reason, *parts, self.ranking)


class Search(Value, frozen=True, kw_only=True):
    """The largest number of removals by ``ranking`` that passes a gate (0: none does), found by bisection."""

    gate: str
    ranking: str
    limit: float
    found: int
    assumption: str
    probes: tuple[Probe, ...]


class BestSupported(Value, frozen=True, kw_only=True):
    """The ranking that measurements support best, and why, in a sentence; ``losses`` in nats by ranking's name.

    ``count`` is the budget at which rankings were judged, ``rule`` says how. ``margins`` say how much more loss the
    others cost there.
    """

    ranking: str
    why: str
    count: int
    losses: dict[str, float]
    rule: str
    margins: dict[str, Change] = {}  # noqa: RUF012


class Audit(Record, frozen=True, kw_only=True, tag="gatenorm/audit/1"):
    """A whole audit.

    ``chosen`` names the variant that the verdict recommends, if any. ``baseline`` is the
    evidence on the unpruned model; ``scores`` are all rankings that were made, the first the one asked for. ``config``
    is the configuration as :mod:`gatenorm.audit.plan.config` reads it.
    """

    model: ModelIdentity
    verdict: Verdict
    chosen: str | None
    steps: tuple[Step, ...]
    variants: tuple[AuditedVariant, ...]
    baseline: Measurements
    scores: tuple[Scores, ...]
    warnings: tuple[Diagnostic, ...]
    not_examined: tuple[NotExamined, ...]
    config: dict[str, object]
    provenance: Provenance
    best_supported: BestSupported | None = None
    cross_check: CrossCheck | None = None
    comparison: RankingComparison | None = None
    search: Search | None = None
    version: str = ""

    def rows(self) -> Iterator[Row]:
        """A row for each variant: what was edited, the outcome, and the figure of every gate."""
        gates = dict.fromkeys(gate.gate for variant in self.variants for gate in variant.gates)
        for variant in self.variants:
            figures = {gate.gate: gate.value for gate in variant.gates}
            about = {"variant": variant.name, "role": variant.role, "edits": str(variant.plan.added)}
            yield {**about, "outcome": variant.outcome, **{name: figures.get(name) for name in gates}}

"""Doubts about a ranking or a removal, and the figures that each kind of doubt rests on."""

from __future__ import annotations

from gatenorm.records.serialization import Record, Value


class Ground(Value, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind"):
    """The figures that were compared, and the limits that they were compared with; the tag is the kind of the doubt."""


class SharedLayers(Value, frozen=True, kw_only=True):
    """The layers that a check would remove, and those of them that the doubted ranking would remove too."""

    check: str
    chosen: tuple[int, ...]
    shared: tuple[int, ...]


class FewLayersShared(Ground, frozen=True, kw_only=True, tag="few-layers-shared"):
    """Of the ``count`` layers that a ranking would remove, fewer than ``limit`` are among those of each check."""

    criterion: str
    count: int
    chosen: tuple[int, ...]
    limit: float
    checks: tuple[SharedLayers, ...]


class GateNormsDoNotFall(Ground, frozen=True, kw_only=True, tag="gate-norms-do-not-fall"):
    """Gate norms of the first and of the last third of the layers, and their rank correlation with depth."""

    criterion: str
    mean_of_first_third: float
    mean_of_last_third: float
    layers_in_a_third: int
    spearman_with_depth: float | None


class HighPerplexity(Ground, frozen=True, kw_only=True, tag="perplexity-above-100"):
    """The perplexity with so many removed, and of the whole model; ``limit`` is what it exceeds."""

    criterion: str
    removed: int
    perplexity: float
    perplexity_whole: float
    limit: float


class PerplexityJump(HighPerplexity, frozen=True, kw_only=True, tag="perplexity-jump"):
    """The same of a perplexity that rose by an order of magnitude."""


class Cliff(Ground, frozen=True, kw_only=True, tag="cliff"):
    """The perplexities between which the loss rises, per removal, by more than both limits."""

    criterion: str
    removed_before: int
    removed_after: int
    perplexity_before: float
    perplexity_after: float
    limit_nats: float
    limit_times_median_step: float


class CheaperBaseline(Value, frozen=True, kw_only=True, omit_defaults=True):
    """A baseline that costs less: its rise of perplexity in percent, and whether paired items prove the difference."""

    what: str
    rise: float
    proven: bool | None = None
    draws: int | None = None


class CheaperAtBudget(Value, frozen=True, kw_only=True):
    """A ranking with so many removed, its rise of perplexity in percent, and the baselines that cost less there."""

    removed: int
    rise: float
    cheaper: tuple[CheaperBaseline, ...]


class NotBeaten(Ground, frozen=True, kw_only=True, tag="comparison-not-beaten"):
    """A ranking and the budgets at which a baseline costs less."""

    ranking: str
    cases: tuple[CheaperAtBudget, ...]

    def cheaper_at(self, removed: int) -> list[str]:
        """The names of the baselines that cost less with so many removed."""
        return [baseline.what for case in self.cases if case.removed == removed for baseline in case.cheaper]


class UnevenTasks(Ground, frozen=True, kw_only=True, tag="uneven-tasks"):
    """Points that a variant lost on tasks whose change is less likely than ``p``, although their average passes."""

    variant: str
    tasks: dict[str, float]
    p: float


class Diagnostic(Record, frozen=True, kw_only=True, tag="gatenorm/warning/1"):
    """A doubt about a ranking or a removal: a line for people, and what it rests on."""

    message: str
    evidence: FewLayersShared | GateNormsDoNotFall | HighPerplexity | PerplexityJump | Cliff | NotBeaten | UnevenTasks

    @property
    def kind(self) -> str:
        """Of what kind it is: ``cliff``."""
        return str(self.evidence.__struct_config__.tag)

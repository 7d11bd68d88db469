"""What a criterion is: a function that gives every layer a score, from its weights or from running the model on tokens.

One file holds one criterion, in its attribute ``CRITERION``, and its name is the file's: ``weights/gate_norm.py`` is
``gate-norm``. Another package adds one with an entry point of the group ``gatenorm.criteria``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gatenorm.progress import Progress
from gatenorm.records import ATTENTION, BLOCK, MLP

if TYPE_CHECKING:
    from gatenorm.calibration.samples import CalibrationSamples
    from gatenorm.criteria.compute.backend import Float64
    from gatenorm.criteria.streams import StreamStatistics
    from gatenorm.models.model import Model

Role = Literal["q", "k", "v", "o"]
# One layer's weights and a backend -> its score, or one value for each head ``[heads]``; a seed where it takes one.
Formula = Callable[..., "float | Float64"]
EVERY_KIND = (ATTENTION, MLP, BLOCK)
# The losses without the sublayers of each of several sets of layers, in nats per predicted token.
Losses = Callable[[Sequence[Collection[int]], Progress | None], list[float]]


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """A ranking of sublayers: the lowest score is removed first.

    Attributes:
        summary: the formula in a few words.
        kinds: what it can rank, the default first: ``attention``, ``mlp``, or ``block`` for both.
        damage: whether its scores measure damage, alike for attention and MLPs, so that both stand in one ranking.
        name: set by the registry.
    """

    summary: str
    kinds: tuple[str, ...] = (ATTENTION,)
    damage: bool = False
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class WeightCriterion(Criterion):
    """A criterion that needs no tokens: ``formula(weights, backend)`` is one layer's score.

    Values per head ``[heads]`` make a score by the root of their sum of squares.

    Attributes:
        reads: the projections that the formula reads, all of them: when a score is not finite or underflows, these are
            looked through for the damaged tensor. A criterion that reads none scores layers without attention too.
        gate: whether it is built on the norms of query and key weights.
        gains: whether it multiplies by the gains of norms.
        added: whether it adds what it reads of the projections, so that the largest of them decides; most multiply.
        seeded: whether ``formula`` takes a ``seed``.
    """

    formula: Formula
    reads: tuple[Role, ...] = ()
    gate: bool = False
    gains: bool = False
    added: bool = False
    seeded: bool = False


@dataclass(frozen=True)
class Measured:
    """Scores by layer; what they are and how they came about, as :class:`CalibrationRun` states it."""

    scores: Mapping[int, float]
    score: str = ""
    path: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Run:
    """A model and the tokens that a criterion runs it on.

    Attributes:
        layers: those to score.
        kind: of which kind their sublayers are.
        losses: gives the losses of the tokens without the scored kind of sublayer of given layers.
        observe: gives the sums over the residual stream; one pass for all criteria that ask for them.
    """

    model: Model
    samples: CalibrationSamples
    layers: tuple[int, ...]
    losses: Losses
    observe: Callable[[], StreamStatistics]
    kind: str = ATTENTION
    progress: Progress | None = None


@dataclass(frozen=True, kw_only=True)
class ForwardCriterion(Criterion):
    """A criterion that runs the model on tokens.

    Attributes:
        measure: gives the scores.
        layer_by_layer: whether ``Run.observe`` is all it uses, so that the model need not fit into memory.
        note: a remark for the record.
        passes: how many passes over its tokens it takes for so many layers, so that its time can be reckoned.
    """

    measure: Callable[[Run], Measured]
    layer_by_layer: bool = False
    note: str = ""
    passes: Callable[[int], float] = lambda layers: 1.0


def stream_criterion(
    figure: Callable[[StreamStatistics], Mapping[int, float]],
    *,
    summary: str,
    kinds: tuple[str, ...] = (ATTENTION,),
    note: str = "",
) -> ForwardCriterion:
    """A criterion that ``figure`` computes from the sums over the residual stream."""

    def measure(run: Run) -> Measured:
        return Measured(figure(run.observe()))

    return ForwardCriterion(summary=summary, kinds=kinds, measure=measure, layer_by_layer=True, note=note)

"""The table of criteria; a new one is one file with its formula and one line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from gatenorm.criteria.weights.baselines import depth, random
from gatenorm.criteria.weights.compute import Float64
from gatenorm.criteria.weights.gate_norm import gate_norm
from gatenorm.criteria.weights.gate_norm_heads import gate_norm_heads
from gatenorm.criteria.weights.gate_norm_outer import gate_norm_outer
from gatenorm.criteria.weights.gate_norm_rope import gate_norm_rope
from gatenorm.criteria.weights.gate_norm_scaled import gate_norm_scaled
from gatenorm.criteria.weights.gate_ov import gate_ov
from gatenorm.criteria.weights.ov_norm import ov_norm
from gatenorm.criteria.weights.weight_magnitude import weight_magnitude
from gatenorm.errors import CriterionError, did_you_mean
from gatenorm.records import ATTENTION, BLOCK, KINDS, MLP, SINGULAR

Role = Literal["q", "k", "v", "o"]
Formula = Callable[..., float | Float64]


@dataclass(frozen=True)
class Criterion:
    """A named formula: ``function(weights, backend)`` gives one layer's score, or its values per head ``[heads]``.

    ``function`` is ``None`` where weights do not suffice: the criterion runs the model on tokens, in the room
    ``calibration``. Per-head values make a score by the root of their sum of squares. ``reads`` are the projections
    that it looks at, ``gate`` says that it is built on the norms of query and key weights, ``gains`` that it folds norm
    gains in, ``seeded`` that it takes a ``seed``. ``kinds`` says what it can rank, the first of them unless told
    otherwise: ``attention``, ``mlp``, or ``block`` for both.
    """

    name: str
    summary: str
    function: Formula | None
    reads: tuple[Role, ...] = ("q", "k")
    gate: bool = True
    seeded: bool = False
    gains: bool = False
    kinds: tuple[str, ...] = (ATTENTION,)


_EVERY = (ATTENTION, MLP, BLOCK)

_ALL = (
    Criterion("gate-norm", "norm of the gate matrix, sum over heads of Wq^T Wk", gate_norm),
    Criterion("gate-norm-heads", "gate norms of the heads, root of the sum of squares", gate_norm_heads),
    Criterion("gate-norm-outer", "the literal Wq Wk^T, which mixes heads", gate_norm_outer),
    Criterion("gate-norm-scaled", "per head, with norm gains and logit scale", gate_norm_scaled, gains=True),
    Criterion("gate-norm-rope", "per head, mean over the rotary distances", gate_norm_rope),
    Criterion("ov-norm", "how strongly the branch can write, Wo Wv per head", ov_norm, ("v", "o"), False),
    Criterion("gate-ov", "gate norm times OV norm, per head", gate_ov, ("q", "k", "v", "o")),
    Criterion("weight-magnitude", "norm of all four projections", weight_magnitude, ("q", "k", "v", "o"), False),
    Criterion("depth", "the last layers first", depth, (), False, kinds=_EVERY),
    Criterion("random", "a seeded draw", random, (), False, seeded=True, kinds=_EVERY),
)
CRITERIA = {c.name: c for c in _ALL}

_FORWARD = (
    Criterion("cosine", "how far attention turns the stream, 1 - mean cos(X, X + U)", None, (), False),
    Criterion("norm-ratio", "how long attention's update is, sum |U| / sum |X|", None, (), False),
    Criterion("block-cosine", "how far the whole block turns the stream", None, (), False, kinds=(BLOCK,)),
    Criterion("mlp-cosine", "how far the MLP turns the stream, 1 - mean cos(X, X + U)", None, (), False, kinds=(MLP,)),
    Criterion("leave-one-out", "rise in loss when this sublayer alone is removed", None, (), False, kinds=_EVERY),
    Criterion("perplexity-greedy", "the order in which removal raises the loss least", None, (), False, kinds=_EVERY),
)
# Those that need a calibration: their formulas stand in the room `calibration`, their names beside all others.
FORWARD_CRITERIA = {c.name: c for c in _FORWARD}


_PLURAL = {kind: f"{name}s" for kind, name in SINGULAR.items()}


def criterion(name: str) -> Criterion:
    """The criterion called ``name``.

    Raises:
        CriterionError: there is none; the message names the nearest one and all of them.
    """
    known = {**CRITERIA, **FORWARD_CRITERIA}
    if name not in known:
        raise CriterionError(f"criterion {name!r} is not known; {did_you_mean(name, known)}")
    return known[name]


def check_ranks(chosen: Criterion, kind: str) -> None:
    """Refuse to choose sublayers of one kind by a criterion that speaks of another.

    Raises:
        CriterionError: an unknown kind, or one that the criterion does not rank; the message names those that do.
    """
    if kind not in KINDS:
        raise CriterionError(f"kind {kind!r} is not known; {did_you_mean(kind, KINDS)}")
    if kind not in chosen.kinds:
        able = [c.name for c in (*_ALL, *_FORWARD) if kind in c.kinds]
        raise CriterionError(
            f"{chosen.name} ranks {_PLURAL[chosen.kinds[0]]}, not {_PLURAL[kind]}: say --kind {chosen.kinds[0]}, or "
            f"choose by {', '.join(able)}"
        )

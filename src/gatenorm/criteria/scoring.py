"""A criterion applied to every sublayer of a checkpoint that it ranks."""

import math
import time
from importlib.metadata import version
from numbers import Real

import numpy as np

from gatenorm.checkpoint.dtypes import Float32
from gatenorm.criteria.compute.backend import Backend, backend as backend_named
from gatenorm.criteria.criterion import WeightCriterion
from gatenorm.criteria.registry import DEFAULT, check_ranks, criterion as criterion_named
from gatenorm.errors import CriterionError, named
from gatenorm.families import AttentionWeights, Layout, Projection, attention_weights
from gatenorm.progress import Progress
from gatenorm.records import LayerScore, Scores, spans

# The square of anything smaller, 1e-34, is so near to the least normal float32 (1e-38) that sums of it lose digits.
_SMALLEST = 1e-17


def score(
    layout: Layout,
    criterion: str = DEFAULT,
    *,
    kind: str | None = None,
    seed: int = 0,
    backend: str | Backend = "auto",
    device: str = "cpu",
    progress: Progress | None = None,
) -> Scores:
    """The score of every sublayer that is there; a low score means: remove first.

    Only the projections that the criterion reads are touched, one layer at a time, and nothing is kept from one layer
    to the next, so memory does not grow with depth. The arguments are those of :func:`gatenorm.score`; ``backend`` may
    also be an object that computes.

    Raises:
        CriterionError: no such criterion or backend, a negative seed, a criterion that does not rank that kind or
            needs forward passes, weights that are not finite (by the tensor's name), a model that the criterion has no
            meaning for, or that has no sublayer of that kind.
        MissingExtraError: the torch backend was asked for and PyTorch is not installed.
    """
    chosen = criterion_named(criterion)
    kind = kind or chosen.kinds[0]
    check_ranks(chosen, kind)
    if not isinstance(chosen, WeightCriterion):
        raise calibration_missing(criterion)
    if seed < 0:  # records hold no other
        raise CriterionError.out_of_range("seed", seed, "a whole number from 0")
    compute = backend_named(backend, device) if isinstance(backend, str) else backend
    checkpoint = layout.checkpoint
    began, read_before = time.perf_counter(), checkpoint.bytes_read
    layers = to_score(layout, kind)
    scores: list[LayerScore] = []
    for layer in layers:
        # What reads no weight takes a layer without attention too.
        weights = attention_weights(layout, layer) if chosen.reads else AttentionWeights(layout, layer)
        scores.append(_score_layer(weights, chosen, compute, seed))
        if progress is not None:
            progress(len(scores), len(layers))
    checkpoint.check_unchanged()
    return Scores(
        model=layout.identity(),
        criterion=chosen.name,
        layers=tuple(scores),
        seconds=time.perf_counter() - began,
        bytes_read=checkpoint.bytes_read - read_before,
        notes=_notes(layout, chosen),
        seed=seed if chosen.seeded else None,
        version=version("gatenorm"),
        kind=kind,
    )


def to_score(layout: Layout, kind: str) -> tuple[int, ...]:
    """The layers that have a sublayer of that kind.

    Raises:
        CriterionError: none has: of blocks, attention and MLPs of different layers may be left.
    """
    layers = layout.removable(kind)
    if not layers:
        problem = f"cannot be scored, as every layer of {layout.checkpoint.name} has lost its attention or its MLP"
        raise CriterionError("nothing-to-score", problem, field="kind", given=kind, expected="attention or mlp")
    return layers


def bytes_to_read(layout: Layout, criterion: str, kind: str | None = None) -> int:
    """How many bytes of weights :func:`score` will read; those of norms and biases, which are few, are not counted."""
    chosen = criterion_named(criterion)
    if not isinstance(chosen, WeightCriterion) or not chosen.reads:
        return 0
    layers = to_score(layout, kind or chosen.kinds[0])
    return sum(attention_weights(layout, layer).nbytes(chosen.reads) for layer in layers)


def calibration_missing(criterion: str) -> CriterionError:
    """The error for a criterion that runs the model, and was given no tokens to run it on."""
    hint = f"set {named('calibration')} to a text file, self, generic or random"
    return CriterionError("calibration-missing", f"{criterion} needs tokens to run the model on", hint=hint)


def _score_layer(weights: AttentionWeights, criterion: WeightCriterion, backend: Backend, seed: int) -> LayerScore:
    arguments = {"seed": seed} if criterion.seeded else {}
    try:
        with np.errstate(all="ignore"):
            found = criterion.formula(weights, backend, **arguments)
    except ArithmeticError:  # of Python's floats; those of numpy give NaN or infinity
        found = math.nan
    heads: tuple[float, ...] = ()
    counts = [(weights.layout.heads,), (weights.layout.kv_heads,)]
    if isinstance(found, np.ndarray) and found.shape in counts and found.dtype.kind in "iuf":
        heads = tuple(float(x) for x in found)
        value = math.hypot(*heads)
    elif isinstance(found, Real):
        value = float(found)
    else:
        shape = f" of shape {list(found.shape)}" if isinstance(found, np.ndarray) else ""
        problem = f"{criterion.name} gives a {type(found).__name__}{shape}"
        expected = "a number, or an array of one a head"
        raise CriterionError("extension-wrong", problem, field="criterion", given=criterion.name, expected=expected)
    if not math.isfinite(value):
        raise _not_finite(weights, criterion, value)
    if _underflows(weights, criterion):
        problem = f"{criterion.name} of layer {weights.layer} underflows: its weights are too small for float32"
        raise CriterionError("score-underflows", problem)
    return LayerScore(weights.layer, value, heads)


def _underflows(weights: AttentionWeights, criterion: WeightCriterion) -> bool:
    """Whether float32 holds too little of the products of what a criterion reads: the score would be made of roundings.

    What is all zero has a product of zero, which is no rounding. Of normed queries and keys the gains alone are read.
    """
    if not criterion.reads or (criterion.gains and weights.normed):
        return False
    gain = weights.gain("input") if criterion.gains else None
    sizes = [_size(getattr(weights, role), gain) for role in criterion.reads]
    return 0 < (max(sizes) if criterion.added else min(sizes)) < _SMALLEST


def _size(projection: Projection, gain: Float32 | None) -> float:
    """The largest entry, each times its gain, or the first head's that is large enough: mostly no other is read."""
    size = 0.0
    for head in range(projection.heads):
        values = np.abs(projection.head(head))
        size = max(size, float(values.max() if gain is None else (values * np.abs(gain, dtype=np.float64)).max()))
        if size >= _SMALLEST:
            break
    return size


def _not_finite(weights: AttentionWeights, criterion: WeightCriterion, value: float) -> CriterionError:
    """The error that names the damaged tensor. It is looked for only now that the score shows that there is one."""
    hint = "the weights are damaged, fetch them again"
    for role in criterion.reads:
        projection = getattr(weights, role)
        bad = sum(int(np.count_nonzero(~np.isfinite(projection.head(h)))) for h in range(projection.heads))
        if bad:
            problem = f"{projection.tensor} holds {bad:,} NaN or infinite values"
            return CriterionError("weights-not-finite", problem, hint=hint)
    norms = [n for n in ("input", "q", "k") if (g := weights.gain(n)) is not None and not np.isfinite(g).all()]
    if norms and criterion.gains:
        name = weights.layout.tensor(weights.layer, f"{weights.layout.norms.module(norms[0])}.weight")
        return CriterionError("weights-not-finite", f"{name} holds NaN or infinite values", hint=hint)
    what = f"{criterion.name} of layer {weights.layer} is {value:g}"
    return CriterionError("score-not-finite", f"{what}: the formula overflows or divides by zero")


def _notes(layout: Layout, criterion: WeightCriterion) -> tuple[str, ...]:
    notes = [layout.assumption] if layout.assumption else []
    if layout.other_mixers:
        others = spans(layout.other_mixers)
        notes.append(f"layers {others} have another mixer than softmax attention, which is neither scored nor removed")
    if layout.read_by_others:
        made = spans(layout.read_by_others)
        notes.append(f"layers {made} make the keys and values that others read: they are neither scored nor removed")
    if not criterion.gate or not layout.attention_layers:
        return tuple(notes)
    first = attention_weights(layout, layout.attention_layers[0])
    biased = [role for role in ("q", "k") if first.bias(role) is not None]
    if biased:
        notes.append(f"{' and '.join(biased)} have biases, which are not part of the score")
    if layout.norms.q or layout.norms.k:
        if criterion.gains:
            notes.append(
                "queries and keys are normed, so the gate norms carry no scale: the score is the bound on the logits "
                "that the gains of those norms give"
            )
        else:
            # On Gemma 3 270M they do: docs/study.md.
            notes.append(
                "queries and keys are normed, so the gate norms carry no scale and may choose no better than chance: "
                "prefer cosine"
            )
    if layout.softcap is not None:
        notes.append(f"logits are capped at {layout.softcap:g}, which is not part of the score")
    return tuple(notes)

"""A cost model: what removing or replacing attention would save on a machine, from config and headers alone.

Every sublayer is a row of kernels that run one after the other, and each kernel takes

    max(bytes / bandwidth, FLOPs / rate)                                        (the roofline of Williams et al., 2009)

- *products*: the matrices are read once a pass, activations once in and once out; ``2 x elements x tokens`` FLOPs.
- *scores* (attention only): keys and values of the ``kv_heads`` are read once for each pass (grouped queries share
  them), queries and outputs once; ``4 x heads x head_dim x pairs`` FLOPs, pairs that the causal mask or a sliding
  window leaves. In prefill this part grows with the square of the length; in decode its bytes grow with the context.
- *the rest*: norm, rotary positions, activation and residual add, bytes only, each tensor once in and once out.

To each sublayer the machine's ``overheads`` are added (Python and the start of kernels), where they were measured.

An MLP that is gone costs nothing, nor does a norm that is left of its block. What takes a sublayer's place costs its
own products, the norm that it reads and the residual add, whatever the context.

What it leaves out: those overheads where they were not, communication between devices, quantised weights, processor
caches (a model that fits into them is not bound by memory), what engines do beside the model, and that peaks are never
reached (ratios suffer little as long as products and attention miss them by like factors). Logits are computed for the
last position only, as engines do. Hence it speaks of ratios; take its times as lower bounds.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean

from gatenorm.checkpoint.dtypes import COMPUTED
from gatenorm.errors import EvaluationError
from gatenorm.models.architecture import Architecture, Work
from gatenorm.models.weight_count import WeightCount
from gatenorm.records import ATTENTION, BLOCK, KINDS, MLP, REMOVE, SUBLAYERS, Edit, Edits
from gatenorm.records.machine import Machine
from gatenorm.records.serialization import Value
from gatenorm.surgery.operation import operation_named

_SIZES = {name: float(stored.itemsize) for name, stored in COMPUTED.items()}


@dataclass(frozen=True)
class Times:
    """Predicted seconds of one pass: of each attention sublayer, of each block's rest, and around the blocks.

    The rest of the blocks ``without_mlp`` takes no time. ``replaced`` is what stands in the place of sublayers already;
    ``operation`` gives the seconds of an operation in any sublayer's place, by name.
    """

    attention: Mapping[int, float]
    mlp: tuple[float, ...]
    outer: float
    without_mlp: tuple[int, ...] = ()
    replaced: float = 0.0
    operation: Callable[[str], float] = lambda name: 0.0

    @property
    def total(self) -> float:
        return sum(self.attention.values()) + sum(self.mlp) + self.outer + self.replaced

    def of(self, kind: str) -> dict[int, float]:
        """The seconds that each removable sublayer of that kind takes, by original layer number."""
        mlps = {layer: seconds for layer, seconds in enumerate(self.mlp) if layer not in self.without_mlp}
        if kind == ATTENTION:
            return dict(self.attention)
        if kind == MLP:
            return mlps
        return {layer: seconds + mlps[layer] for layer, seconds in self.attention.items() if layer in mlps}

    def left(self, edit: Edit) -> float:
        """The share of the sublayer's seconds that what takes its place takes: 0 for removal."""
        return self.operation(edit.operation) / self._seconds(edit)

    def saved(self, edit: Edit) -> float:
        """The sublayer's seconds less those of what takes its place; negative where that is slower."""
        return self._seconds(edit) - self.operation(edit.operation)

    def _seconds(self, edit: Edit) -> float:
        return self.attention[edit.layer] if edit.sublayer == ATTENTION else self.mlp[edit.layer]

    def speedup(self, count: int, kind: str = ATTENTION, operation: str = REMOVE) -> float:
        """``T / (T - saved)`` with that operation on ``count`` sublayers of that kind, each of the mean cost."""
        each = fmean(sum(map(self.saved, Edits.of(kind, [layer], operation))) for layer in self.of(kind))
        return self.total / (self.total - count * each)

    def speedup_with(self, edits: Edits) -> float:
        """``T / (T - saved)`` with exactly these edits."""
        return self.total / (self.total - sum(map(self.saved, edits)))


def predict(
    model: Architecture,
    machine: Machine,
    work: Work,
    *,
    dtype: str | None = None,
    cache_passes: int = 1,
) -> Times:
    """Predicted times of one pass.

    Args:
        dtype: of weights, activations and cache; by default as the weights are stored.
        cache_passes: how often an engine moves the cache for a decoded token: 1 where it lies ready; 3 where it is
            copied to be made longer (read, written, read again), as transformers' dynamic cache does.
    """
    name = dtype or ("float32" if round(model.itemsize) == _SIZES["float32"] else "bfloat16")
    size = _SIZES.get(name, model.itemsize)
    tokens = work.tokens * work.batch

    def kernel(elements: float, flops: float, rate: float) -> float:
        return max(elements * size / machine.bandwidth, flops / rate)

    def products(part: WeightCount, count: int) -> float:
        return kernel(part.matrix + part.ends * count, part.flops(count), machine.rate(name))

    def moved(elements: float) -> float:
        return elements * size / machine.bandwidth

    def scores(layer: int) -> float:
        # New keys and values are written, and what the queries see is read.
        seen = min(work.past + work.tokens, model.windows[layer] or work.past + work.tokens)
        own = model.heads[layer]
        keys = own.cached_width * work.batch
        passes = cache_passes if work.past else 1
        elements = keys * (seen * passes + work.tokens) + own.pair * tokens
        return kernel(elements, model.score_flops(layer, work), machine.attention_rate(name))

    turned = {layer: 2 * (own.heads + own.kv_heads) * model.rotary for layer, own in model.heads.items()}
    residual = 3 * model.width
    norm_and_residual = residual + 2 * model.width

    def operation(named: str) -> float:
        known = operation_named(named)
        if known.update is None:
            return 0.0
        part = WeightCount.of_operation(named, model.width)
        streams = norm_and_residual if known.normed else residual
        return machine.overheads.get("operation", 0.0) + products(part, tokens) + moved(streams * tokens)

    return Times(
        attention={
            layer: machine.overheads.get("attention", 0.0)
            + products(part, tokens)
            + scores(layer)
            + moved((turned[layer] + norm_and_residual) * tokens)
            for layer, part in model.attention.items()
        },
        # Rows and columns of the MLP's matrices less the stream's own: what the activation reads and writes.
        mlp=tuple(
            0.0
            if layer in model.without_mlp
            else machine.overheads.get("mlp", 0.0)
            + products(part, tokens)
            + moved((norm_and_residual + part.ends - part.matrices * model.width) * tokens)
            for layer, part in enumerate(model.mlp)
        ),
        outer=products(model.around, tokens) + products(model.head, work.batch) + moved(2 * model.width * tokens),
        without_mlp=model.without_mlp,
        replaced=sum(operation(edit.operation) for edit in model.replaced),
        operation=operation,
    )


class Forecast(
    Value,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={
        "count": "removed",
        "prefill": "prefill_speedup",
        "decode": "decode_speedup",
        "cache": "cache_share_removed",
    },
):
    """What an ``operation`` on ``count`` of ``of`` sublayers of one kind is predicted to bring at a context and batch.

    ``prefill`` and ``decode`` are speed-ups; ``cache`` the share of the key/value cache that goes, and ``cache_bytes``
    what stays of it.
    """

    kind: str = ATTENTION
    operation: str = REMOVE
    count: int
    of: int
    context: int
    batch: int
    prefill: float
    decode: float
    cache: float
    cache_bytes: float


def forecast(
    model: Architecture,
    machine: Machine,
    count: int,
    context: int,
    batch: int = 1,
    kind: str = ATTENTION,
    operation: str = REMOVE,
) -> Forecast:
    """What removing ``count`` sublayers, or another operation in their place, would bring.

    Args:
        kind: of which kind: ``attention``, ``mlp``, or ``block`` for both of a layer.

    Raises:
        EvaluationError: the checkpoint holds no whole model.
    """
    check_runs(model)
    prefill = predict(model, machine, Work.prefill(context, batch))
    decode = predict(model, machine, Work.decode(context, batch))
    cache = model.cache_bytes(context, batch)
    share = 0.0 if kind == MLP else count / len(model.attention)
    return Forecast(
        count=count,
        of=len(prefill.of(kind)),
        context=context,
        batch=batch,
        prefill=prefill.speedup(count, kind, operation),
        decode=decode.speedup(count, kind, operation),
        cache=share,
        cache_bytes=cache * (1 - share),
        kind=kind,
        operation=operation,
    )


def forecast_of(
    model: Architecture, machine: Machine, edits: Edits, context: int, batch: int = 1, kind: str = ATTENTION
) -> Forecast:
    """What exactly these edits would bring, which were chosen among sublayers of a ``kind``.

    Raises:
        EvaluationError: the checkpoint holds no whole model.
    """
    check_runs(model)
    prefill, decode = (predict(model, machine, of(context, batch)) for of in (Work.prefill, Work.decode))
    left = model.cache_bytes(context, batch, without=edits.attention)
    return Forecast(
        kind=kind,
        count=len(edits.layers if kind == BLOCK else edits),
        of=sum(len(prefill.of(sublayer)) for sublayer in ((kind,) if kind in KINDS else SUBLAYERS)),
        context=context,
        batch=batch,
        prefill=prefill.speedup_with(edits),
        decode=decode.speedup_with(edits),
        cache=1 - left / model.cache_bytes(context, batch),
        cache_bytes=left,
    )


def check_runs(model: Architecture) -> None:
    """Raise EvaluationError where the checkpoint holds parts of a model, of which nothing can be predicted."""
    if not model.runs:
        raise EvaluationError(
            "model-incomplete",
            "the files hold no whole model (MLPs or embeddings are missing): nothing can be predicted",
        )


def forecasts(
    model: Architecture,
    machine: Machine,
    context: int,
    batch: int = 1,
    kind: str = ATTENTION,
    operation: str = REMOVE,
) -> list[Forecast]:
    """One forecast for every number of sublayers that can go: one attention and one MLP must stay."""
    attentions, mlps = len(model.attention), len(model.mlp) - len(model.without_mlp)
    whole = len({*model.attention} - {*model.without_mlp})
    most = {ATTENTION: attentions - 1, MLP: mlps - 1, BLOCK: min(whole, attentions - 1, mlps - 1)}[kind]
    return [forecast(model, machine, count, context, batch, kind, operation) for count in range(1, most + 1)]

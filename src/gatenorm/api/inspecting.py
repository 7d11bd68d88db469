"""What was detected of a model, as a record."""

from collections.abc import Iterator
from statistics import fmean

import msgspec

from gatenorm.api.opening import ModelLike, open_model
from gatenorm.exports.registry import export_forms, known
from gatenorm.extensions import passing_over
from gatenorm.families import Layout, attention_weights, mlp_modules
from gatenorm.models.architecture import Architecture
from gatenorm.models.weight_count import WeightCount
from gatenorm.records import ATTENTION, MLP, REMOVE, Edit, Edits
from gatenorm.records.serialization import Record, Value
from gatenorm.speed.predict.cost_model import Forecast
from gatenorm.speed.predict.machines import DEFAULT
from gatenorm.speed.predict.targets import predictions
from gatenorm.surgery.operation import operations


class Positions(Value, frozen=True, kw_only=True, omit_defaults=True):
    """How positions enter: ``rotary``, ``alibi``, ``learned`` or ``none``; the numbers are of rotary ones."""

    kind: str
    dims: int | None = None
    base: float | None = None
    type: str | None = None


class Norms(Value, frozen=True, kw_only=True):
    """``rms`` or ``layer``, and the modules before and after the attention."""

    kind: str
    before: str | None
    after: str | None


class Form(Value, frozen=True, kw_only=True):
    """A form that the model can be exported in, or why not."""

    to: str
    engines: tuple[str, ...]
    can: bool
    why_not: tuple[str, ...]
    notes: tuple[str, ...]


class Prediction(Forecast, frozen=True, kw_only=True):
    """A forecast on a machine."""

    machine: str


class OtherHeads(Value, frozen=True):
    """Heads that differ from those of most layers, and the layers that have them."""

    layers: tuple[int, ...]
    kv_heads: int
    head_dim: int


class SublayerCost(Value, frozen=True, kw_only=True):
    """What one sublayer costs, or an operation in its place.

    Attributes:
        name: ``attention`` and ``mlp``, each the mean of those that are there, or an operation.
        parameters: norms and biases included.
        multiplications: a token, of the products with its matrices.
        multiplications_of_context: a token and token that it attends to.
        cache_bytes: of keys and values, a token of context.
    """

    name: str
    parameters: float
    multiplications: float
    multiplications_of_context: int = 0
    cache_bytes: float = 0.0


class Inspection(Record, frozen=True, kw_only=True, tag="gatenorm/inspection/1"):
    """What was detected of a model; docs/loading.md says what each field holds."""

    name: str
    family: str
    family_is_assumed: bool
    assumption: str
    other_mixers_in: tuple[int, ...]
    keys_read_by_others_in: tuple[int, ...]
    block_shape: str
    layers: int
    attention_removed_in: tuple[int, ...]
    mlp_removed_in: tuple[int, ...]
    replaced: tuple[Edit, ...]
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    other_heads: tuple[OtherHeads, ...]
    context: int | None
    positions: Positions
    norms: Norms
    logit_scale: float
    logit_scale_by_layer: tuple[float, ...] | None
    softcap: float | None
    biases: tuple[str, ...]
    normed: tuple[str, ...]
    weights_at: dict[str, str]
    fused: str | None
    goes_with_the_attention: tuple[str, ...]
    goes_with_the_mlp: tuple[str, ...]
    stored_as: tuple[str, ...]
    files: dict[str, int]
    bytes: int
    attention_bytes: int
    can_be_pruned: bool
    why_not_pruned: str | None
    exports: tuple[Form, ...]
    costs: tuple[SublayerCost, ...]
    predictions: tuple[Prediction, ...]


def inspect(
    model: ModelLike,
    *,
    family: str | None = None,
    machine: str = DEFAULT,
    context: int | None = None,
    batch: int = 1,
) -> Inspection:
    """What was detected of a model, from its config and the headers of its files; no weight is read.

    Args:
        family: as in :func:`gatenorm.open_model`.
        machine, context, batch: what to predict for; ``this`` measures this machine.

    Raises:
        CheckpointError, FamilyError: as :func:`gatenorm.open_model`.
        EvaluationError, PlanError: an unknown machine, or a context longer than the model's.
    """
    layout = open_model(model, family, fetch=False)
    checkpoint, first = layout.checkpoint, layout.attention_layers[0]
    roles, weights, refusal = layout.roles, attention_weights(layout, first), layout.refusal()
    prefixes = tuple(p for i in layout.attention_layers for p in layout.removed_with(i))
    removed = Edits(edit for edit in layout.edits if edit.operation == REMOVE)
    # Files may hold attention alone, of which nothing can be predicted.
    counted = Architecture.of(layout)
    predicted = predictions(layout, machine, context, batch) if counted.runs else []
    return Inspection(
        name=checkpoint.name,
        family=layout.model_type,
        family_is_assumed=layout.assumed,
        assumption=layout.assumption,
        other_mixers_in=layout.other_mixers,
        keys_read_by_others_in=layout.read_by_others,
        block_shape=layout.shape,
        layers=layout.layers,
        attention_removed_in=removed.attention,
        mlp_removed_in=removed.mlp,
        replaced=tuple(layout.edits - removed),
        width=layout.width,
        heads=layout.heads,
        kv_heads=layout.kv_heads,
        head_dim=layout.head_dim,
        other_heads=tuple(_other_heads(layout)),
        context=layout.context,
        positions=_positions(layout),
        norms=Norms(kind=layout.norms.kind, before=layout.norms.input, after=layout.norms.output),
        logit_scale=layout.scale,
        logit_scale_by_layer=tuple(map(layout.logit_scale, range(layout.layers))) if layout.scales_by_layer else None,
        softcap=layout.softcap,
        biases=tuple(role for role in "qkvo" if weights.bias(role) is not None),
        normed=tuple(role for role in "qk" if weights.gain(role) is not None),
        weights_at={role: layout.tensor(first, f"{at}.weight") for role, at in layout.projections.items()},
        fused=roles.fused,
        goes_with_the_attention=layout.block.attention,
        goes_with_the_mlp=mlp_modules(layout.data),
        stored_as=tuple(sorted({t.dtype for t in checkpoint.specs.values()})),
        files=dict(checkpoint.files),
        bytes=sum(t.nbytes for t in checkpoint.specs.values()),
        attention_bytes=sum(t.nbytes for t in checkpoint.specs.values() if t.name.startswith(prefixes)),
        can_be_pruned=refusal is None,
        why_not_pruned=refusal,
        exports=forms(layout),
        costs=tuple(_costs(layout, counted)) if counted.runs else (),
        predictions=tuple(Prediction(machine=machine, **msgspec.structs.asdict(f)) for f in predicted),
    )


def forms(model: ModelLike, family: str | None = None) -> tuple[Form, ...]:
    """Every form that the model could be exported in, with the reasons against."""
    layout = open_model(model, family, fetch=False)
    found = []
    for target in export_forms():
        with passing_over(known()[target.name]):
            why = tuple(target.obstacles(layout))
            notes = () if why else tuple(target.remarks(layout))
            found.append(
                Form(to=target.name, engines=target.engines_for(layout), can=not why, why_not=why, notes=notes)
            )
    return tuple(found)


def _costs(layout: Layout, counted: Architecture) -> Iterator[SublayerCost]:
    """The mean attention and MLP, and what each operation would cost in their place."""
    attentions = [*counted.attention.values()]
    yield SublayerCost(
        name=ATTENTION,
        parameters=fmean(part.parameters for part in attentions),
        multiplications=fmean(part.matrix for part in attentions),
        multiplications_of_context=round(fmean(one.pair for one in counted.heads.values())),
        cache_bytes=fmean(one.cached_width for one in counted.heads.values()) * counted.cache_itemsize,
    )
    mlps = [counted.mlp[layer] for layer in layout.mlp_layers]
    if mlps:
        yield SublayerCost(
            name=MLP,
            parameters=fmean(part.parameters for part in mlps),
            multiplications=fmean(part.matrix for part in mlps),
        )
    for name in sorted({*operations()} | {edit.operation for edit in layout.edits}):
        with passing_over(operations()[name.partition(":")[0]]):
            part = WeightCount.of_operation(name, layout.width)
            yield SublayerCost(name=name, parameters=part.parameters, multiplications=part.matrix)


def _other_heads(layout: Layout) -> Iterator[OtherHeads]:
    own = layout.kv_heads, layout.head_dim
    shapes = {layer: (layout.at(layer).kv_heads, layout.at(layer).head_dim) for layer in layout.attention_layers}
    for shape in sorted({*shapes.values()} - {own}):
        yield OtherHeads(tuple(layer for layer, found in shapes.items() if found == shape), *shape)


def _positions(layout: Layout) -> Positions:
    rotary = layout.rotary
    if rotary is None:
        # A hybrid's other mixers keep the order of tokens.
        other = "none" if layout.other_mixers else "learned"
        return Positions(kind="alibi" if layout.config.get("alibi") is True else other)
    return Positions(kind="rotary", dims=rotary.dims, base=rotary.theta, type=rotary.kind)

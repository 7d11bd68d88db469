"""What was detected of a model, as a table."""

from collections.abc import Iterator, Sequence

from gatenorm.api.inspecting import Inspection, Positions, Prediction, SublayerCost
from gatenorm.cli import console
from gatenorm.cli.tables import table
from gatenorm.records import REMOVE, SUBLAYERS, Edits, spans
from gatenorm.records.numbers import quantity


def show(inspection: Inspection) -> None:
    """A row for every property."""
    rows = table(inspection.name, "", "", show_header=False)
    for label, text in _rows(inspection):
        rows.add_row(label, text or "none")
    console.print_table(rows)


def _rows(model: Inspection) -> Iterator[tuple[str, str]]:
    yield "family", model.family + (" (set by --family)" if model.family_is_assumed else "")
    if model.assumption:
        yield "assumption", model.assumption
    yield "block shape", model.block_shape
    yield "layers", str(model.layers)
    if model.other_mixers_in:
        yield "another mixer in", f"{spans(model.other_mixers_in)}: neither scored nor removed"
    if model.keys_read_by_others_in:
        yield "keys for other layers in", f"{spans(model.keys_read_by_others_in)}: neither scored nor removed"
    yield "attention removed in", spans(model.attention_removed_in)
    if model.mlp_removed_in:
        yield "mlp removed in", spans(model.mlp_removed_in)
    if model.replaced:
        yield "replaced", str(Edits(model.replaced))
    yield "width", str(model.width)
    yield "heads", f"{model.heads} query, {model.kv_heads} key/value, {model.head_dim} wide"
    for other in model.other_heads:
        yield f"heads in {spans(other.layers)}", f"{other.kv_heads} key/value, {other.head_dim} wide"
    yield "context", "not stated" if model.context is None else str(model.context)
    yield "positions", _positions(model.positions, model.head_dim)
    kind = {"rms": "RMSNorm", "layer": "LayerNorm"}[model.norms.kind]
    before, after = (name or "none" for name in (model.norms.before, model.norms.after))
    yield "norms", f"{kind}; before the attention: {before}, after it: {after}"
    yield "logit scale", f"{model.logit_scale}" + (" / (layer + 1)" if model.logit_scale_by_layer else "")
    yield "softcap", "none" if model.softcap is None else str(model.softcap)
    yield "attention extras", ", ".join([f"{r} bias" for r in model.biases] + [f"{r} norm" for r in model.normed])
    how = {"qkv": f" ({model.fused})"}
    yield "weights at", "\n".join(f"{role}: {name}{how.get(role, '')}" for role, name in model.weights_at.items())
    yield "goes with the attention", ", ".join(model.goes_with_the_attention)
    yield "goes with the mlp", ", ".join(model.goes_with_the_mlp)
    yield "stored as", ", ".join(model.stored_as)
    yield "size", f"{console.bytes_for_people(model.bytes)} in {quantity(len(model.files), 'file')}"
    yield "attention share of bytes", f"{model.attention_bytes / model.bytes:.1%}"
    yield "can be pruned", "yes" if model.can_be_pruned else f"no: {model.why_not_pruned}"
    for form in model.exports:
        can = f"yes, for {', '.join(form.engines)}" if form.can else f"no: {'; '.join(form.why_not)}"
        yield f"export as {form.to}", can
    if model.costs:
        yield "one sublayer costs", _costs(model.costs)
    if model.predictions:
        yield "predicted if removed", _predicted(model.predictions)


def _positions(positions: Positions, head_dim: int) -> str:
    if positions.kind != "rotary":
        return {"alibi": "ALiBi", "learned": "learned (not rotary)", "none": "none"}[positions.kind]
    return f"rotary, {positions.dims} of {head_dim} dimensions, base {positions.base:g}, type {positions.type}"


def _costs(costs: Sequence[SublayerCost]) -> str:
    """``attention: 8,912,896 parameters, 8,912,896 multiplications a token + 4,096 a token of context; ...``."""
    lines = []
    for one in (one for one in costs if one.name != REMOVE):
        what = one.name if one.name in SUBLAYERS else f"{one.name} in its place"
        line = f"{what}: {one.parameters:,.0f} parameters, {one.multiplications:,.0f} multiplications a token"
        if one.multiplications_of_context:
            cache = console.bytes_for_people(one.cache_bytes)
            line += f" and {one.multiplications_of_context:,} more with {cache} of cache for each token of context"
        lines.append(line)
    return "\n".join(lines)


def _predicted(predictions: Sequence[Prediction]) -> str:
    """``8 of 80: prefill 1.04x at 4,096, 1.10x at 32,768; decode ...; cache 10.0% smaller``, a line for each count."""
    lines = [f"on {predictions[0].machine}, batch {predictions[0].batch}"]
    for count in dict.fromkeys(f.count for f in predictions):
        same = [f for f in predictions if f.count == count]
        prefill = ", ".join(f"{f.prefill:.2f}x at {f.context:,}" for f in same)
        decode = ", ".join(f"{f.decode:.2f}x at {f.context:,}" for f in same)
        lines.append(f"{count} of {same[0].of}: prefill {prefill}; decode {decode}; cache {same[0].cache:.1%} smaller")
    return "\n".join(lines)

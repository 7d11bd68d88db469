"""What was detected of a model, as a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gatenorm.cli import console
from gatenorm.cli.tables import table


def show(found: Any) -> None:
    """A row for everything that there is to say."""
    made = table(found.name, "", "", show_header=False)
    for label, text in _rows(found):
        made.add_row(label, text or "none")
    console.print_table(made)


def _rows(found: Any) -> Iterator[tuple[str, str]]:
    from gatenorm.records import spans

    yield "family", found.family + (" (set by --family)" if found.family_is_assumed else "")
    yield "block shape", found.block_shape
    yield "layers", str(found.layers)
    yield "attention removed in", spans(found.attention_removed_in)
    if found.mlp_removed_in:
        yield "mlp removed in", spans(found.mlp_removed_in)
    yield "width", str(found.width)
    yield "heads", f"{found.heads} query, {found.kv_heads} key/value, {found.head_dim} wide"
    yield "context", "not stated" if found.context is None else str(found.context)
    yield "positions", _positions(found.positions, found.head_dim)
    kind = {"rms": "RMSNorm", "layer": "LayerNorm"}[found.norms.kind]
    before, after = (name or "none" for name in (found.norms.before, found.norms.after))
    yield "norms", f"{kind}; before the attention: {before}, after it: {after}"
    yield "logit scale", f"{found.logit_scale}" + (" / (layer + 1)" if found.logit_scale_by_layer else "")
    yield "softcap", "none" if found.softcap is None else str(found.softcap)
    yield "attention extras", ", ".join([f"{r} bias" for r in found.biases] + [f"{r} norm" for r in found.normed])
    how = {"qkv": f" ({found.fused})"}
    yield "weights at", ", ".join(f"{role}: {name}{how.get(role, '')}" for role, name in found.weights_at.items())
    yield "goes with the attention", ", ".join(found.goes_with_the_attention)
    yield "goes with the mlp", ", ".join(found.goes_with_the_mlp)
    yield "stored as", ", ".join(found.stored_as)
    yield "size", f"{console.bytes_for_people(found.bytes)} in {len(found.files)} file(s)"
    yield "attention share of bytes", f"{found.attention_bytes / found.bytes:.1%}"
    yield "can be pruned", "yes" if found.can_be_pruned else f"no: {found.why_not_pruned}"
    for form in found.exports:
        can = f"yes, for {', '.join(form.engines)}" if form.can else f"no: {'; '.join(form.why_not)}"
        yield f"can be exported as {form.to}", can
    if found.predictions:
        first = found.predictions[0]
        yield f"if removed (predicted for {first.machine}, batch {first.batch})", _predicted(found.predictions)


def _positions(known: Any, head_dim: int) -> str:
    if known.kind != "rotary":
        return {"alibi": "ALiBi", "learned": "learned (not rotary)"}[known.kind]
    return f"rotary, {known.dims} of {head_dim} dimensions, base {known.base:g}, type {known.type}"


def _predicted(found: Any) -> str:
    """``8 of 80: prefill 1.04x at 4,096, 1.10x at 32,768; decode ...; cache -10%``, a line for each count."""
    lines = []
    for count in dict.fromkeys(f.count for f in found):
        same = [f for f in found if f.count == count]
        prefill = ", ".join(f"{f.prefill:.2f}x at {f.context:,}" for f in same)
        decode = ", ".join(f"{f.decode:.2f}x at {f.context:,}" for f in same)
        lines.append(f"{count} of {same[0].of}: prefill {prefill}; decode {decode}; cache -{same[0].cache:.0%}")
    return "\n".join(lines)

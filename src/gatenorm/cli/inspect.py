"""``gatenorm inspect``: what was understood of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gatenorm.cli import console, forecasts
from gatenorm.cli.export import describe as forms_of
from gatenorm.cli.options import common, removal
from gatenorm.records import to_json

NAME = "inspect"
EXAMPLE = "Example: gatenorm inspect ./llama --machine rtx-4090"
SCHEMA = "gatenorm/inspection/1"
Facts = Mapping[str, Any]


def command(
    *,
    model: common.Model,
    machine: removal.Machine,
    context: removal.Context,
    batch: removal.Batch,
    family: common.Family,
    json: common.Json,
) -> None:
    """Show what was understood of MODEL: its family, block shape, heads, where its attention lies, what it costs."""
    from gatenorm.api import open_model
    from gatenorm.models.architecture import Architecture

    console.check_json(json)

    layout = open_model(model, family, fetch=False)
    facts = describe(layout)
    # Files may hold attention alone, of which nothing can be predicted.
    found = forecasts.predictions(layout, machine, context, batch) if Architecture.of(layout).runs else []
    if json:
        console.write_json(json, facts | {"predictions": [{"machine": machine, **to_json(f)} for f in found]})
    if json == "-":
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(facts["name"]), title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for label, text in _in_words(facts):
        table.add_row(label, Text(text))
    if found:
        title = f"if removed (predicted for {machine}, batch {batch})"
        table.add_row(title, Text(forecasts.in_words(found)))
    console.print_table(table)


def describe(layout: Any) -> dict[str, Any]:
    """What was understood of a layout, as data: numbers, lists and booleans; sizes are of the files as they lie there.

    docs/loading.md says what each key holds.
    """
    from gatenorm.families import attention_weights, mlp_modules

    checkpoint, first = layout.checkpoint, layout.attention_layers[0]
    roles, weights, refusal = layout.roles, attention_weights(layout, first), layout.refusal()
    stored = ("qkv", "o") if roles.get("qkv") else ("q", "k", "v", "o")
    prefixes = tuple(p for i in layout.attention_layers for p in layout.removed_with(i))
    attention = sum(t.nbytes for t in checkpoint.specs.values() if t.name.startswith(prefixes))
    total = sum(t.nbytes for t in checkpoint.specs.values())
    by_layer = [layout.logit_scale(i) for i in range(layout.layers)] if layout.scales_by_layer else None
    return {
        "schema": SCHEMA,
        "name": checkpoint.name,
        "family": layout.model_type,
        "family_is_assumed": layout.assumed,
        "block_shape": layout.shape,
        "layers": layout.layers,
        "attention_removed_in": list(layout.edits.attention),
        "mlp_removed_in": list(layout.edits.mlp),
        "width": layout.width,
        "heads": layout.heads,
        "kv_heads": layout.kv_heads,
        "head_dim": layout.head_dim,
        "context": layout.context,
        "positions": _positions(layout),
        "norms": {"kind": layout.norms["kind"], "before": layout.norms["input"], "after": layout.norms["output"]},
        "logit_scale": layout.scale,
        "logit_scale_by_layer": by_layer,
        "softcap": layout.softcap,
        "biases": [role for role in "qkvo" if weights.bias(role) is not None],
        "normed": [role for role in "qk" if weights.gain(role) is not None],
        "weights_at": {role: layout.tensor(first, f"{roles[role]}.weight") for role in stored},
        "fused": roles.get("fused") if "qkv" in stored else None,
        "goes_with_the_attention": list(layout.block["attention"]),
        "goes_with_the_mlp": list(mlp_modules(layout.data)),
        "stored_as": sorted({t.dtype for t in checkpoint.specs.values()}),
        "files": checkpoint.files,
        "bytes": total,
        "attention_bytes": attention,
        "can_be_pruned": refusal is None,
        "why_not_pruned": refusal,
        "exports": forms_of(layout),
    }


def _positions(layout: Any) -> dict[str, Any]:
    if layout.rotary is None:
        return {"kind": "alibi" if layout.checkpoint.config.get("alibi") is True else "learned"}
    rotary = layout.rotary
    return {"kind": "rotary", "dims": rotary.dims, "base": rotary.theta, "type": rotary.kind}


# The rows of the table: what each is called, and how the facts are said; none where there is nothing to say.
_ROWS: tuple[tuple[str, Callable[[Facts], str | None]], ...] = (
    ("family", lambda f: f["family"] + (" (as told by --family)" if f["family_is_assumed"] else "")),
    ("block shape", lambda f: f["block_shape"]),
    ("layers", lambda f: str(f["layers"])),
    ("attention removed in", lambda f: _spans(f["attention_removed_in"])),
    ("mlp removed in", lambda f: _spans(f["mlp_removed_in"]) if f["mlp_removed_in"] else None),
    ("width", lambda f: str(f["width"])),
    ("heads", lambda f: f"{f['heads']} query, {f['kv_heads']} key/value, {f['head_dim']} wide"),
    ("context", lambda f: "not told" if f["context"] is None else str(f["context"])),
    ("positions", lambda f: _positions_in_words(f)),
    ("norms", lambda f: _norms_in_words(f)),
    ("logit scale", lambda f: f"{f['logit_scale']}" + (" / (layer + 1)" if f["logit_scale_by_layer"] else "")),
    ("softcap", lambda f: "none" if f["softcap"] is None else str(f["softcap"])),
    ("attention extras", lambda f: ", ".join([f"{r} bias" for r in f["biases"]] + [f"{r} norm" for r in f["normed"]])),
    ("weights at", lambda f: _weights_in_words(f)),
    ("goes with the attention", lambda f: ", ".join(f["goes_with_the_attention"])),
    ("goes with the mlp", lambda f: ", ".join(f["goes_with_the_mlp"])),
    ("stored as", lambda f: ", ".join(f["stored_as"])),
    ("size", lambda f: f"{console.bytes_for_people(f['bytes'])} in {len(f['files'])} file(s)"),
    ("attention share of bytes", lambda f: f"{f['attention_bytes'] / f['bytes']:.1%}"),
    ("can be pruned", lambda f: "yes" if f["can_be_pruned"] else f"no: {f['why_not_pruned']}"),
)


def _in_words(facts: Facts) -> list[tuple[str, str]]:
    said = [(label, words(facts)) for label, words in _ROWS]
    rows = [(label, text or "none") for label, text in said if text is not None]
    for form in facts["exports"]:
        can = f"yes, for {', '.join(form['engines'])}" if form["can"] else f"no: {'; '.join(form['why_not'])}"
        rows.append((f"can be exported as {form['to']}", can))
    return rows


def _spans(layers: list[int]) -> str:
    from gatenorm.records import spans

    return spans(layers)


def _positions_in_words(facts: Facts) -> str:
    known = facts["positions"]
    if known["kind"] != "rotary":
        return {"alibi": "ALiBi", "learned": "learned (not rotary)"}[known["kind"]]
    return f"rotary, {known['dims']} of {facts['head_dim']} dimensions, base {known['base']:g}, type {known['type']}"


def _norms_in_words(facts: Facts) -> str:
    norms = facts["norms"]
    kind = {"rms": "RMSNorm", "layer": "LayerNorm"}[norms["kind"]]
    return f"{kind}; before the attention: {norms['before'] or 'none'}, after it: {norms['after'] or 'none'}"


def _weights_in_words(facts: Facts) -> str:
    how = {"qkv": f" ({facts['fused']})"}
    return ", ".join(f"{role}: {name}{how.get(role, '')}" for role, name in facts["weights_at"].items())

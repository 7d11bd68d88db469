"""``gatenorm inspect``: what was understood of a model."""

from __future__ import annotations

from typing import Any

from gatenorm.cli import console, forecasts, options

NAME = "inspect"
EXAMPLE = "Example: gatenorm inspect ./llama --machine rtx-4090"


def command(
    model: options.Model,
    family: options.Family = None,
    json: options.Json = None,
    machine: forecasts.Machine = "h100-sxm",
    context: forecasts.Context = None,
    batch: forecasts.Batch = 1,
) -> None:
    """Show what was understood of MODEL: its family, block shape, heads, where its attention lies, what it costs."""
    from gatenorm.api import open_model
    from gatenorm.benchmark.counts import Architecture

    console.check_json(json)

    layout = open_model(model, family, fetch=False)
    facts = describe(layout)
    # Files may hold attention alone, of which nothing can be predicted.
    found = forecasts.predictions(layout, machine, context, batch) if Architecture.of(layout).runs else []
    if json:
        console.write_json(json, facts | {"predictions": [{"machine": machine, **f.to_json()} for f in found]})
    if json == "-":
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(layout.checkpoint.name), title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for key, value in facts.items():
        table.add_row(key.replace("_", " "), Text(str(value)))
    if found:
        title = f"if removed (predicted for {machine}, batch {batch})"
        table.add_row(title, Text(forecasts.in_words(found)))
    console.print_table(table)


def describe(layout: Any) -> dict[str, Any]:
    """The facts of a layout, JSON-ready; sizes are of the files as they lie there."""
    from gatenorm.families import mlp_modules
    from gatenorm.records import spans
    from gatenorm.runtimes.targets import TARGETS

    checkpoint = layout.checkpoint
    layer = layout.attention_layers[0]
    roles = layout.roles
    stored = {role: f"{roles[role]}.weight" for role in ("qkv", "q", "k", "v", "o") if roles.get(role)}
    if "qkv" in stored:
        stored = {"qkv": f"{stored['qkv']} ({roles['fused']})", "o": stored["o"]}
    prefixes = tuple(p for i in layout.attention_layers for p in layout.removed_with(i))
    attention = sum(t.nbytes for t in checkpoint if t.name.startswith(prefixes))
    total = sum(t.nbytes for t in checkpoint)
    refusal = layout.refusal()
    weights = layout.attention(layer)
    extras = [f"{role} bias" for role in "qkvo" if weights.bias(role) is not None]
    extras += [f"{n} norm" for n in ("q", "k") if weights.gain(n) is not None]
    return {
        "family": layout.model_type + (" (as told by --family)" if layout.assumed else ""),
        "block_shape": layout.shape,
        "layers": layout.layers,
        "attention_removed_in": spans(layout.drop),
        **({"mlp_removed_in": spans(layout.drop_mlp)} if layout.drop_mlp else {}),
        "width": layout.width,
        "heads": f"{layout.heads} query, {layout.kv_heads} key/value, {layout.head_dim} wide",
        "context": layout.context,
        "positions": _positions(layout),
        "norms": _norms(layout),
        "logit_scale": layout.scale,
        "softcap": layout.softcap,
        "attention_extras": ", ".join(extras) or "none",
        "weights_at": ", ".join(f"{role}: {layout.tensor(layer, name)}" for role, name in stored.items()),
        "goes_with_the_attention": ", ".join(layout.block["attention"]),
        "goes_with_the_mlp": ", ".join(mlp_modules(layout.data)),
        "stored_as": ", ".join(sorted({t.dtype for t in checkpoint})),
        "size": f"{console.bytes_for_people(total)} in {len(checkpoint.files)} file(s)",
        "attention_share_of_bytes": f"{attention / total:.1%}",
        "can_be_pruned": f"no: {refusal}" if refusal else "yes",
        **{f"can_be_exported_as_{target.name}": _exportable(target, layout) for target in TARGETS.values()},
    }


def _exportable(target: Any, layout: Any) -> str:
    reasons = target.obstacles(layout)
    return f"no: {'; '.join(reasons)}" if reasons else f"yes, for {', '.join(target.engines)}"


def _positions(layout: Any) -> str:
    if layout.rotary is None:
        alibi = layout.checkpoint.config.get("alibi") is True
        return "ALiBi" if alibi else "learned (not rotary)"
    rotary = layout.rotary
    return f"rotary, {rotary.dims} of {layout.head_dim} dimensions, base {rotary.theta:g}, type {rotary.kind}"


def _norms(layout: Any) -> str:
    kind = {"rms": "RMSNorm", "layer": "LayerNorm"}[layout.norms["kind"]]
    before, after = layout.norms["input"] or "none", layout.norms["output"] or "none"
    return f"{kind}; before the attention: {before}, after it: {after}"

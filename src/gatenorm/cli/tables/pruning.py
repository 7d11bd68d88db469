"""What was pruned, in words."""

import shlex
from collections.abc import Iterator

from gatenorm.api import Pruned
from gatenorm.checkpoint import GGUF, TRANSFORMERS
from gatenorm.cli import console
from gatenorm.cli.tables.scores import show_cross_check
from gatenorm.families import Layout
from gatenorm.models.named import language_of
from gatenorm.records import ATTENTION, Plan, spans
from gatenorm.records.fit import FitRecord
from gatenorm.records.numbers import quantity
from gatenorm.records.rankings import CrossCheck
from gatenorm.speed.predict.cost_model import Forecast
from gatenorm.surgery.operation import participles


def show(
    layout: Layout,
    plan: Plan,
    pruned: Pruned | None,
    predicted: Forecast | None,
    machine: str | None,
    checked: CrossCheck | None,
    model: str,
) -> None:
    """What is gone, what that saves, and where other criteria disagree.

    Args:
        pruned: ``None`` where nothing was written.
        predicted: ``None`` where the files hold no whole model.
        machine: the one that the removal was chosen for, if it was chosen by the cost model: its times are shown.
    """
    console.say(("" if pruned else "dry run: ") + _removed(layout, plan))
    if plan.fit is not None:
        for line in fit_lines(plan.fit):
            console.say(line)
    size = "nothing was written"
    if pruned:
        less = 1 - pruned.bytes / pruned.source_bytes
        size = f"{pruned.out}: {console.bytes_for_people(pruned.bytes)}, {less:.1%} less than the source"
    console.say(f"{size}; its key/value cache {_cache(plan, predicted)}")
    if predicted is not None and machine is not None:
        console.say(
            f"predicted by the cost model on {machine}, {predicted.context:,} tokens, batch {predicted.batch}: prefill "
            f"{predicted.prefill:.2f}x, decode {predicted.decode:.2f}x, "
            f"cache {console.bytes_for_people(predicted.cache_bytes)}"
        )
    if checked:
        show_cross_check(checked)
    if pruned:
        form = layout.checkpoint.form
        text = () if language_of(layout.checkpoint) and form == TRANSFORMERS else ("--data", "generic")
        command = shlex.join(("gatenorm", "eval", pruned.out, "--baseline", model, *text))
        console.say_whole(f"What it costs in quality: {command}")
        if form == GGUF:
            command = shlex.join(("gatenorm", "verify", pruned.out, "--against", model))
            console.say_whole(f"Does llama.cpp compute the same? {command}")
            console.say_whole(f"Serve it: {shlex.join(('llama-server', '-m', pruned.out))}")


def _cache(plan: Plan, predicted: Forecast | None) -> str:
    """What becomes of the key/value cache."""
    if not plan.added.attention:
        return "is as large as before"
    if predicted is None:  # no whole model, of whose layers the shapes are known
        return f"is that of {quantity(len(plan.added.attention), 'layer')} fewer"
    return f"is {predicted.cache:.1%} smaller at {predicted.context:,} tokens"


def fit_lines(fit: FitRecord) -> Iterator[str]:
    """What was fitted, on what, and how far predictions move with it and with plain removal."""
    compared = "predictions move by (mean KL divergence from the unedited model, nats a token):"
    compared = compared if fit.divergences else "layer by layer: no predictions were compared"
    yield f"fitted on {fit.fitted_on}; {compared}"
    kept = any(one.kept for one in fit.edits)
    for one in fit.divergences:
        fitted = f"{one.replaced:.4f} with what was fitted, " if kept else ""
        yield f"  {fit.judged_on[one.source]}: {fitted}{one.removed:.4f} with plain removal"
    for scale in sorted({one.scale for one in fit.edits if one.kept} - {1.0}, reverse=True):
        layers = spans(one.layer for one in fit.edits if one.kept and one.scale == scale)
        yield f"  layers {layers}: the fitted update is multiplied by {scale:g}, as it did more damage than removal"
    removed = spans(one.layer for one in fit.edits if not one.kept)
    if removed != "none":
        yield f"  layers {removed}: removed plainly, as what was fitted did no better than removal"


def _removed(layout: Layout, plan: Plan) -> str:
    """What the plan takes out, and what is gone in all where something was before."""
    before, done = len(layout.removable(ATTENTION)), participles(plan.added)
    if not plan.edits.mlp:
        in_all, new = f" (in all: {spans(plan.edits.attention)})" if plan.previous else "", plan.added.attention
        return f"attention {done} in {len(new)} of {before} layers: {spans(new)}{in_all}"
    mlps = len(layout.mlp_layers)
    return (
        f"{plan.added} {done}: {len(plan.added.attention)} of {before} attention sublayers, {len(plan.added.mlp)} of "
        f"{mlps} MLP sublayers" + (f" (in all: {plan.edits})" if plan.previous else "")
    )

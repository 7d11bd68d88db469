"""``gatenorm prune``: write the checkpoint without some of its sublayers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gatenorm.cli import console, forecasts, options
from gatenorm.errors import PlanError
from gatenorm.records import to_json

NAME = "prune"
EXAMPLE = "Example: gatenorm prune ./llama --layers 8 -o ./llama-8"


# How many or which go: one of them, though the two targets can be met together.
_WAYS = (("layers",), ("share",), ("drop",), ("plan",), ("target_speedup", "max_cache_gb"))
_TARGETS = ("--target-speedup", "--max-cache-gb")
# What the model is run with, by whatever criterion.
_RUN = ("samples", "length", "documents", "batch_size", "dtype")
_SCORING = ("criterion", "calibration", *_RUN, "seed", "device")
_FORECAST = ("machine", "context", "batch")


def command(
    given: typer.Context,
    model: options.Model,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="The new directory; must not exist yet.")],
    layers: Annotated[int | None, typer.Option("--layers", help="How many of the weakest to remove.")] = None,
    share: Annotated[
        str | None,
        typer.Option("--share", metavar="0.2|20%", help="The same as a share of them all; at least one."),
    ] = None,
    drop: Annotated[
        str | None, typer.Option("--drop", metavar="20,21", help="Exactly these layers, by original number from 0.")
    ] = None,
    plan: Annotated[Path | None, typer.Option("--plan", metavar="FILE", help="As this plan.json says.")] = None,
    criterion: options.Criterion = "gate-norm",
    kind: Annotated[
        str, typer.Option("--kind", metavar="KIND", help="What goes of a layer: attention, mlp, or block for both.")
    ] = "attention",
    protect: Annotated[
        str | None, typer.Option("--protect", metavar="0,1", help="Layers of which nothing of that kind must go.")
    ] = None,
    family: options.Family = None,
    json: options.Json = None,
    seed: options.Seed = 0,
    target_speedup: Annotated[
        str | None,
        typer.Option(
            "--target-speedup",
            metavar="1.2",
            help="As few as the cost model says are enough; prefill=1.2 or decode=1.2 speak of one of the two.",
        ),
    ] = None,
    max_cache_gb: Annotated[
        float | None, typer.Option("--max-cache-gb", help="As few as bring the key/value cache below this size.")
    ] = None,
    machine: forecasts.Machine = "h100-sxm",
    context: forecasts.Context = None,
    batch: forecasts.Batch = 1,
    calibration: options.Calibration = None,
    samples: options.Samples = 32,
    length: options.Length = 256,
    documents: options.Documents = None,
    device: options.Device = "cpu",
    dtype: options.Dtype = "auto",
    batch_size: options.BatchSize = None,
    cross_check: options.CrossCheck = False,
) -> None:
    """Write MODEL without some of its attention sublayers, MLPs or blocks: a checkpoint that transformers loads."""
    from gatenorm import api
    from gatenorm.files import check_apart, check_new_directory
    from gatenorm.surgery.disk import write_pruned
    from gatenorm.surgery.planning import check_kind

    console.check_json(json)
    _check_choice(given)
    check_new_directory(out)
    check_kind(kind)
    wanted_share = options.share(share)
    if drop is None and plan is None:
        options.ranked(criterion, kind)
    if cross_check:
        options.check_cross_check(kind)
    tokens = options.tokens(calibration, samples, length, documents, seed, batch_size)
    runs = options.runs_the_model(criterion, tokens, given=calibration is not None)
    if not (runs or cross_check):
        _leave_out(given, _RUN, f"a criterion that runs the model or --cross-check, and {criterion} reads weights")
    layout = api.open_model(model, family)
    check_apart(out, layout.checkpoint.directory)
    protected = options.indices(protect, "--protect")
    predicted = None
    if target_speedup is not None or max_cache_gb is not None:
        layers, predicted = forecasts.count_for(
            layout,
            target=target_speedup,
            max_cache_gb=max_cache_gb,
            machine=machine,
            context=context,
            batch=batch,
            protect=protected,
            kind=kind,
        )
    session = None
    if runs or cross_check:
        console.quiet_transformers()
        session = api.session(layout, device=device, dtype=dtype)
    with console.progress_bar(f"scoring by {criterion}", "steps") as progress:
        made = api.plan(
            session if runs and session else layout,
            layers=layers,
            share=wanted_share,
            drop=None if drop is None else options.indices(drop, "--drop"),
            file=plan,
            criterion=criterion,
            protect=protected,
            kind=kind,
            seed=seed,
            calibration=tokens if runs else None,
            progress=progress,
        )
    checked = None
    if cross_check and session and made.scores:
        with console.progress_bar("cross-check", "tokens") as progress:
            checked = api.cross_check(
                session,
                made.scores,
                len(made.added.attention),
                protect=made.protect,
                calibration=tokens,
                progress=progress,
            )
    with console.progress_bar("writing", "bytes") as progress:
        written = write_pruned(layout, made, out, progress)
    for name in written.left_out:
        console.warn(f"{name} is a link out of the checkpoint and was left out: copy it yourself if it belongs there")
    if json:
        console.write_json(json, to_json(made) | ({"cross_check": to_json(checked)} if checked else {}))
    if json == "-":
        return
    before = sum(layout.checkpoint.files.values())
    console.say(_removed(layout, made))
    cache = f"its key/value cache is {len(made.added.attention) / len(layout.attention_layers):.1%} smaller"
    console.say(
        f"{out}: {console.bytes_for_people(written.nbytes)}, {1 - written.nbytes / before:.1%} less than the source; "
        + (cache if made.added.attention else "its key/value cache is as large as before")
    )
    if predicted:
        console.say(predicted)
    if checked:
        console.show_cross_check(checked)
    console.say(f"What it costs in quality: gatenorm eval {out} --baseline {model} --data YOUR_TEXT")


def _check_choice(given: typer.Context) -> None:
    """Refuse more or fewer than one way of choosing, and options that the one asked for has no use for.

    Raises:
        PlanError: as said.
    """
    ways = [names for names in (options.typed(given, way) for way in _WAYS) if names]
    targets = " or ".join(_TARGETS)
    if len(ways) != 1:
        asked = ", ".join(name for names in ways for name in names) or "none"
        raise PlanError(f"say once what to remove: --layers, --share, --drop, --plan, {targets}; given: {asked}")
    [[first, *_]] = ways
    if first in ("--drop", "--plan"):
        _leave_out(
            given,
            (*_SCORING, "cross_check"),
            f"a choice by scores, and {first} names the layers",
            "give --layers or --share",
        )
    if first == "--plan":
        _leave_out(given, ("kind",), "a choice made now, and --plan says what goes")
    if first not in _TARGETS:
        _leave_out(given, _FORECAST, f"a choice by {targets}")


def _leave_out(given: typer.Context, names: tuple[str, ...], about: str, instead: str | None = None) -> None:
    useless = options.typed(given, names)
    if useless:
        verb = "is" if len(useless) == 1 else "are"
        otherwise = f", or {instead}" if instead else ""
        them = "it" if verb == "is" else "them"
        raise PlanError(f"{', '.join(useless)} {verb} about {about}: leave {them} out{otherwise}")


def _removed(layout: Any, plan: Any) -> str:
    """What the plan takes out, and what is gone in all where something was before."""
    from gatenorm.records import spans

    before = len(layout.attention_layers)
    if not plan.edits.mlp:
        in_all, new = f" (in all: {spans(plan.edits.attention)})" if plan.previous else "", plan.added.attention
        return f"removed the attention of {len(new)} of {before} layers: {spans(new)}{in_all}"
    mlps = len(layout.mlp_layers)
    return (
        f"removed {plan.added}: {len(plan.added.attention)} of {before} attention sublayers, {len(plan.added.mlp)} of "
        f"{mlps} MLP sublayers" + (f" (in all: {plan.edits})" if plan.previous else "")
    )

"""``gatenorm verify``: does an engine compute from an export what the pruned checkpoint computes?"""

import typer

from gatenorm.cli import console
from gatenorm.cli.options import common, export

NAME = "verify"
EXAMPLE = "Example: gatenorm verify ./llama-8.gguf --against ./llama-8"
# What a shell takes for "no": the engine and the reference differ.
DIFFERENT = 1


def command(
    *,
    exported: export.Exported,
    against: export.Against,
    engine: export.Engine,
    tokens: export.Tokens,
    tolerance: export.Tolerance,
    seed: export.PromptSeed,
    family: common.Family,
    json: common.Json,
) -> None:
    """Run the same prompts through an engine and the reference; exit status 1 when they differ."""
    from gatenorm import api
    from gatenorm.cli.tables.exports import show_verification

    console.quiet_transformers()
    layout = api.open_model(against, family)
    if layout.assumption:
        console.warn(layout.assumption)
    verification = api.verify(
        exported, layout, engine, tokens=tokens, tolerance=tolerance, seed=seed, bars=console.progress_bar
    )
    console.deliver(json, verification, lambda: show_verification(verification, exported, layout))
    if verification.faults:
        raise typer.Exit(DIFFERENT)

"""``gatenorm verify``: does an engine compute from an export what the pruned checkpoint computes?"""

from __future__ import annotations

from collections.abc import Mapping

import typer

from gatenorm.cli import console
from gatenorm.cli.options import common, export
from gatenorm.records import to_json

NAME = "verify"
EXAMPLE = "Example: gatenorm verify ./llama-8.gguf --against ./llama-8"
# What a shell takes for "no": the engine and the reference differ.
DIFFERENT = 1
_JUDGED = {"largest_difference": "largest difference", "mean_kl": "mean KL divergence"}


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
    from gatenorm.api import open_model
    from gatenorm.exports.verify.verify import verify

    console.check_json(json)
    console.quiet_transformers()
    layout = open_model(against, family)
    with console.progress_bar("prompts", "prompts") as progress:
        verdict = verify(exported, layout, engine, tokens=tokens, tolerance=tolerance, seed=seed, progress=progress)
    evidence = verdict.evidence
    if json:
        console.write_json(json, to_json(evidence) | {"faults": list(verdict.faults)})
    if json != "-":
        figures, protocol = evidence.figures, evidence.protocol
        console.say(
            f"{exported} in {protocol['engine']} against {evidence.model.name}: "
            f"log-probabilities differ by at most {figures['largest_difference']:.2g} nats, "
            f"mean KL divergence {figures['mean_kl']:.2g}, over {figures['tokens']:.0f} tokens"
        )
        console.say(f"judged by the {_JUDGED[protocol['judged_by']]}: at most {protocol['tolerance']:g}")
        console.say(
            f"greedy choices: {figures['other_choices']:.0f} that are not the reference's"
            f" ({figures['near_ties']:.0f} near ties)"
        )
        if protocol["form"] == "gguf":
            console.say(_tensors(figures))
        if "texts" in figures:
            same = figures["texts"] - figures["texts_cut_differently"]
            console.say(f"tokenizer: {same:.0f} of {figures['texts']:.0f} texts cut as the reference cuts them")
        else:
            console.say("tokenizer: not compared, since the engine or the reference has none")
        attentions = len(layout.attention_layers)
        if "cached_layers" in figures:
            console.say(
                f"cache: keys and values for {figures['cached_layers']:.0f} layers; "
                f"{attentions} of {layout.layers} layers kept their attention"
            )
        else:
            console.say("cache: this engine does not tell how many layers it keeps keys and values for")
        for fault in verdict.faults:
            console.warn(fault)
        console.say("DIFFERENT" if verdict.faults else "the same")
    if verdict.faults:
        raise typer.Exit(DIFFERENT)


def _tensors(figures: Mapping[str, float]) -> str:
    """What a file's tensors were found to be."""
    if "tensors" not in figures:
        return "tensors: not compared one by one, since the file is of another architecture than export writes"
    errors = {key.removeprefix("row_error_"): error for key, error in figures.items() if key.startswith("row_error_")}
    by_type = ", ".join(f"{kind} {error:.2g}" for kind, error in sorted(errors.items()))
    return (
        f"tensors: {figures['wrong_tensors']:.0f} of {figures['tensors']:.0f} are not the source's; "
        f"largest error of a row, relative to it: {by_type}"
    )

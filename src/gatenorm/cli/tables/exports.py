"""Exports and their verification in words."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from gatenorm.api.inspecting import Form
from gatenorm.cli import console
from gatenorm.cli.tables import table
from gatenorm.exports.registry import Exported
from gatenorm.exports.verify.verify import Verdict
from gatenorm.families import Layout

_JUDGED = {"largest_difference": "largest difference", "mean_kl": "mean KL divergence"}


def show_forms(forms: Sequence[Form], model: str) -> None:
    """The forms that a model can be exported in, with the reasons where it cannot."""
    rows = table(f"export forms of {model}", "form", "engines", "", "why not, or what to know")
    for form in forms:
        remarks = "\n".join(form.why_not or form.notes)
        rows.add_row(form.to, ", ".join(form.engines), "yes" if form.can else "no", remarks)
    console.print_table(rows)


def show_export(exported: Exported, engines: Sequence[str], out: Path, model: str) -> None:
    """What was written, and how to verify it."""
    console.say(f"{out}: {console.bytes_for_people(exported.nbytes)}, for {', '.join(engines)}")
    console.say_each("note", exported.notes)
    console.say(f"Does it compute the same? gatenorm verify {shlex.quote(str(out))} --against {shlex.quote(model)}")


def show_verdict(verdict: Verdict, exported: Path, layout: Layout) -> None:
    """How an engine's answers differ from the reference's."""
    evidence = verdict.evidence
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
        console.say(f"tensors: {_tensors(figures)}")
    if "texts" in figures:
        same = figures["texts"] - figures["texts_cut_differently"]
        console.say(f"tokenizer: {same:.0f} of {figures['texts']:.0f} texts cut as the reference cuts them")
    else:
        console.say("tokenizer: not compared, since the engine or the reference has none")
    if "cached_layers" in figures:
        console.say(
            f"cache: keys and values for {figures['cached_layers']:.0f} layers; "
            f"{len(layout.attention_layers)} of {layout.layers} layers kept their attention"
        )
    else:
        console.say("cache: this engine does not report how many layers it keeps keys and values for")
    for fault in verdict.faults:
        console.warn(fault)
    console.say("DIFFERENT" if verdict.faults else "the same")


def _tensors(figures: Mapping[str, float]) -> str:
    if "tensors" not in figures:
        return "not compared one by one, since the file is of another architecture than export writes"
    errors = {key.removeprefix("row_error_"): error for key, error in figures.items() if key.startswith("row_error_")}
    by_type = ", ".join(f"{kind} {error:.2g}" for kind, error in sorted(errors.items()))
    return (
        f"{figures['wrong_tensors']:.0f} of {figures['tensors']:.0f} are not the source's; "
        f"largest error of a row, relative to it: {by_type}"
    )

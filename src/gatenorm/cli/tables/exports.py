"""Exports and their verification in words."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from gatenorm.api.inspecting import Form
from gatenorm.cli import console
from gatenorm.cli.tables import table
from gatenorm.exports.registry import Exported
from gatenorm.families import Layout
from gatenorm.records.evidence import Verification

_JUDGED = {"largest_difference": "largest difference", "mean_kl": "mean KL divergence"}


def show_forms(forms: Sequence[Form], model: str) -> None:
    """The forms that a model can be exported in, with the reasons where it cannot."""
    rows = table(f"export forms of {model}", "form", "engines", "", "why not, or what to know")
    for form in forms:
        remarks = "\n".join(form.why_not or form.notes)
        rows.add_row(form.to, ", ".join(form.engines), "yes" if form.can else "no", remarks)
    console.print_table(rows)


def show_export(exported: Exported, out: Path, model: str) -> None:
    """What was written, and how to verify it."""
    console.say(f"{out}: {console.bytes_for_people(exported.nbytes)}, for {', '.join(exported.engines)}")
    console.say_each("note", exported.notes)
    console.say_whole(
        f"Does it compute the same? gatenorm verify {shlex.quote(str(out))} --against {shlex.quote(model)}"
    )


def show_verification(found: Verification, exported: Path, layout: Layout) -> None:
    """How an engine's answers differ from the reference's."""
    protocol = found.protocol
    console.say(
        f"{exported} in {protocol.engine} against {found.model.name}: "
        f"log-probabilities differ by at most {found.largest_difference:.2g} nats, "
        f"mean KL divergence {found.mean_kl:.2g}, over {found.tokens} tokens"
    )
    console.say(f"judged by the {_JUDGED[protocol.judged_by]}: at most {protocol.tolerance:g}")
    console.say(f"greedy choices: {found.other_choices} that are not the reference's ({found.near_ties} near ties)")
    if protocol.form == "gguf":
        console.say(_tensors(found))
    if found.texts is not None and found.texts_cut_differently is not None:
        same = found.texts - found.texts_cut_differently
        console.say(f"tokenizer: {same} of {found.texts} texts cut as the reference cuts them")
    else:
        console.say("tokenizer: not compared, since the engine or the reference has none")
    if found.cached_layers is not None:
        console.say(
            f"cache: keys and values for {found.cached_layers} layers; "
            f"{layout.layers - len(found.edits.attention)} of {layout.layers} layers kept their attention"
        )
    else:
        console.say("cache: this engine does not tell how many layers it keeps keys and values for")
    for fault in found.faults:
        console.warn(fault)
    console.say("DIFFERENT" if found.faults else "the same")


def _tensors(found: Verification) -> str:
    """What a file's tensors were found to be."""
    if found.tensors is None:
        return "tensors: not compared one by one, since the file is of another architecture than export writes"
    by_type = ", ".join(f"{kind} {error:.2g}" for kind, error in sorted(found.row_errors.items()))
    return (
        f"tensors: {found.wrong_tensors} of {found.tensors} are not the source's; "
        f"largest error of a row, relative to it: {by_type}"
    )

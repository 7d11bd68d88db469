"""Exports and their verification in words."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from gatenorm.api.inspecting import Form
from gatenorm.cli import console
from gatenorm.cli.tables import table
from gatenorm.families import Layout
from gatenorm.records import Written
from gatenorm.records.evidence import Verification

_JUDGED = {"largest_difference": "largest difference", "mean_kl": "mean KL divergence"}


def show_forms(forms: Sequence[Form], model: str) -> None:
    """The forms that a model can be exported in, with the reasons where it cannot."""
    rows = table(f"export forms of {model}", "form", "engines", "", "why not, or what to know")
    for form in forms:
        remarks = "\n".join(form.why_not or form.notes)
        rows.add_row(form.to, ", ".join(form.engines), "yes" if form.can else "no", remarks)
    console.print_table(rows)


def show_export(exported: Written, model: str) -> None:
    """What was written, and how to verify it."""
    console.say(f"{exported.out}: {console.bytes_for_people(exported.bytes)}, for {', '.join(exported.engines)}")
    console.say_each("note", (*exported.notes, *(f"left out: {what}" for what in exported.left_out)))
    console.say_whole(
        f"Does it compute the same? {shlex.join(('gatenorm', 'verify', exported.out, '--against', model))}"
    )


def show_verification(verification: Verification, exported: Path, layout: Layout) -> None:
    """How an engine's answers differ from the reference's."""
    protocol = verification.protocol
    console.say(
        f"{exported} in {protocol.engine} against {verification.model.name}: "
        f"log-probabilities differ by at most {verification.largest_difference:.2g} nats, "
        f"mean KL divergence {verification.mean_kl:.2g}, over {verification.tokens} tokens"
    )
    console.say(f"judged by the {_JUDGED[protocol.judged_by]}: at most {protocol.tolerance:g}")
    other, ties = verification.other_choices, verification.near_ties
    console.say(f"greedy choices: {other} that are not the reference's ({ties} near ties)")
    if protocol.form == "gguf":
        console.say(_tensors(verification))
    if verification.texts is not None and verification.texts_cut_differently is not None:
        same = verification.texts - verification.texts_cut_differently
        console.say(f"tokenizer: {same} of {verification.texts} texts cut as the reference cuts them")
    else:
        console.say("tokenizer: not compared, since the engine or the reference has none")
    if verification.cached_layers is not None:
        kept = len(layout.attention_layers)
        console.say(
            f"cache: keys and values for {verification.cached_layers} layers; "
            f"{kept} of {kept + len(layout.edits.attention)} layers kept their attention"
        )
    else:
        console.say("cache: this engine does not tell how many layers it keeps keys and values for")
    for fault in verification.faults:
        console.warn(fault)
    console.say("DIFFERENT" if verification.faults else "the same")
    if verification.edits and not verification.faults:
        console.say(f"The file is right. What its edits ({verification.edits}) cost in quality is not measured here.")


def _tensors(verification: Verification) -> str:
    """What a file's tensors were found to be."""
    if verification.tensors is None:
        return "tensors: not compared one by one, since the file is of another architecture than export writes"
    by_type = ", ".join(f"{kind} {error:.2g}" for kind, error in sorted(verification.row_errors.items()))
    return (
        f"tensors: {verification.wrong_tensors} of {verification.tensors} are not the source's; "
        f"largest error of a row, relative to it: {by_type}"
    )

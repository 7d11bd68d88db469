"""Surgery on disk: byte ranges are copied, memory stays flat however large the model is.

No tensor is decoded but the few that something is folded into; those that were fitted are added.
"""

import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from gatenorm.checkpoint import NewTensor, TensorStore
from gatenorm.checkpoint.code import without_code
from gatenorm.checkpoint.dtypes import WRITABLE, from_float32
from gatenorm.checkpoint.parts import repeated
from gatenorm.errors import RecordError
from gatenorm.families import Layout
from gatenorm.files import LARGE, check_apart, new_directory, write_json
from gatenorm.progress import Progress
from gatenorm.records import Edit, Edits, Plan, Written, read_json, to_json
from gatenorm.surgery.card import model_card
from gatenorm.surgery.config import MODELLING_FILE, modelling_source, pruned_config, tokenizer_config
from gatenorm.surgery.folding import folded_tensors
from gatenorm.surgery.operation import Weights, added_tensors, check_weights, is_removed, operation_records, place
from gatenorm.surgery.planning import check_plan
from gatenorm.surgery.proof import can_prove, check_loads

PLAN_FILE = "gatenorm.json"
# What a training after pruning left behind: no longer true of a checkpoint that is pruned once more.
RECOVERY_FILE = "recovery.json"
# What others found out about the source's very weights, which is not true of these.
_OF_THE_SOURCE = {"SHA256SUMS", "sha256sums.txt", "measured.json", "all_results.json", "eval_results.json"}
# What is written anew, or is no longer true.
_WRITTEN = {"config.json", "README.md", PLAN_FILE, RECOVERY_FILE, MODELLING_FILE.name}
# Names of further files that are said to be left out.
_SHOWN = 8


def write_pruned(
    layout: Layout,
    plan: Plan,
    out: Path,
    progress: Progress | None = None,
    weights: Mapping[Edit, Weights] | None = None,
) -> Written:
    """Write the checkpoint that remains when ``plan`` has been carried out, as the new directory ``out``.

    The directory appears whole or not at all: it is written under a temporary name beside it and renamed at the end.
    Tokenizer, generation settings, licence and other small files are carried over; other copies of the weights are not.

    Args:
        progress: called with (bytes written, bytes in all).
        weights: the tensors of new edits whose operation stores some; they are rounded to the type of the layer.

    Raises:
        OutputError: ``out`` exists and is not empty, lies inside the source, cannot be written, or the disk is full.
        PlanError: this model must not be pruned, or the plan is not for it.
    """
    check_plan(layout, plan)
    check_apart(out, layout.checkpoint.directory)
    config, tokenizer = pruned_config(layout, plan), tokenizer_config(layout)
    new = plan.edits - layout.edits
    check_weights(layout.width, new, weights or {})
    checkpoint, removed = layout.checkpoint, is_removed(layout, plan.edits)
    folded, proved = folded_tensors(layout, new, weights or {}), can_prove()
    kept = ((name, folded.get(name) or checkpoint.same(name)) for name in checkpoint.stored if not removed(name))
    files = checkpoint.rewritten((*kept, *_added(layout, new, weights or {})))
    with new_directory(out, files.size) as temporary:
        files.write(temporary, progress)
        carried, left_out = carry_over(checkpoint, temporary, _WRITTEN)
        write_json(temporary / "config.json", config)
        if tokenizer is not None:
            write_json(temporary / "tokenizer_config.json", tokenizer)
        write_json(temporary / PLAN_FILE, to_json(plan))
        source = modelling_source(operation_records(plan.edits, layout.width))
        (temporary / MODELLING_FILE.name).write_text(source, encoding="utf-8")
        if proved:
            check_loads(temporary, layout.data, base_only=layout.base_only)
        (temporary / "README.md").write_text(model_card(layout, plan, carried), encoding="utf-8")
    return Written(out=str(out), bytes=files.size, left_out=tuple(left_out), proved=proved)


def _added(layout: Layout, edits: Edits, weights: Mapping[Edit, Weights]) -> Iterator[tuple[str | None, NewTensor]]:
    """The tensors that operations bring, in the type of the sublayer's own."""
    for name, (edit, own, shape) in added_tensors(layout, edits).items():
        module = layout.tensor(edit.layer, place(layout.data, edit.sublayer)) + "."
        stored = [spec for name, spec in layout.checkpoint.stored.items() if name.startswith(module)]
        dtype = _float_type(layout.checkpoint, stored[0].dtype)
        data = from_float32(weights[edit][own], dtype, name).tobytes()
        yield stored[0].name, NewTensor(name, dtype, shape, (repeated(data, 1),))


def _float_type(checkpoint: TensorStore, own: str) -> str:
    """The type of new tensors beside those of type ``own``: that of the other weights where these are quantised."""
    if not checkpoint.quantised_by:
        return own
    return next((spec.dtype for spec in checkpoint.specs.values() if spec.dtype in WRITABLE), own)


def carry_over(checkpoint: TensorStore, target: Path, written: Collection[str]) -> tuple[list[str], list[str]]:
    """Copy the companion files that stay true and are not ``written`` anew, without entries that name code.

    Returns:
        Their names, and one line about each thing that was left out.

    Raises:
        CheckpointError: the checkpoint was changed since it was opened.
    """
    without = {*written, *_OF_THE_SOURCE}
    carried: list[str] = []
    left_out: list[str] = []
    for name in (name for name in checkpoint.companions if name not in without):
        obstacle = _obstacle(checkpoint, name)
        if obstacle:
            left_out.append(f"{name} {obstacle}")
            continue
        (target / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(checkpoint.directory / name, target / name)
        if name.endswith("_config.json"):
            try:
                given = read_json(target / name, name)
            except RecordError:
                (target / name).unlink()
                left_out.append(f"{name} is no JSON object within the limits, so nobody knows what code it names")
                continue
            if without_code(given) != given:
                left_out.append(f"{name} names code to run: these entries")
                write_json(target / name, without_code(given))
        carried.append(name)
    checkpoint.check_unchanged()
    others = [name for name in checkpoint.others if name not in without]
    shown = ", ".join(others[:_SHOWN]) + (f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else "")
    return carried, [*left_out, *([f"no part of the model that is written: {shown}"] if others else [])]


def _obstacle(checkpoint: TensorStore, name: str) -> str:
    """Why a companion is not carried over, if so: no loader of ours opens one that is so large."""
    if not checkpoint.is_own(name):
        return "is a link out of the checkpoint"
    return f"is larger than {LARGE:,} bytes" if (checkpoint.directory / name).stat().st_size > LARGE else ""

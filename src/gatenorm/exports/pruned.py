"""A pruned model in the form that its source has: a directory of a directory, one file of one file."""

from collections.abc import Mapping
from pathlib import Path

from gatenorm.errors import OutputError, PlanError
from gatenorm.exports.registry import Export, form_at
from gatenorm.families import Layout, detect_layout
from gatenorm.files import check_apart, check_new_directory, check_new_file
from gatenorm.progress import Progress
from gatenorm.records import REMOVE, Edit, Plan
from gatenorm.surgery.config import pruned_config
from gatenorm.surgery.disk import Written, write_pruned
from gatenorm.surgery.operation import Weights, is_removed
from gatenorm.surgery.planning import check_plan


def check_output(layout: Layout, out: Path) -> None:
    """Raise OutputError, before any work is done, where the pruned model cannot be written: the place is taken, lies
    inside the source, or has the name of another form than the source's.
    """
    source = layout.checkpoint.path
    is_file, ending = source.is_file(), ".gguf"
    if (out.suffix.lower() == ending) != is_file:
        problem = f"is {'no' if is_file else 'the'} name of a {ending} file"
        expected = f"a new {ending} file, as {source} is one" if is_file else "a new directory, as the model is one"
        raise OutputError("out-of-other-form", problem, field="out", given=out, expected=expected)
    (check_new_file if is_file else check_new_directory)(out)
    if not is_file:
        check_apart(out, source)


def write(
    layout: Layout,
    plan: Plan,
    out: Path,
    progress: Progress | None = None,
    weights: Mapping[Edit, Weights] | None = None,
) -> Written:
    """Write the checkpoint that remains when ``plan`` has been carried out, whole or not at all.

    Of one file every tensor is copied as it is stored, with all that the file says besides. The arguments are those of
    :func:`gatenorm.surgery.disk.write_pruned`.

    Raises:
        OutputError: as :func:`check_output`, or the form has no way to express this model without these sublayers.
        PlanError: this model must not be pruned, the plan is not for it, or a file is to hold more than it did.
    """
    check_output(layout, out)
    form = _form(layout)
    if form is None:
        return write_pruned(layout, plan, out, progress, weights)
    check_plan(layout, plan)
    added = next((edit for edit in plan.edits - layout.edits if edit.operation != REMOVE), None)
    if added is not None:
        problem = f"{layout.checkpoint.path} is one file, from which sublayers are only removed"
        hint = "convert it to a directory and prune that, or leave nothing in their place"
        raise PlanError("operation-not-for-file", problem, field="replace", given=added.operation, hint=hint)
    written = form.write(pruned_layout(layout, plan), out, progress=progress)
    return Written(written.nbytes, (), written.notes)


def pruned_layout(layout: Layout, plan: Plan) -> Layout:
    """The model that a plan leaves of ``layout``, without a file of its own: its tensors lie in the source."""
    checkpoint = layout.checkpoint.without(is_removed(layout, plan.edits))
    checkpoint.config = pruned_config(layout, plan)
    return detect_layout(checkpoint)


def _form(layout: Layout) -> Export | None:
    source = layout.checkpoint.path
    return form_at(source) if source.is_file() else None

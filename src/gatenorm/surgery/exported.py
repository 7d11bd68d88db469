"""How export forms write the operations of a model."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gatenorm.checkpoint import TensorStore
from gatenorm.families import Layout
from gatenorm.records import Edits, Sublayer, spans
from gatenorm.surgery.operation import ExportEntry, operation_named, place


@dataclass(frozen=True)
class Exported:
    """A tensor to write for an operation: the form's ``name`` within the block, and what is ``stored`` of it.

    Of two stored tensors it is the product.
    """

    name: str
    stored: tuple[str, ...]

    def shape(self, checkpoint: TensorStore) -> tuple[int, ...]:
        first, last = (checkpoint.spec(name).shape for name in (self.stored[0], self.stored[-1]))
        return first if len(self.stored) == 1 else (first[0], *last[1:])

    def product(self, checkpoint: TensorStore, rows: slice | None = None) -> npt.NDArray[np.float32]:
        """The product of two stored tensors, or a run of its rows."""
        up, down = self.stored
        return checkpoint.float32(up, rows) @ checkpoint.float32(down)


def export_entries(layout: Layout, form: str, layer: int) -> dict[Sublayer, tuple[ExportEntry, tuple[Exported, ...]]]:
    """How a form writes the operations of a layer that compute something: by sublayer the entry, and tensors."""
    found: dict[Sublayer, tuple[ExportEntry, tuple[Exported, ...]]] = {}
    for edit in layout.edits.at(layer):
        entry = operation_named(edit.operation).exports.get(form)
        if isinstance(entry, ExportEntry) and operation_named(edit.operation).update is not None:
            stored = layout.tensor(layer, place(layout.data, edit.sublayer))
            named = {(own,): name for own, name in entry.tensors.items()} | dict(entry.products)
            tensors = (Exported(name, tuple(f"{stored}.{one}" for one in own)) for own, name in named.items())
            found[edit.sublayer] = entry, tuple(tensors)
    return found


def operation_notes(layout: Layout, form: str) -> list[str]:
    """What whoever serves this model in a form should know of its operations, one line each."""
    layers: dict[str, list[int]] = {}
    for layer in layout.edits.layers:
        for entry, _ in export_entries(layout, form, layer).values():
            if entry.note:
                layers.setdefault(entry.note, []).append(layer)
    return [f"layers {spans(those)}: {note}" for note, those in layers.items()]


def engines_reading(layout: Layout, form: str, engines: tuple[str, ...]) -> tuple[str, ...]:
    """Those of a form's ``engines`` that read what this model has in the place of sublayers."""
    entries = [entry for layer in layout.edits.layers for entry, _ in export_entries(layout, form, layer).values()]
    return tuple(name for name in engines if all(name in (entry.engines or engines) for entry in entries))


def unexportable(edits: Edits, form: str) -> str | None:
    """Why a model with these edits cannot be written in an export form; ``None`` where it can.

    Every form says for itself whether it can do without a sublayer.
    """
    for edit in edits:
        operation = operation_named(edit.operation)
        if operation.update is None:
            continue
        entry = operation.exports.get(form, "the form has no way to express it")
        if isinstance(entry, str):
            return f"layer {edit.layer} has {edit.operation} in place of its {edit.sublayer}: {entry}"
    return None

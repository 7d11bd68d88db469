"""Pruned models that have operations with random tensors in the place of sublayers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from msgspec import structs

import gatenorm
from gatenorm.records import ATTENTION, Edit, Edits
from gatenorm.surgery.disk import write_pruned
from gatenorm.surgery.operation import operation_named
from gatenorm.surgery.planning import plan_by_hand


def weights_of(edits: Edits, width: int) -> dict[Edit, dict[str, np.ndarray]]:
    """Seeded tensors of these edits' operations, in float32."""
    made = np.random.default_rng(0)
    return {
        edit: {
            name: made.normal(0, 0.1, shape).astype(np.float32)
            for name, shape in operation_named(edit.operation).shapes(width).items()
        }
        for edit in edits
    }


def write_edited(source: Path, out: Path, edits: Edits) -> Path:
    """The directory that these edits make of a model."""
    layout = gatenorm.open_model(source)
    plan = structs.replace(plan_by_hand(layout, [1]), edits=edits)
    write_pruned(layout, plan, out, weights=weights_of(edits, layout.width))
    return out


def write_replaced(source: Path, out: Path, layers: Sequence[int], operation: str) -> Path:
    """The directory with an operation in the place of the attention of these layers."""
    return write_edited(source, out, Edits.of(ATTENTION, layers, operation))

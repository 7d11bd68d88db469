"""What is summed of a sublayer's inputs and updates while tokens run through: all that a least squares fit needs.

For the update ``u`` [width] that the sublayer adds to the residual stream for one token, and what it is fitted from,
``x`` [inputs]: how many tokens, and the sums of ``x``, ``u``, ``x x'``, ``u x'`` and ``<u, u>``, in float64. What
``x`` is says the operation: the normed input that the sublayer reads, [width]; for folded operations the hidden units
[inner] of the MLP that carries them; for constants it is empty.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gatenorm.calibration.passes import Observer, counted, in_float64
from gatenorm.errors import CalibrationError, named
from gatenorm.families import Layout
from gatenorm.models.forward import on_entering, on_update
from gatenorm.records import ATTENTION, MLP, Edit, Edits
from gatenorm.surgery.folding import carrier, inner_width, projection
from gatenorm.surgery.operation import operation_named

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.utils.hooks import RemovableHandle

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Sums over ``count`` tokens.

    Attributes:
        x, u: [inputs] and [width].
        xx, ux: [inputs, inputs] and [width, inputs].
        uu: a number.
    """

    count: int
    x: Float64
    u: Float64
    xx: Float64
    ux: Float64
    uu: float

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.count + other.count,
            self.x + other.x,
            self.u + other.u,
            self.xx + other.xx,
            self.ux + other.ux,
            self.uu + other.uu,
        )

    def with_intercept(self) -> Moments:
        """Those of the inputs with a 1 behind them, for which the last column of a map is its intercept."""
        return Moments(
            self.count,
            np.append(self.x, self.count),
            self.u,
            np.block([[self.xx, self.x[:, None]], [self.x, np.array(self.count)]]),
            np.column_stack([self.ux, self.u]),
            self.uu,
        )

    def unexplained(self, matrix: Float64) -> float:
        """The share of the updates that a linear map leaves: ``sum |u - A x|^2 / sum |u|^2``; removal leaves 1."""
        left = self.uu - 2 * float((matrix * self.ux).sum()) + float(((matrix @ self.xx) * matrix).sum())
        return left / self.uu

    def unexplained_by(self, value: Float64) -> float:
        """The same of a constant ``c`` [width]: ``sum |u - c|^2 / sum |u|^2``."""
        return (self.uu - 2 * float(value @ self.u) + self.count * float(value @ value)) / self.uu


def inputs(layout: Layout, edit: Edit) -> int:
    """How many numbers of a token an edit's operation is fitted from; none for a constant."""
    operation = operation_named(edit.operation)
    if operation.folded:
        return inner_width(layout, edit.layer)
    return layout.width if operation.normed else 0


# What an operation is fitted from: the layer and sublayer, and of which kind the inputs are.
ReadFrom = tuple[int, str, str]


def read_from(edit: Edit) -> ReadFrom:
    """Operations with the same have the same moments: maps of every rank, for one."""
    operation = operation_named(edit.operation)
    return edit.layer, edit.sublayer, "hidden units" if operation.folded else "normed" if operation.normed else ""


class MomentObserver(Observer):
    """Hooks that add up the moments of edited sublayers.

    The input of an attention is what its module is called with: behind the norm in front of it where there is one.
    Updates are what the branch adds, behind its output norm where it has one. Where inputs and updates of one batch
    belong to different blocks, what comes first waits: for one batch in a pass through the whole model, for all of them
    where a pass goes layer by layer.
    """

    def __init__(self, layout: Layout, edits: Edits):
        self._layout, self._edits = layout, edits
        self._attention: str = layout.block.attention[0]
        self._ends = {
            ATTENTION: layout.norms.output or self._attention,
            MLP: (layout.block.branch or [""])[-1],
        }
        self._inputs: dict[Edit, deque[torch.Tensor]] = {edit: deque() for edit in edits if inputs(layout, edit)}
        self._updates: dict[Edit, deque[torch.Tensor]] = {edit: deque() for edit in edits}
        self._sums: dict[Edit, dict[str, Any]] = {}

    @staticmethod
    def nbytes(layout: Layout, edits: Edits, sources: int) -> int:
        """Memory that a fit's sums take: two float64 matrices, ``[inputs, inputs]`` and ``[width, inputs]``, for every
        edit and source, and as many again for what is held out.
        """
        sizes = (inputs(layout, edit) for edit in edits)
        return 2 * sources * sum(8 * size * (size + layout.width) for size in sizes)

    @staticmethod
    def waiting(layout: Layout, edits: Edits, tokens: int, itemsize: int) -> int:
        """Memory that a pass layer by layer takes besides: the hidden units ``[tokens, inner]`` of all tokens wait for
        the block behind theirs, those of one folded edit at a time.
        """
        apart = (e for e in edits if operation_named(e.operation).folded and carrier(layout.data, e.layer) != e.layer)
        return max((tokens * inner_width(layout, edit.layer) * itemsize for edit in apart), default=0)

    def hooks(self, blocks: Sequence[nn.Module]) -> Iterator[RemovableHandle]:
        """Register what observes; ``blocks`` are all of the model's, in their physical order."""
        for edit in self._edits:
            if edit in self._inputs:
                yield on_entering(self._read_by(edit, blocks), partial(self._see, self._inputs, edit))
            beside = self._layout.block.beside if edit.sublayer == MLP else ()
            see = partial(self._see, self._updates, edit)
            yield from on_update(blocks[edit.layer], self._ends[edit.sublayer], beside, see)

    def _read_by(self, edit: Edit, blocks: Sequence[nn.Module]) -> nn.Module:
        """The module whose input an edit is fitted from."""
        if not operation_named(edit.operation).folded:
            return blocks[edit.layer].get_submodule(self._attention)
        data = self._layout.data
        return blocks[carrier(data, edit.layer)].get_submodule(projection(data))

    def _see(self, waiting: Mapping[Edit, deque[torch.Tensor]], edit: Edit, values: torch.Tensor) -> None:
        waiting[edit].append(counted(values, self._counts))
        self._add(edit)

    def _add(self, edit: Edit) -> None:
        """Sum the oldest batch of an edit, once both its inputs and its updates are there."""
        inputs, updates = self._inputs.get(edit), self._updates[edit]
        if not updates or (inputs is not None and not inputs):
            return
        update = in_float64(updates.popleft())
        sums = {"count": len(update), "u": update.sum(0), "uu": update.square().sum()}
        if inputs is not None:
            x = in_float64(inputs.popleft()).to(update.device)
            sums |= {"x": x.sum(0), "xx": x.T @ x, "ux": update.T @ x}
        kept = self._sums.setdefault(edit, {})
        for name, value in sums.items():
            kept[name] = kept[name] + value if name in kept else value

    def moments(self) -> Mapping[Edit, Moments]:
        """What was summed, by edit.

        Raises:
            CalibrationError: it is not finite.
        """
        found = {}
        for edit, sums in self._sums.items():
            arrays = {n: v.cpu().double().numpy() for n, v in sums.items() if n != "count"}
            if not all(np.isfinite(array).all() for array in arrays.values()):
                raise CalibrationError(
                    "moments-not-finite",
                    f"the {edit.sublayer} of layer {edit.layer} gives values that are not finite",
                    hint=f"try {named('dtype')} float32",
                )
            found[edit] = Moments(
                count=sums["count"],
                x=arrays.get("x", np.zeros(0)),
                u=arrays["u"],
                xx=arrays.get("xx", np.zeros((0, 0))),
                ux=arrays.get("ux", np.zeros((self._layout.width, 0))),
                uu=float(arrays["uu"]),
            )
        return found

"""What is summed of a sublayer's inputs and updates while tokens run through: all that a least squares fit needs.

For the normed input ``x`` that the sublayer reads and the update ``u`` that it adds to the residual stream, both
``[width]`` for one token: how many tokens, and the sums of ``x``, ``u``, ``x x'``, ``u x'`` and ``<u, u>``, in float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gatenorm.errors import CalibrationError, named
from gatenorm.families import Layout
from gatenorm.records import ATTENTION, Edit, Edits

if TYPE_CHECKING:
    import torch
    from torch import nn

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Sums over ``count`` tokens: ``x`` and ``u`` [width], ``xx`` and ``ux`` [width, width], and ``uu``."""

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

    def unexplained(self, matrix: Float64) -> float:
        """The share of the updates that a linear map leaves: ``sum |u - A x|^2 / sum |u|^2``; removal leaves 1."""
        left = self.uu - 2 * float((matrix * self.ux).sum()) + float(((matrix @ self.xx) * matrix).sum())
        return left / self.uu

    def unexplained_by(self, value: Float64) -> float:
        """The same of a constant ``c`` [width]: ``sum |u - c|^2 / sum |u|^2``."""
        return (self.uu - 2 * float(value @ self.u) + self.count * float(value @ value)) / self.uu


class MomentObserver:
    """Hooks that add up the moments of edited sublayers.

    Of attentions the input is what the attention module is called with: behind the norm in front of it where there is
    one. The update is what the branch adds, behind its output norm where it has one. Of MLPs only updates are summed.
    """

    _counts: torch.Tensor

    def __init__(self, layout: Layout, edits: Edits):
        self._edits = edits
        self._width = layout.width
        self._attention: str = layout.block["attention"][0]
        self._attention_end: str = layout.norms.get("output") or self._attention
        self._mlp_end: str = layout.block["branch"][-1]
        self._inputs: dict[Edit, torch.Tensor] = {}
        self._sums: dict[Edit, dict[str, Any]] = {}

    @staticmethod
    def nbytes(layout: Layout, edits: Edits, sources: int) -> int:
        """Memory that a fit's sums take: two float64 matrices ``[width, width]`` for every attention and source, and as
        many again for what is held out.
        """
        return 2 * sources * 16 * layout.width**2 * len(edits.attention)

    @contextmanager
    def on(self, blocks: Sequence[nn.Module]) -> Iterator[None]:
        """Observe while the block runs; ``blocks`` are all of the model's, in their physical order."""
        handles = []
        for edit in self._edits:
            block = blocks[edit.layer]
            if edit.sublayer == ATTENTION:
                attention = block.get_submodule(self._attention)
                handles.append(attention.register_forward_pre_hook(self._enter(edit), with_kwargs=True))
            end = self._attention_end if edit.sublayer == ATTENTION else self._mlp_end
            handles.append(block.get_submodule(end).register_forward_hook(self._leave(edit)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def count(self, counts: torch.Tensor) -> None:
        """Say which positions ``[batch, tokens]`` of the batch that comes next are no padding."""
        self._counts = counts

    see = count

    def _enter(self, edit: Edit) -> Any:
        def hook(_: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            self._inputs[edit] = arguments[0] if arguments else keywords["hidden_states"]

        return hook

    def _leave(self, edit: Edit) -> Any:
        def hook(_: Any, __: Any, output: Any) -> None:
            update = self._rows(output[0] if isinstance(output, tuple) else output)
            sums = {"count": len(update), "u": update.sum(0), "uu": update.square().sum()}
            if edit in self._inputs:
                x = self._rows(self._inputs.pop(edit))
                sums |= {"x": x.sum(0), "xx": x.T @ x, "ux": update.T @ x}
            kept = self._sums.setdefault(edit, {})
            for name, value in sums.items():
                kept[name] = kept[name] + value if name in kept else value

        return hook

    def _rows(self, values: torch.Tensor) -> torch.Tensor:
        """The positions that are no padding, ``[tokens, width]``, in float64 (float32 on Apple's GPUs)."""
        rows = values.reshape(-1, self._width)[self._counts.reshape(-1).to(values.device)]
        return rows.float() if rows.device.type == "mps" else rows.double()

    def moments(self) -> Mapping[Edit, Moments]:
        """What was summed, by edit.

        Raises:
            CalibrationError: it is not finite.
        """
        width, found = self._width, {}
        for edit, sums in self._sums.items():
            arrays = {n: v.cpu().double().numpy() for n, v in sums.items() if n != "count"}
            if not all(np.isfinite(array).all() for array in arrays.values()):
                raise CalibrationError(
                    "moments-not-finite",
                    f"the {edit.sublayer} of layer {edit.layer} gives values that are not finite",
                    hint=f"try {named('dtype')} float32",
                )
            empty = np.zeros((width, width))
            found[edit] = Moments(
                count=sums["count"],
                x=arrays.get("x", np.zeros(width)),
                u=arrays["u"],
                xx=arrays.get("xx", empty),
                ux=arrays.get("ux", empty),
                uu=float(arrays["uu"]),
            )
        return found

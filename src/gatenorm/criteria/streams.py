"""What every sublayer does to the residual stream, summed while tokens run through; no activation is kept.

``X`` is the stream that a block's attention finds and ``U`` what removing that attention takes away: the stream with it
minus the stream without it. In most block shapes ``X`` is what enters the block and ``U`` what the branch adds (after
its output norm where it has one). Where a norm stands on the stream itself and stays when the attention goes (OPT's
post-norm blocks), both streams have gone through it. The same goes for the MLP, whose ``X`` is the stream that it
finds: behind the attention in sequential blocks, what enters the block in parallel ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from gatenorm.calibration.passes import Observer, in_float64
from gatenorm.families import Layout
from gatenorm.models.forward import on_entering, on_leaving, on_update
from gatenorm.records import SUBLAYERS

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.utils.hooks import RemovableHandle


@dataclass
class _Sums:
    """Sums over all positions that count: attention's ``1 - cos(X, X + U)``, ``|U|`` and ``|X|``, the MLP's ``1 - cos``
    and the whole block's.
    """

    turn: Any = 0.0
    update: Any = 0.0
    stream: Any = 0.0
    mlp_turn: Any = 0.0
    block_turn: Any = 0.0


@dataclass
class StreamStatistics:
    """Sums by layer, and the figures that they make; ``positions`` is how many tokens counted.

    ``layers`` are those that have attention, ``mlps`` those that have an MLP.
    """

    layers: tuple[int, ...]
    mlps: tuple[int, ...] = ()
    positions: int = 0
    sums: dict[int, _Sums] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.sums = {layer: _Sums() for layer in sorted({*self.layers, *self.mlps})}


class Watch(Observer):
    """Hooks that add what runs through blocks to a :class:`StreamStatistics`."""

    def __init__(self, layout: Layout):
        self.statistics = StreamStatistics(layout.attention_layers, layout.mlp_layers)
        self._before: Sequence[str] = layout.block.before
        self._after: Sequence[str] = layout.block.after
        self._branch: Sequence[str] = layout.block.branch
        # The first of the modules that go is the attention; where its branch ends in a norm, that comes last.
        self._branch_end: str = layout.norms.output or layout.block.attention[0]
        self._factor, self._mlp_factor = (layout.branch_factor(sublayer) for sublayer in SUBLAYERS)
        self._beside: Sequence[str] = layout.block.beside
        self._entered: dict[int, torch.Tensor] = {}
        self._found: dict[int, torch.Tensor] = {}

    def hooks(self, blocks: Sequence[nn.Module]) -> Iterator[RemovableHandle]:
        """Register what observes; ``blocks`` are all of the model's, in their physical order."""
        for layer in self.statistics.sums:
            block = blocks[layer]
            yield on_entering(block, partial(self._entered.__setitem__, layer))
            yield on_leaving(block, partial(self._leave, layer))
            if layer in self.statistics.layers:
                yield on_leaving(block.get_submodule(self._branch_end), partial(self._update, layer, block))
            if layer in self.statistics.mlps:
                yield on_entering(block.get_submodule(self._branch[0]), partial(self._found.__setitem__, layer))
                yield from on_update(block, self._branch[-1], self._beside, partial(self._update_by_mlp, layer, block))

    def count(self, counts: torch.Tensor) -> None:
        """Say which positions ``[batch, tokens]`` of the batch that comes next are no padding."""
        super().count(counts)
        self.statistics.positions += int(counts.sum())

    def _update(self, layer: int, block: nn.Module, output: torch.Tensor) -> None:
        lengths = _lengths(block, self._before, self._entered[layer], self._factor * output)
        sums = self.statistics.sums[layer]
        sums.turn = sums.turn + self._sum(lengths.turn())
        sums.update = sums.update + self._sum(lengths.update.sqrt())
        sums.stream = sums.stream + self._sum(lengths.stream.sqrt())

    def _update_by_mlp(self, layer: int, block: nn.Module, output: torch.Tensor) -> None:
        # Some versions run the MLP of OPT on tokens in one row.
        shape = self._entered[layer].shape
        found, update = self._found.pop(layer).reshape(shape), self._mlp_factor * output.reshape(shape)
        sums = self.statistics.sums[layer]
        sums.mlp_turn = sums.mlp_turn + self._sum(_lengths(block, self._after, found, update).turn())

    def _leave(self, layer: int, output: torch.Tensor) -> None:
        entered, sums = self._entered.pop(layer).float(), self.statistics.sums[layer]
        sums.block_turn = sums.block_turn + self._sum(_Lengths.of(entered, output.float() - entered).turn())

    def _sum(self, values: torch.Tensor) -> torch.Tensor:
        return values.masked_fill(~self._counts.to(values.device), 0.0).sum()


def _lengths(block: nn.Module, norms: Sequence[str], stream: torch.Tensor, update: torch.Tensor) -> _Lengths:
    """Those of a stream and of what a branch adds to it, both behind the ``norms`` that stand on the stream itself."""
    if norms:
        with_update = stream + update
        for name in norms:
            module = block.get_submodule(name)
            stream, with_update = module(stream), module(with_update)
        update = with_update.float() - stream.float()
    return _Lengths.of(stream, update)


@dataclass(frozen=True)
class _Lengths:
    """``<X, X>``, ``<X, U>`` and ``<U, U>`` of every position: the products in float32, sums of them in float64."""

    stream: torch.Tensor
    along: torch.Tensor
    update: torch.Tensor

    @classmethod
    def of(cls, stream: torch.Tensor, update: torch.Tensor) -> _Lengths:
        import torch

        x, u = stream.float(), update.float()
        return cls(*(in_float64(torch.linalg.vecdot(a, b)) for a, b in ((x, x), (x, u), (u, u))))

    def turn(self) -> torch.Tensor:
        """``1 - cos(X, X + U)``; a vector of zero length has turned altogether.

        In lengths of ``X``, let ``a = 1 + <X, U> / <X, X>`` be ``X + U`` along ``X`` and ``s = <U, U> / <X, X> -
        (a - 1)^2`` the square of it across. With ``n^2 = a^2 + s`` it is ``1 - a / n`` and, where ``a > 0``,
        ``s / (n (n + a))``, which keeps its digits where ``U`` is small and the cosine next to 1.
        """
        import torch

        beside = self.along / self.stream
        across = (self.update / self.stream - beside.square()).clamp(min=0)
        ahead = 1 + beside
        length = (ahead.square() + across).sqrt()
        turned = torch.where(ahead > 0, across / (length * (length + ahead)), 1 - ahead / length)
        return turned.masked_fill((self.stream == 0) | (length == 0), 1.0)  # NaN stays, and is refused

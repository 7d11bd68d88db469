"""How much of the stream behind an attention no linear map of the attention's input can explain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from gatenorm.calibration.passes import Observer, counted, in_float64, observe
from gatenorm.criteria.criterion import ForwardCriterion, Measured, Run
from gatenorm.families import Layout
from gatenorm.fitting.moments import Float64
from gatenorm.models.forward import on_entering, on_leaving
from gatenorm.records import ATTENTION

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.utils.hooks import RemovableHandle

# The share of the largest variance below which a direction is rounding: layer norms leave one in which nothing varies.
_NOTHING_VARIES = 1e-12


def cca_bound(xx: Float64, yx: Float64, yy: Float64) -> float:
    """``(d - r) + sum (1 - rho_i^2)``: no less than the mean squared error of the best linear estimator of ``y`` from
    ``x``, as a share of the variance of ``y``.

    ``rho_i`` are the ``r`` singular values of ``C_yy^-1/2 C_yx C_xx^-1/2``, the canonical correlations. Directions in
    which nothing varies are left out.

    Args:
        xx, yx, yy: the covariances ``C_xx``, ``C_yx`` and ``C_yy``, ``[d, d]`` each.

    Source: Erdogan, Tonin and Cevher, "Efficient Large Language Model Inference with Neural Block Linearization"
    (arXiv 2505.21077), who take for ``y`` the attention's output with the residual stream in it.
    """
    if not (np.isfinite(xx).all() and np.isfinite(yy).all()):  # refused by name where scores are read
        return float("nan")
    of_x, of_y = _whitening(xx), _whitening(yy)
    return float(len(of_y) - np.square(of_y @ yx @ of_x.T).sum())


def _whitening(covariance: Float64) -> Float64:
    """``W`` [rank, d] with ``W C W' = I``."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > values[-1] * _NOTHING_VARIES
    return np.asarray((vectors[:, kept] / np.sqrt(values[kept])).T)


class _JointMoments(Observer):
    """Hooks that sum ``x``, the normed input that an attention reads, and ``y``, the stream with its update: their
    means and second moments by layer, in float64.
    """

    def __init__(self, layout: Layout, layers: Sequence[int]):
        self._layers = layers
        self._attention: str = layout.block.attention[0]
        self._factor = layout.branch_factor(ATTENTION)
        self._end: str = layout.norms.output or self._attention
        self._stream: dict[int, torch.Tensor] = {}
        self._input: dict[int, torch.Tensor] = {}
        self._sums: dict[int, list[Any]] = {layer: [0] * 6 for layer in layers}

    def hooks(self, blocks: Sequence[nn.Module]) -> Iterator[RemovableHandle]:
        for layer in self._layers:
            block = blocks[layer]
            attention, end = block.get_submodule(self._attention), block.get_submodule(self._end)
            yield on_entering(block, partial(self._enter, self._stream, layer))
            yield on_entering(attention, partial(self._enter, self._input, layer))
            yield on_leaving(end, partial(self._leave, layer))

    def _enter(self, into: dict[int, torch.Tensor], layer: int, entering: torch.Tensor) -> None:
        into[layer] = self._rows(entering)

    def _leave(self, layer: int, output: torch.Tensor) -> None:
        x, y = self._input.pop(layer), self._stream.pop(layer) + self._factor * self._rows(output)
        new = (len(x), x.sum(0), y.sum(0), x.T @ x, y.T @ x, y.T @ y)
        self._sums[layer] = [old + more for old, more in zip(self._sums[layer], new, strict=True)]

    def _rows(self, values: torch.Tensor) -> torch.Tensor:
        return in_float64(counted(values, self._counts))

    def covariances(self, layer: int) -> tuple[Float64, Float64, Float64]:
        """``C_xx``, ``C_yx`` and ``C_yy``."""
        count, *sums = self._sums[layer]
        x, y, xx, yx, yy = (one.cpu().double().numpy() / count for one in sums)
        return xx - np.outer(x, x), yx - np.outer(y, x), yy - np.outer(y, y)


def _measure(run: Run) -> Measured:
    seen = _JointMoments(run.model.known_layout, run.layers)
    observe(run.model.module, run.model.known_layout, run.samples, seen, run.progress)
    score = "bound on the normalised squared error of a linear estimator of the stream behind the attention"
    return Measured({layer: cca_bound(*seen.covariances(layer)) for layer in run.layers}, score)


CRITERION = ForwardCriterion(
    summary="bound on the error of a linear map in the attention's place, by canonical correlations",
    measure=_measure,
)

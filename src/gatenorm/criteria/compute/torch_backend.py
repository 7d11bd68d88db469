"""The primitives in PyTorch: in float32 on an accelerator, in guarded bfloat16 on a CPU with units for it."""

import math
import warnings
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from gatenorm.criteria.compute.numpy_backend import NumpyBackend, sum_of_squares
from gatenorm.errors import CriterionError, first_line
from gatenorm.families import Projection
from gatenorm.models.processor import has_bfloat16_units

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

_TYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
# Standard deviation of bfloat16's relative rounding error, bounded by that of a uniform one of +-2^-9.
_ROUNDING = 2.0**-9 / math.sqrt(3.0)
# The largest relative error of a norm that the bfloat16 product may have by its own estimate.
_TOLERATED = 2e-5
# Lines this many times stronger than the median one are computed in float32 ...
_OUTLIER = 4.0
# ... judged by every 16th of their entries, and at most this share of all lines.
_SAMPLE, _MOST_OUTLIERS = 16, 1 / 16
_CHECKED_LINES = 64
# Weights stored in float16 or float32 are rounded for the product: measured, that moves a 13B layer's norm by 7e-6 at
# most, but 64 lines know it no better than to 2e-5.
_TOLERATED_ROUNDED = 4e-5
# Rows of the product at a time: 10 MB as float32 on a 13B model, which stays in the cache.
_BLOCK = 512
# The error's estimate needs the fourth moment of every 8th row only.
_FOURTH = 8


class TorchBackend:
    """On a CPU the gate matrix of bfloat16 weights takes half of NumPy's time; everything else is NumPy's there.

    The product of bfloat16 weights is exact but for the rounding of each entry of the result, whose relative error is
    at most 2^-9. Over spread-out energy it cancels (1.6e-6 on a norm); a few outlier columns of the weights hold nearly
    all energy, and then it does not (3.4e-4). So their rows and columns of the product are computed in float32, the
    error of the rest is estimated from its second and fourth moments, and the whole is float32 where that is too much.
    """

    def __init__(self, device: str = "cpu"):
        try:
            self._device = torch.device(device)
            torch.zeros(1, device=self._device).item()  # of a meta tensor there is nothing to be had
        except (RuntimeError, AssertionError) as error:
            problem, expected = f"cannot be used ({first_line(error)})", "cpu, cuda or cuda:N"
            raise CriterionError("device-unusable", problem, field="device", given=device, expected=expected) from None
        self._numpy = NumpyBackend()
        self._buffers: dict[str, torch.Tensor] = {}

    def product_norm(self, a: Projection, b: Projection, contract: Literal["rows", "width"]) -> float:
        if self._device.type != "cpu":
            return self._device_norm(a, b, contract)
        plain = contract == "width" or a.heads == b.heads
        if plain and has_bfloat16_units() and a.dtype in _TYPES and b.dtype in _TYPES:
            norm = self._bfloat16_norm(a, b, contract)
            if norm is not None:
                return norm
        return self._numpy.product_norm(a, b, contract)

    def head_grams(self, projection: Projection, gain: Float32 | None = None) -> Float64:
        cpu = self._device.type == "cpu"
        return self._numpy.head_grams(projection, gain) if cpu else self._device_grams(projection, gain)

    def _device_grams(self, projection: Projection, gain: Float32 | None) -> Float64:
        w = self._on_device(projection).view(projection.shape)
        if gain is not None:
            w = w * torch.from_numpy(gain).to(self._device)
        grams: Float64 = torch.bmm(w, w.transpose(1, 2)).cpu().numpy().astype(np.float64)
        return grams

    def _on_device(self, projection: Projection) -> torch.Tensor:
        if projection.dtype in _TYPES:
            # Stored bits cross the bus, half of what float32 would be.
            return _stored(projection).to(self._device).float()
        return torch.from_numpy(projection.float32()).to(self._device)

    def _device_norm(self, a: Projection, b: Projection, contract: Literal["rows", "width"]) -> float:
        right = self._on_device(b)
        if contract == "width":
            left, right = self._on_device(a), right.T
        else:
            heads, rows, width = a.shape
            grouped = self._on_device(a).view(b.heads, heads // b.heads, rows, width)
            left = grouped.sum(1).reshape(-1, width).T
        energy = 0.0
        for start in range(0, left.shape[0], 4 * _BLOCK):
            block = left[start : start + 4 * _BLOCK] @ right
            energy += float(block.double().square_().sum())
        return math.sqrt(energy) if energy == energy else math.nan

    def _bfloat16_norm(self, a: Projection, b: Projection, contract: Literal["rows", "width"]) -> float | None:
        """``None`` where bfloat16 is not good enough for these weights."""
        # Products of rows with rows are the fastest form by more than the transposed copies cost: 0.71 against 0.74 s.
        flip = contract == "rows"
        left, right = self._bfloat16("a", a, flip), self._bfloat16("b", b, flip).T
        strong_left, strong_right = _outliers(left), _outliers(right.T)
        product = self._buffer("product", (left.shape[0], right.shape[1]))
        torch.mm(left, right, out=product)
        product[strong_left] = 0
        product[:, strong_right] = 0
        energy, fourth = self._moments(product)
        rounded = not a.dtype == b.dtype == "BF16"
        if rounded or strong_left.numel() or strong_right.numel():
            left32, right32 = a.float32(), b.float32()
            left32, right32 = (left32.T, right32) if contract == "rows" else (left32, right32.T)
            lines, columns = strong_left.numpy(), strong_right.numpy()
            if rounded and not _close(product, left32, right32, lines, columns, energy):
                return None
            energy += sum_of_squares(left32[lines] @ right32)
            rest = left32 @ right32[:, columns]
            rest[lines] = 0
            energy += sum_of_squares(rest)
        # Squares are taken in float32 here: NumPy, which takes them in float64, says what does not fit at all.
        if not math.isfinite(energy) or 2 * _ROUNDING * math.sqrt(fourth) > _TOLERATED * energy or energy < 1e-20:
            return None
        return math.sqrt(energy)

    def _bfloat16(self, name: str, projection: Projection, flip: bool) -> torch.Tensor:
        """The stored matrix, or its transpose, with adjacent rows, rounded to bfloat16 where it is not."""
        stored = _stored(projection)
        if projection.dtype == "BF16" and not flip:
            return stored
        wanted = stored.T if flip else stored
        copy: torch.Tensor = self._buffer(name, tuple(wanted.shape)).copy_(wanted)
        return copy

    def _buffer(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        """Memory that the layers share: fresh pages for each cost more than the conversions that fill them."""
        if name not in self._buffers or tuple(self._buffers[name].shape) != shape:
            self._buffers[name] = torch.empty(shape, dtype=torch.bfloat16)
        return self._buffers[name]

    def _moments(self, product: torch.Tensor) -> tuple[float, float]:
        """Sum of second powers, and an estimate of that of fourth ones: float32 along a row, float64 over the rows."""
        second = 0.0
        for start in range(0, product.shape[0], _BLOCK):
            second += float(product[start : start + _BLOCK].float().square_().sum(1).double().sum())
        squares = product[::_FOURTH].float().square_()
        fourth = _FOURTH * float(torch.linalg.vector_norm(squares, dim=1).double().square_().sum())
        return second, fourth


def _stored(projection: Projection) -> torch.Tensor:
    """The stored matrix ``[heads * head_dim, width]`` as a tensor on the mapped file: only ever read."""
    bits = projection.matrix()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        stored: torch.Tensor = torch.from_numpy(bits).view(_TYPES[projection.dtype])
        return stored


def _outliers(lines: torch.Tensor) -> torch.Tensor:
    norms = torch.linalg.vector_norm(lines[:, ::_SAMPLE].float(), dim=1)
    most = int(lines.shape[0] * _MOST_OUTLIERS)
    strong: torch.Tensor = torch.nonzero(norms > _OUTLIER * norms.median()).flatten()
    if strong.numel() > most:
        strong = norms.topk(most).indices
    return strong


def _close(
    product: torch.Tensor, left: Float32, right: Float32, lines: Float32, columns: Float32, energy: float
) -> bool:
    """Whether rounding the weights themselves left the energy alone, by float32 copies of some rows of the product."""
    weak = np.setdiff1d(np.arange(left.shape[0]), lines)
    sample = weak[:: max(1, weak.size // _CHECKED_LINES)]
    exact = left[sample] @ right
    exact[:, columns] = 0
    excess = (product[sample].double().square_().sum(1).numpy() - np.square(exact, dtype=np.float64).sum(1)) * weak.size
    doubt = 2 * excess.std() / math.sqrt(sample.size)
    return bool(abs(excess.mean()) + doubt <= 2 * _TOLERATED_ROUNDED * energy)

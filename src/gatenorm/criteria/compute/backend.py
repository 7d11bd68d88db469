"""The two expensive primitives that the criteria are made of, and the choice of what computes them.

Everything else is float64 arithmetic on matrices of a head's size. NumPy is always there; PyTorch is imported (0.7 s)
only where it pays: on an accelerator, or for the gate matrix of a wide model on a CPU with bfloat16 units.
"""

from importlib.util import find_spec
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from gatenorm.criteria.compute.numpy_backend import NumpyBackend
from gatenorm.errors import CriterionError, MissingExtraError, named
from gatenorm.families import Projection
from gatenorm.models.processor import has_bfloat16_units

Float64 = npt.NDArray[np.float64]
Contract = Literal["rows", "width"]

_BACKENDS = ("auto", "numpy", "torch")
# From here on one product takes NumPy longer than it takes PyTorch by about a tenth of a second a layer.
_WORTH_IMPORTING_TORCH = 5e10


class Backend(Protocol):
    """What a criterion may ask for."""

    def product_norm(self, a: Projection, b: Projection, contract: Contract) -> float:
        """``||A^T B||_F`` (``contract="rows"``) or ``||A B^T||_F`` (``"width"``).

        ``A [heads * head_dim, width]`` and ``B [kv_heads * head_dim, width]`` are the projections' heads one below the
        other. Where rows are contracted, every head of ``b`` stands for its whole group of heads of ``a``:
        ``sum_h a[h]^T b[g(h)]``. Not finite where the weights are not.
        """
        ...

    def head_grams(self, projection: Projection, gain: npt.NDArray[np.float32] | None = None) -> Float64:
        """``W[h] diag(gain)^2 W[h]^T`` of every head: ``[heads, head_dim, head_dim]``, 1 being the default gain."""
        ...


def paired_norms(grams: Float64, kv_grams: Float64) -> Float64:
    """``|| A[h]^T B[g(h)] ||_F`` of every head from Gram matrices ``[heads, n, n]`` and ``[kv_heads, n, n]``."""
    group = grams.shape[0] // kv_grams.shape[0]
    energies = np.einsum("hij,hij->h", grams, np.repeat(kv_grams, group, axis=0))
    # Rounding can take a norm of zero to a little below it.
    norms: Float64 = np.sqrt(np.maximum(energies, 0.0))
    return norms


class AutoBackend:
    """NumPy, and PyTorch for products that are large enough on a machine that is good at them."""

    def __init__(self) -> None:
        self._numpy = NumpyBackend()
        self._torch: Backend | None = None

    def product_norm(self, a: Projection, b: Projection, contract: Contract) -> float:
        chosen = self._numpy if self._torch_is_no_use(a, b, contract) else self._torch_backend()
        return chosen.product_norm(a, b, contract)

    def head_grams(self, projection: Projection, gain: npt.NDArray[np.float32] | None = None) -> Float64:
        return self._numpy.head_grams(projection, gain)

    def _torch_is_no_use(self, a: Projection, b: Projection, contract: Contract) -> bool:
        (heads, rows, width), kv_heads = a.shape, b.heads
        if contract == "rows" and heads != kv_heads:
            return True  # groups are summed first, and two small float32 Gram matrices are cheaper than the product
        flops = 2.0 * heads * rows * width * (width if contract == "rows" else kv_heads * rows)
        return flops < _WORTH_IMPORTING_TORCH or not has_bfloat16_units() or find_spec("torch") is None

    def _torch_backend(self) -> Backend:
        if self._torch is None:
            self._torch = _torch("cpu")
        return self._torch


def backend(name: str = "auto", device: str = "cpu") -> Backend:
    """Who computes: ``auto``, ``numpy`` or ``torch``, the latter on ``device`` (``cpu``, ``cuda``, ``cuda:1``, ...).

    Raises:
        CriterionError: another name, NumPy asked to use an accelerator, or a device that is not there.
        MissingExtraError: PyTorch is needed and not installed.
    """
    if name not in _BACKENDS:
        raise CriterionError.unknown("backend", name, _BACKENDS)
    if name == "numpy" and device != "cpu":
        hint = f"use {named('backend')} torch or auto"
        problem = "is not where the numpy backend computes"
        raise CriterionError("backend-device", problem, field="device", given=device, expected="cpu", hint=hint)
    if name == "numpy":
        return NumpyBackend()
    return AutoBackend() if name == "auto" and device == "cpu" else _torch(device)


def _torch(device: str) -> Backend:
    if find_spec("torch") is None:
        raise MissingExtraError(f"scoring on {device!r} with the torch backend", "torch", "torch")
    from gatenorm.criteria.compute.torch_backend import TorchBackend

    return TorchBackend(device)

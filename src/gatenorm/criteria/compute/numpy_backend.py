"""The primitives in float32 NumPy, sums of squares in float64."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

from gatenorm.families import Projection

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

# Rows of a large product that exist at a time: 20 MB on a 13B model.
_BLOCK = 1024
# OpenBLAS reaches less of the peak in ssyrk than in sgemm (164 against 205 GFLOP/s, 5,120 rows).
_SYRK_PENALTY = 1.25
# Below this share of |Gq| |Gk| the rounding of float32 Gram matrices shows in their inner product.
_GRAM_CANCELLATION = 1e-3


class NumpyBackend:
    """Exact to float32 products: relative errors of about 1e-7 a norm, outlier columns or not."""

    def __init__(self) -> None:
        self._blas = ThreadpoolController()
        self._threads = max((lib["num_threads"] for lib in self._blas.info() if lib["user_api"] == "blas"), default=1)
        self._pool = ThreadPoolExecutor(self._threads)
        self._local = threading.local()

    def product_norm(self, a: Projection, b: Projection, contract: Literal["rows", "width"]) -> float:
        right = b.float32()
        if contract == "width":
            return blockwise_norm(a.float32(), right.T)
        left = group_sums(a, b.heads)
        rows, width = left.shape
        if rows * _SYRK_PENALTY < width:
            gram_left, gram_right = left @ left.T, right @ right.T
            energy = _inner(gram_left, gram_right)
            scale = _inner(gram_left, gram_left) ** 0.5 * _inner(gram_right, gram_right) ** 0.5
            if not energy < _GRAM_CANCELLATION * scale:
                return float(np.sqrt(energy))
        return blockwise_norm(left.T, right)

    def head_grams(self, projection: Projection, gain: Float32 | None = None) -> Float64:
        heads, rows, _ = projection.shape
        grams = np.empty((heads, rows, rows), np.float64)

        def gram(head: int) -> None:
            w = self._buffer(projection)
            projection.head(head, w)
            if gain is not None:
                w *= gain
            # NumPy hands `w @ w.T` to ssyrk: half the work of a product of two matrices.
            grams[head] = w @ w.T

        self._each_head(gram, heads)
        return grams

    def _each_head(self, work: Callable[[int], None], heads: int) -> None:
        """A head is too small for a threaded BLAS: one head a thread is 1.4 times as fast as all threads on one."""

        def quiet(head: int) -> None:
            with np.errstate(invalid="ignore", over="ignore"):  # which holds for one thread alone
                work(head)

        with self._blas.limit(limits=1, user_api="blas"):
            list(self._pool.map(quiet, range(heads)))

    def _buffer(self, projection: Projection) -> Float32:
        """A ``[head_dim, width]`` for each thread, laid out in memory as the file is, so that reads run forwards."""
        bits = projection.bits[0]
        transposed = bits.strides[0] < bits.strides[1]
        shape = bits.shape[::-1] if transposed else bits.shape
        buffer: Float32 | None = getattr(self._local, "buffer", None)
        if buffer is None or buffer.shape != shape:
            buffer = self._local.buffer = np.empty(shape, np.float32)
        return buffer.T if transposed else buffer


def group_sums(a: Projection, kv_heads: int) -> Float32:
    """Sums of the query heads that share a key head, one below the other: ``[kv_heads * head_dim, width]``."""
    heads, rows, width = a.shape
    if heads == kv_heads:
        return a.float32()
    group, one = heads // kv_heads, np.empty((rows, width), np.float32)
    sums = np.zeros((kv_heads * rows, width), np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        for head in range(heads):
            sums[(head // group) * rows : (head // group + 1) * rows] += a.head(head, one)
    return sums


def blockwise_norm(left: Float32, right: Float32) -> float:
    """``||left @ right||_F`` without the whole product ever being in memory."""
    energy = 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        for start in range(0, left.shape[0], _BLOCK):
            energy += sum_of_squares(left[start : start + _BLOCK] @ right)
    return float(np.sqrt(energy))


def sum_of_squares(matrix: Float32) -> float:
    """In float64: summed in float32, the norm of a 5,120-wide matrix is off by 1.6e-3."""
    return _inner(matrix, matrix)


def _inner(a: Float32, b: Float32) -> float:
    total = 0.0
    for start in range(0, a.shape[0], 64):  # blocks that stay in the cache while they are widened
        wide = a[start : start + 64].astype(np.float64)
        total += float(np.vdot(wide, wide if b is a else b[start : start + 64].astype(np.float64)))
    return total

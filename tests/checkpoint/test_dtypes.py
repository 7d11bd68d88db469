"""Every bit pattern of every float type becomes the float32 that torch makes of it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from gatenorm.checkpoint.dtypes import STORAGE_TYPES, WRITABLE, from_float32, to_float32
from gatenorm.errors import CheckpointError
from tests.errors import refused


def every_pattern(dtype: str) -> np.ndarray:
    storage = STORAGE_TYPES[dtype]
    if storage.itemsize <= 2:
        return np.arange(2 ** (8 * storage.itemsize), dtype=f"u{storage.itemsize}").view(storage.numpy)
    edges = np.array([0, 1, 2**31 - 1, 2**31, 2**31 + 1, 0x7F800000, 0x7F800001, 0xFF800000, 0x3F800000], np.uint32)
    drawn = np.random.default_rng(0).integers(0, 2**32, 5000, np.uint32)
    if storage.itemsize == 4:
        return np.concatenate([edges, drawn]).view(storage.numpy)
    return np.random.default_rng(1).standard_normal(5000) * np.logspace(-300, 300, 5000)


def by_torch(bits: np.ndarray, dtype: str) -> np.ndarray:
    return torch.from_numpy(bits.copy()).view(getattr(torch, STORAGE_TYPES[dtype].torch)).to(torch.float32).numpy()


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F8_E4M3", "F8_E5M2", "F32", "F64"])
@pytest.mark.parametrize("into_out", [False, True])
def test_every_pattern_is_torchs(dtype: str, into_out: bool) -> None:
    bits = every_pattern(dtype)
    expected = by_torch(bits, dtype)
    out = np.full(bits.shape, 7, np.float32) if into_out else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # float64 beyond float32's range overflows to inf, in torch silently
        ours = to_float32(bits, dtype, out)
    assert (ours is out) == into_out
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(expected))
    numbers = ~np.isnan(expected)
    # As bits, so that -0 is not taken for 0.
    np.testing.assert_array_equal(ours[numbers].view(np.uint32), expected[numbers].view(np.uint32))
    if dtype in ("BF16", "F32"):  # NaNs too keep their bits
        np.testing.assert_array_equal(ours.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize(("dtype", "nans", "infinities"), [("F8_E4M3", 2, 0), ("F8_E5M2", 6, 2), ("BF16", 254, 2)])
def test_special_values_are_counted(dtype: str, nans: int, infinities: int) -> None:
    values = to_float32(every_pattern(dtype), dtype)
    assert (np.isnan(values).sum(), np.isinf(values).sum()) == (nans, infinities)


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F8_E4M3", "F8_E5M2"])
@pytest.mark.parametrize("view", [lambda a: a.T, lambda a: a[::2, 1:], lambda a: a[:0], lambda a: a[0, 0]])
def test_views_keep_their_shape(dtype: str, view: object) -> None:
    matrix = np.resize(every_pattern(dtype)[:100], (10, 10))
    part = view(matrix)  # type: ignore[operator]
    expected = by_torch(np.ascontiguousarray(part), dtype).reshape(part.shape)
    np.testing.assert_array_equal(to_float32(part, dtype), expected)


@pytest.mark.parametrize(
    ("dtype", "value", "code"),
    [
        *((dtype, value, "weights-not-finite") for dtype in WRITABLE for value in (np.nan, np.inf, -np.inf)),
        *(
            ("F16", 65505.0, "dtype-too-narrow"),
            ("F16", -1e9, "dtype-too-narrow"),
            ("BF16", 3.4e38, "dtype-too-narrow"),
        ),
    ],
)
def test_no_new_tensor_holds_what_no_engine_can_compute_with(dtype: str, value: float, code: str) -> None:
    with refused(code):
        from_float32(np.array([1.0, value], np.float32), dtype)


@pytest.mark.parametrize("dtype", WRITABLE)
def test_the_largest_numbers_are_written(dtype: str) -> None:
    most = {"F16": 65504.0, "BF16": 3.3895313892515355e38}.get(dtype, 3.4e38)
    bits = from_float32(np.array([most, -most], np.float32), dtype)
    np.testing.assert_allclose(to_float32(bits, dtype), [most, -most], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["I8", "U8", "BOOL", "I64", "C64", "F8_E8M0", "F4", ""])
def test_a_type_that_holds_no_floats_is_refused(dtype: str) -> None:
    with refused("dtype-no-floats", kind=CheckpointError):
        to_float32(np.zeros(4, np.uint8), dtype)

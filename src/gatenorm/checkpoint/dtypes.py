"""Storage types of safetensors: their width, how numpy holds their bits, and how bits become float32."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from gatenorm.errors import CheckpointError

Bits = npt.NDArray[np.generic]
Float32 = npt.NDArray[np.float32]


def _widen_bf16(bits: Bits, out: Float32 | None = None) -> Float32:
    """bfloat16 is the upper half of a float32: shift the bits up. Exact."""
    target = np.empty(bits.shape, np.float32) if out is None else out
    wide = target.view(np.uint32)
    np.copyto(wide, bits)  # two passes that are each vectorised take half the time of one shift that also casts
    np.left_shift(wide, np.uint32(16), out=wide)
    return target


def _cast(bits: Bits, out: Float32 | None = None) -> Float32:
    if out is None:
        return bits.astype(np.float32)
    out[...] = bits
    return out


@cache
def _fp8_table(exponent_bits: int) -> Float32:
    """The 256 values of an 8-bit float. e4m3fn has no infinities and one NaN per sign; e5m2 is IEEE-like."""
    mantissa_bits = 7 - exponent_bits
    bias = (1 << (exponent_bits - 1)) - 1
    table = np.empty(256, np.float32)
    for code in range(256):
        sign = -1.0 if code & 0x80 else 1.0
        exponent = (code >> mantissa_bits) & ((1 << exponent_bits) - 1)
        fraction = (code & ((1 << mantissa_bits) - 1)) / (1 << mantissa_bits)
        top = exponent == (1 << exponent_bits) - 1
        if exponent_bits == 4 and top and code & 0x07 == 0x07:
            table[code] = np.nan
        elif exponent_bits == 5 and top:
            table[code] = np.nan if code & 0x03 else sign * np.inf
        elif exponent == 0:
            table[code] = sign * fraction * 2.0 ** (1 - bias)
        else:
            table[code] = sign * (1 + fraction) * 2.0 ** (exponent - bias)
    return table


def _fp8(exponent_bits: int) -> Callable[[Bits, Float32 | None], Float32]:
    def decode(bits: Bits, out: Float32 | None = None) -> Float32:
        target = np.empty(bits.shape, np.float32) if out is None else out
        np.take(_fp8_table(exponent_bits), bits.view(np.uint8), out=target)
        return target

    return decode


@dataclass(frozen=True)
class StorageType:
    """One dtype of the safetensors format.

    ``numpy`` is what the bits are mapped as (unsigned integers where numpy has no such float), ``torch`` the name of
    the same type there, ``decode`` bits to float32 of the same shape (exact except for F64 and wide integers; ``None``
    where a number format is only carried, never computed with).
    """

    name: str
    itemsize: int
    numpy: str
    torch: str
    decode: Callable[[Bits, Float32 | None], Float32] | None


_ALL = (
    StorageType("F32", 4, "<f4", "float32", _cast),
    StorageType("F16", 2, "<f2", "float16", _cast),
    StorageType("BF16", 2, "<u2", "bfloat16", _widen_bf16),
    StorageType("F64", 8, "<f8", "float64", _cast),
    StorageType("F8_E4M3", 1, "u1", "float8_e4m3fn", _fp8(4)),
    StorageType("F8_E5M2", 1, "u1", "float8_e5m2", _fp8(5)),
    StorageType("F8_E8M0", 1, "u1", "float8_e8m0fnu", None),
    StorageType("BOOL", 1, "?", "bool", None),
    StorageType("U8", 1, "u1", "uint8", None),
    StorageType("I8", 1, "i1", "int8", None),
    StorageType("U16", 2, "<u2", "uint16", None),
    StorageType("I16", 2, "<i2", "int16", None),
    StorageType("U32", 4, "<u4", "uint32", None),
    StorageType("I32", 4, "<i4", "int32", None),
    StorageType("U64", 8, "<u8", "uint64", None),
    StorageType("I64", 8, "<i8", "int64", None),
    StorageType("C64", 8, "<c8", "complex64", None),
)
STORAGE_TYPES = {t.name: t for t in _ALL}
# Those that models compute in, by the names of torch.
COMPUTED = {t.torch: t for t in _ALL[:3]}
# Those that new tensors can be stored in.
WRITABLE = ("F32", "F16", "BF16", "F64")
# The largest numbers that narrow types hold; a little more is rounded to infinity.
_MOST = {"F16": 65504.0, "BF16": (2 - 2.0**-7) * 2.0**127}


def to_float32(bits: Bits, dtype: str, out: Float32 | None = None) -> Float32:
    """Stored bits of safetensors type ``dtype`` as float32, of the same shape; into ``out`` where it is given.

    Raises:
        CheckpointError: a type that holds no floats, or that this release does not know.
    """
    storage = STORAGE_TYPES.get(dtype)
    if storage is None or storage.decode is None:
        problem = f"weights of type {dtype} cannot be read as numbers"
        raise CheckpointError("dtype-no-floats", problem, expected="F32, F16, BF16, F64 or fp8")
    return storage.decode(bits, out)


def from_float32(values: Float32, dtype: str, name: str = "a new tensor") -> Bits:
    """Values as bits of safetensors type ``dtype``, rounded to the nearest (halves to even).

    Args:
        name: the tensor's, for errors.

    Raises:
        CheckpointError: a type other than F32, F16, BF16 or F64; NaN or infinite values, or values beyond its range.
    """
    if not np.isfinite(values).all():
        hint = "the weights are damaged, fetch them again"
        raise CheckpointError("weights-not-finite", f"{name} holds NaN or infinite values", hint=hint)
    if dtype in _MOST and np.abs(values).max(initial=0) > _MOST[dtype]:
        problem = f"{name} holds numbers beyond {_MOST[dtype]:.5g}, where {STORAGE_TYPES[dtype].torch} ends"
        raise CheckpointError("dtype-too-narrow", problem, hint="write them as float32")
    if dtype == "BF16":
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    if dtype not in WRITABLE:
        raise CheckpointError(
            "dtype-not-writable", f"new tensors cannot be stored as {dtype}", expected=" or ".join(WRITABLE)
        )
    return np.asarray(values).astype(STORAGE_TYPES[dtype].numpy)

"""Tensor types of GGUF: what a matrix becomes under each ``dtype``, and how its rows are encoded.

f16, bf16, q8_0 and its like are encoded by the ``gguf`` package, the K types by ggml itself, whose function
``ggml_quantize_chunk`` (ggml.h) the wheels of xllamacpp and llama-cpp-python export. The mixture of types that
``q4_k_m`` and ``q5_k_m`` stand for is llama.cpp's (src/llama-quant.cpp, ``llama_tensor_get_type_impl``): the tensors
are equal to what ``llama-quantize`` makes of the f32 file.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gatenorm.checkpoint.dtypes import Bits, Float32, to_float32
from gatenorm.errors import MissingExtraError, OutputError, named

# What `auto` keeps; types that GGUF has not are widened to the narrowest type that holds all their values.
_STORED = {"F32": "F32", "F16": "F16", "BF16": "BF16", "F64": "F32", "F8_E4M3": "BF16", "F8_E5M2": "BF16"}
# The range of all other types, or of their scales, is that of f16.
_WIDE, _F16_MOST, _F16_LEAST = ("F32", "BF16"), 65504, 2.0**-24
# Rows that do not fill a type's blocks fall back as in llama.cpp's quantiser (`tensor_type_fallback`), at last to f16.
_FALLBACK = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0", "Q8_0": "F16", "Q5_0": "F16", "Q5_1": "F16"}
# Every other type the gguf package encodes to the same bits.
_BY_GGML = ("Q4_K", "Q5_K", "Q6_K")
_LIBRARIES = (("xllamacpp", "xllamacpp*.so"), ("xllamacpp", "xllamacpp*.pyd"), ("llama_cpp", "lib/*ggml-base.*"))


@dataclass(frozen=True)
class Scheme:
    """One ``dtype``: the type of most matrices, and of those that llama.cpp gives more bits.

    ``more`` goes to the values and MLP outputs of some layers (see :func:`more_bits`), ``head`` to the output matrix,
    or to the embedding where both are one; ``file_type`` is the number that ``general.file_type`` has for it.
    """

    most: str
    more: str
    head: str
    file_type: int


# `llama_ftype` of llama.h; for `auto` the type of the embedding decides, see `file_type`.
SCHEMES = {
    "f32": Scheme("F32", "F32", "F32", 0),
    "f16": Scheme("F16", "F16", "F16", 1),
    "bf16": Scheme("BF16", "BF16", "BF16", 32),
    "q8_0": Scheme("Q8_0", "Q8_0", "Q8_0", 7),
    "q4_k_m": Scheme("Q4_K", "Q6_K", "Q6_K", 15),
    "q5_k_m": Scheme("Q5_K", "Q6_K", "Q6_K", 17),
    "q6_k": Scheme("Q6_K", "Q6_K", "Q6_K", 18),
}


def more_bits(index: int, count: int) -> bool:
    """Whether number ``index`` of ``count`` gets more bits: the first and last eighth do, and every third between."""
    eighth = count // 8
    return index < eighth or index >= 7 * count // 8 or (index - eighth) % 3 == 2


def tensor_type(dtype: str, stored: str, shape: tuple[int, ...], more: bool = False, head: bool = False) -> str:
    """The GGUF type of a tensor of that shape and stored type.

    Vectors (norms, biases) stay f32: llama.cpp computes with them as they are.

    Raises:
        OutputError: the stored type holds no floats.
    """
    if stored not in _STORED and not (dtype == "auto" and is_block(stored)):
        raise OutputError(
            "dtype-not-exportable", f"weights of type {stored} cannot be written as GGUF", expected=", ".join(_STORED)
        )
    if len(shape) == 1:
        return "F32"
    if dtype == "auto":
        return _STORED.get(stored, stored)
    scheme = SCHEMES[dtype]
    name = scheme.head if head else scheme.more if more else scheme.most
    while shape[-1] % block(name)[0]:
        name = _FALLBACK[name]
    return name


def block(name: str) -> tuple[int, int]:
    """How many numbers a block of that type holds, and how many bytes it takes."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    sizes: tuple[int, int] = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    return sizes


def is_block(name: str) -> bool:
    """Whether a type is one of GGUF's own: codes of several numbers in a block."""
    from gguf import GGMLQuantizationType

    return name in GGMLQuantizationType.__members__ and block(name)[0] > 1


def nbytes(name: str, shape: tuple[int, ...]) -> int:
    """How many bytes a tensor takes."""
    numbers, size = block(name)
    return int(np.prod(shape, dtype=np.int64)) // numbers * size


def encode(bits: Bits, stored: str, name: str, tensor: str) -> npt.NDArray[Any]:
    """Rows of a tensor in GGUF type ``name``, ready to be written.

    Raises:
        OutputError: a NaN or infinite number, or one that the type cannot hold.
    """
    if is_block(stored) and stored == name:
        return np.ascontiguousarray(bits)
    values = to_float32(bits, stored)
    _check(values, name, tensor)
    if stored == name:
        return np.ascontiguousarray(bits)
    if name == "F32":
        return values
    with np.errstate(over="ignore"):
        return _by_ggml(values, name) if name in _BY_GGML else _by_gguf(values, name)


def _check(values: Float32, name: str, tensor: str) -> None:
    """Refuse numbers that no engine can compute with, or that the type would turn into such, or all into zeros."""
    if not np.isfinite(values).all():
        hint = "the weights are damaged, fetch them again"
        raise OutputError("weights-not-finite", f"{tensor} holds NaN or infinite values", hint=hint)
    if name in _WIDE or not values.size:
        return
    peak, hint = float(np.abs(values).max()), f"set {named('dtype')} to bf16 or f32"
    scale = "f16" if name == "F16" else f"the scales of {name.lower()}"
    if peak > _F16_MOST:
        raise OutputError(
            "dtype-too-narrow", f"{tensor} holds numbers beyond {_F16_MOST}, where {scale} ends", hint=hint
        )
    # A scale is at least a 127th of the largest number of its block.
    if 0 < peak < _F16_LEAST * (1 if name == "F16" else 127):
        problem = f"{tensor} holds numbers up to {peak:.2g} only, of which {scale} would make zeros"
        raise OutputError("dtype-too-narrow", problem, hint=hint)


def _by_gguf(values: Float32, name: str) -> npt.NDArray[Any]:
    from gguf import GGMLQuantizationType
    from gguf.quants import quantize

    encoded: npt.NDArray[Any] = quantize(values, GGMLQuantizationType[name])
    return encoded


def check_quantiser(dtype: str) -> None:
    """Make sure before anything is written that what ``dtype`` needs is there.

    Raises:
        MissingExtraError: neither xllamacpp nor llama-cpp-python is installed.
    """
    if dtype in SCHEMES and SCHEMES[dtype].most in _BY_GGML and not _ggml():
        raise MissingExtraError(f"writing {dtype}", "xllamacpp (or llama-cpp-python)", "llamacpp")


def _by_ggml(values: Float32, name: str) -> npt.NDArray[Any]:
    from gguf import GGMLQuantizationType

    quantise = _ggml()
    assert quantise is not None
    rows, width = values.reshape(-1, values.shape[-1]).shape
    out = np.empty(nbytes(name, values.shape), np.uint8)
    values = np.ascontiguousarray(values)
    pointers = values.ctypes.data, out.ctypes.data
    written = quantise(int(GGMLQuantizationType[name]), *pointers, 0, rows, width, None)
    if written != out.nbytes:
        raise OutputError("ggml-wrong", f"ggml wrote {written} bytes as {name}", expected=f"{out.nbytes}")
    return out


@cache
def _ggml() -> Callable[..., int] | None:
    """``size_t ggml_quantize_chunk(type, src, dst, start, nrows, n_per_row, imatrix)`` out of an installed package."""
    for package, pattern in _LIBRARIES:
        spec = find_spec(package)
        for file in sorted(Path(spec.origin).parent.glob(pattern)) if spec and spec.origin else ():
            function = getattr(ctypes.CDLL(str(file)), "ggml_quantize_chunk", None)
            if function is not None:
                function.restype = ctypes.c_size_t
                pointer, whole = ctypes.c_void_p, ctypes.c_int64
                function.argtypes = [ctypes.c_int, pointer, pointer, whole, whole, whole, pointer]
                found: Callable[..., int] = function
                return found
    return None

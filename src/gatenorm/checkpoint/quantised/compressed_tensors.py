"""compressed-tensors: integers and floats of up to 8 bits, as llm-compressor writes them for vLLM.

``weight`` [out, in] holds int8 or fp8, or ``weight_packed`` [out, words] codes of fewer bits in a stream along the
inputs, stored plus ``2**(bits - 1)``; ``weight_shape`` is then the shape. ``weight_scale`` is one number, one a row
([out, 1]), a group of inputs ([out, groups]) or a block; ``weight_zero_point`` is as large, and packed along the
outputs beside packed weights; ``weight_g_idx`` [in] is the group of each input.
``w = scale * (q - zero)``.

Source: the ``int-quantized``, ``float-quantized``, ``naive-quantized`` and ``pack-quantized`` compressors of the
compressed-tensors package.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from gatenorm.checkpoint.dtypes import STORAGE_TYPES, Float32, to_float32
from gatenorm.checkpoint.packed_codes import bits_of, scale_blocks, unpacked
from gatenorm.checkpoint.quantisation import Parts, Quantisation, Settings

_FORMATS = ("int-quantized", "float-quantized", "naive-quantized", "pack-quantized")
_SCALE, _ZERO, _PACKED, _INDEX = ".weight_scale", ".weight_zero_point", ".weight_packed", ".weight_g_idx"


def _groups(settings: Settings) -> list[Mapping[str, Any]]:
    groups = settings.get("config_groups")
    return [g for g in groups.values() if isinstance(g, Mapping)] if isinstance(groups, Mapping) else []


def _recognises(settings: Settings) -> bool:
    # The format of the whole says no more than "mixed-precision" where groups have their own.
    groups = [str(group["format"]) for group in _groups(settings) if group.get("format")]
    formats = groups or [str(settings.get("format"))]
    sparse = settings.get("sparsity_config")
    dense = not sparse or (isinstance(sparse, Mapping) and sparse.get("format") == "dense")
    named = settings.get("quant_method") == "compressed-tensors"
    # Transforms, such as rotations, are applied to activations too: what is stored is then another weight.
    plain = not settings.get("transform_config")
    return named and dense and plain and all(name in _FORMATS for name in formats)


def _shape(parts: Parts) -> tuple[int, ...]:
    if _PACKED not in parts:
        return parts.shape(".weight")
    kind = STORAGE_TYPES[parts.spec(".weight_shape").dtype].numpy
    out, inputs = np.frombuffer(parts.description(".weight_shape"), kind).tolist()
    if out != parts.shape(_PACKED)[0] or inputs < 1:
        raise parts.wrong(f"weight_shape says {[out, inputs]}", f"{parts.shape(_PACKED)[0]} rows")
    return out, inputs


def _said(parts: Parts, key: str) -> list[Any]:
    """What the groups say of their weights."""
    return [scheme.get(key) for group in _groups(parts.settings) if isinstance(scheme := group.get("weights"), Mapping)]


def _block(parts: Parts, shape: tuple[int, ...], scales: Float32) -> tuple[int, int]:
    """Rows and columns that share a scale: as the settings say it of blocks and groups, else all alike."""
    groups = [(1, size) for size in _said(parts, "group_size") if type(size) is int and size > 0]
    for block in (*_said(parts, "block_structure"), *groups):
        if isinstance(block, list | tuple):
            rows, columns = map(int, block)
            if scales.shape == (-(-shape[0] // rows), -(-shape[1] // columns)):
                return rows, columns
    if scales.shape[0] not in (1, shape[0]) or shape[1] % scales.shape[1]:
        raise parts.wrong(f"it has scales of shape {list(scales.shape)}", "one, or one for each row, group or block")
    return shape[0] // scales.shape[0], shape[1] // scales.shape[1]


def _float32(parts: Parts, rows: slice) -> Float32:
    shape = _shape(parts)
    scales = parts.float32(_SCALE)
    scales = scales.reshape(scales.shape[0] if scales.ndim else 1, -1)
    bits = 0
    if _PACKED in parts:
        words = parts.raw(_PACKED, rows)
        # Words are filled to the last but one: the next number of bits that is whole is theirs.
        bits = 32 * words.shape[1] // shape[1] if shape[1] >= 32 else bits_of(words.shape[1], shape[1])
        parts.check_bits(bits, *_said(parts, "num_bits"))
        parts.check_shape(_PACKED, (shape[0], -(-shape[1] * bits // 32)))
        values = unpacked(words, bits)[:, : shape[1]].astype(np.float32)
        values -= 1 << (bits - 1)
    else:
        stored = parts.raw(".weight", rows)
        dtype = parts.spec(".weight").dtype
        if dtype != "I8" and not dtype.startswith("F8_"):
            raise parts.wrong(f"it has scales, and a weight of type {dtype}", "I8 or 8-bit floats")
        values = stored.astype(np.float32) if dtype == "I8" else to_float32(stored, dtype)
    zeros = _zeros(parts, bits, scales.shape) if _ZERO in parts else None
    symmetric = _said(parts, "symmetric")
    if zeros is None and symmetric and all(one is False for one in symmetric):
        raise parts.wrong("it has no zeros", f"{_ZERO}, as config.json says that codes are not symmetric")
    if zeros is not None and zeros.shape != scales.shape:
        raise parts.wrong(f"it has zeros of shape {list(zeros.shape)}", f"{list(scales.shape)}, as its scales")
    if _INDEX in parts and parts.raw(_INDEX).max() >= 0:  # filled with -1 where groups are runs of inputs
        groups = parts.group_index(_INDEX, shape[1], scales.shape[1])
        values -= 0 if zeros is None else zeros[rows][:, groups]
        values *= scales[rows][:, groups]
    else:
        scale_blocks(values, scales, _block(parts, shape, scales), rows.start, zeros)
    return values


def _zeros(parts: Parts, bits: int, shape: tuple[int, ...]) -> Float32:
    stored = parts.raw(_ZERO)
    if not bits or parts.spec(_ZERO).dtype != "I32":
        return stored.astype(np.float32).reshape(shape)
    codes = unpacked(stored.T, bits)[:, : shape[0]].T
    return codes.astype(np.float32) - (1 << (bits - 1))


QUANTISATION = Quantisation(
    summary="compressed-tensors: integers or floats of up to 8 bits",
    recognises=_recognises,
    markers=(_SCALE,),
    parts=(
        *(".weight", _PACKED, _SCALE, _ZERO, ".weight_shape", _INDEX),
        *(".input_scale", ".input_zero_point", ".output_scale", ".output_zero_point"),
    ),
    shape=_shape,
    float32=_float32,
    loads_with="transformers with compressed-tensors",
)

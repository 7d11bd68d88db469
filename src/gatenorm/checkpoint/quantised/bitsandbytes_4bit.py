"""bitsandbytes in 4 bits (nf4, fp4): codes into a table of sixteen values, with a scale for each block of weights.

``weight`` holds two codes a byte, the high nibble first, of the matrix [out, in] read along its rows. A
``weight.quant_state.bitsandbytes__nf4`` (or fp4) holds JSON: ``shape``, ``blocksize``; ``weight.quant_map`` the table,
``weight.absmax`` the scales. With nested scales these are codes of 8 bits themselves:
``absmax = nested_quant_map[code] * nested_absmax[block] + nested_offset`` in blocks of ``nested_blocksize``.

Source: ``QuantState`` and the 4-bit kernels of bitsandbytes.
"""

from typing import Any

import numpy as np

from gatenorm.checkpoint.dtypes import Float32
from gatenorm.checkpoint.packed_codes import unpacked
from gatenorm.checkpoint.quantisation import Parts, Quantisation, Settings
from gatenorm.files import SMALL, parse_json

_STATES = (".weight.quant_state.bitsandbytes__nf4", ".weight.quant_state.bitsandbytes__fp4")
_ABSMAX, _NESTED, _NESTED_MAP = ".weight.absmax", ".weight.nested_absmax", ".weight.nested_quant_map"

_BLOCKS = tuple(1 << power for power in range(4, 17))


def _recognises(settings: Settings) -> bool:
    named = settings.get("quant_method") in ("bitsandbytes", "bitsandbytes_4bit", None)
    return named and bool(settings.get("load_in_4bit") or settings.get("_load_in_4bit"))


def _state(parts: Parts) -> dict[str, Any]:
    ending = next((name for name in _STATES if name in parts), _STATES[0])
    found: dict[str, Any] = parse_json(parts.description(ending), SMALL)
    return found


def _shape(parts: Parts) -> tuple[int, ...]:
    out, inputs = _state(parts)["shape"]
    if not 0 < out * inputs <= 2 * parts.spec(".weight").nbytes < out * inputs + 2:
        raise parts.wrong(f"its state says shape {[out, inputs]}", f"{2 * parts.spec('.weight').nbytes:,} weights")
    return out, inputs


def _float32(parts: Parts, rows: slice) -> Float32:
    state, inputs = _state(parts), _shape(parts)[1]
    size = _block(parts, state, "blocksize")
    parts.check_shape(".weight.quant_map", (16,))
    begin, end = rows.start * inputs, rows.stop * inputs
    first, last = begin // size, -(-end // size)  # blocks, which may begin in the middle of a row
    packed = parts.raw(".weight", slice(first * size // 2, -(-last * size // 2))).reshape(-1)
    codes = unpacked(packed, 4).reshape(-1, 2)[:, ::-1].reshape(-1)
    values: Float32 = parts.float32(".weight.quant_map")[codes]
    blocks = -(-parts.spec(".weight").nbytes * 2 // size)
    parts.check_shape(_ABSMAX, (blocks,), (blocks, 1))
    scales = np.repeat(_absmax(parts, state).reshape(-1)[first:last], size)[: len(values)]
    values *= scales
    return values[begin - first * size : end - first * size].reshape(-1, inputs)


def _block(parts: Parts, state: dict[str, Any], key: str) -> int:
    size = state[key]
    if type(size) is not int or size not in _BLOCKS:
        raise parts.wrong(f"its state says {key} {size!r:.40}", f"a power of two up to {_BLOCKS[-1]}")
    return size


def _absmax(parts: Parts, state: dict[str, Any]) -> Float32:
    if _NESTED not in parts:
        return parts.float32(_ABSMAX)
    codes, size = parts.raw(_ABSMAX).reshape(-1), _block(parts, state, "nested_blocksize")
    parts.check_shape(_NESTED, (-(-len(codes) // size),))
    parts.check_shape(_NESTED_MAP, (256,))
    scales = np.repeat(parts.float32(_NESTED)[: -(-len(codes) // size)], size)[: len(codes)]
    absmax: Float32 = parts.float32(_NESTED_MAP)[codes] * scales + np.float32(state["nested_offset"])
    return absmax


QUANTISATION = Quantisation(
    summary="bitsandbytes, 4 bits",
    recognises=_recognises,
    markers=(_ABSMAX,),
    parts=(".weight", _ABSMAX, ".weight.quant_map", _NESTED, _NESTED_MAP, *_STATES),
    shape=_shape,
    float32=_float32,
    loads_with="transformers with bitsandbytes",
)

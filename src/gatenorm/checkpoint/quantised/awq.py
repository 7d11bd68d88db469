"""AWQ: integers of 4 bits, with a scale and a zero for each group of inputs.

``qweight`` [in, out / 8] and ``qzeros`` [groups, out / 8] hold codes packed along the outputs, ``scales`` [groups, out]
floats. The nibbles of a word, lowest first, are its outputs 0, 2, 4, 6, 1, 3, 5, 7.
``w[o, i] = scales[g, o] * (q[i, o] - zeros[g, o])`` with ``g = i // group_size``.

Source: AutoAWQ's ``WQLinear_GEMM``.
"""

import numpy as np

from gatenorm.checkpoint.dtypes import Bits, Float32
from gatenorm.checkpoint.packed_codes import Codes, scale_blocks, unpacked
from gatenorm.checkpoint.quantisation import Parts, Quantisation, Settings

# In which nibble each output of a word lies.
_NIBBLES = (0, 4, 1, 5, 2, 6, 3, 7)


def _recognises(settings: Settings) -> bool:
    method, version = settings.get("quant_method"), str(settings.get("version", settings.get("format", "gemm")))
    packed = str(settings.get("packing_format")).endswith("awq")
    return (method == "awq" and version.lower() == "gemm") or (method == "auto-round" and packed)


def _shape(parts: Parts) -> tuple[int, ...]:
    inputs, words = parts.shape(".qweight")
    return 8 * words, inputs


def _codes(packed: Bits) -> Codes:
    return unpacked(packed, 4).reshape(len(packed), -1, 8)[:, :, _NIBBLES].reshape(len(packed), -1)


def _float32(parts: Parts, rows: slice) -> Float32:
    words = slice(rows.start // 8, -(-rows.stop // 8))
    within = slice(rows.start - 8 * words.start, rows.stop - 8 * words.start)
    out, inputs = _shape(parts)
    groups = parts.shape(".scales")[0]
    parts.check_shape(".scales", (groups, out))
    parts.check_bits(4, parts.settings.get("bits"))
    size = parts.group_size(inputs, groups)
    values = _codes(parts.raw(".qweight")[:, words])[:, within].T.astype(np.float32)
    zeros = _codes(parts.raw(".qzeros")[:, words])[:, within].T
    scales = parts.float32(".scales")[:, rows].T
    scale_blocks(values, scales, (1, size), zeros=zeros)
    return values


QUANTISATION = Quantisation(
    summary="AWQ: integers of 4 bits, packed along the outputs",
    recognises=_recognises,
    markers=(".qweight",),
    parts=(".qweight", ".qzeros", ".scales"),
    shape=_shape,
    float32=_float32,
    loads_with="transformers with gptqmodel",
)

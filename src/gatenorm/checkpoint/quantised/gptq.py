"""GPTQ: integers of 2 to 8 bits, with a scale and a zero for each group of inputs.

``qweight`` [in * bits / 32, out] holds codes packed along the inputs, ``scales`` [groups, out] floats, ``qzeros``
[groups, out * bits / 32] codes packed along the outputs, ``g_idx`` [in] the group of each input; without it groups are
runs of inputs. ``w[o, i] = scales[g, o] * (q[i, o] - zeros[g, o])`` with ``g = g_idx[i]``. Zeros are stored less one,
modulo ``2**bits``, unless ``checkpoint_format`` is ``gptq_v2``.

Source: AutoGPTQ's and GPT-QModel's linear layers.
"""

import numpy as np

from gatenorm.checkpoint.dtypes import Float32
from gatenorm.checkpoint.packed_codes import bits_of, unpacked
from gatenorm.checkpoint.quantisation import Parts, Quantisation, Settings


def _recognises(settings: Settings) -> bool:
    method, packed = settings.get("quant_method"), str(settings.get("packing_format"))
    known = settings.get("checkpoint_format", "gptq") in ("gptq", "gptq_v2", "")
    return (method == "gptq" and known) or (method == "auto-round" and packed.endswith("gptq"))


def _bits(parts: Parts) -> int:
    return bits_of(parts.shape(".qzeros")[1], parts.shape(".scales")[1])


def _shape(parts: Parts) -> tuple[int, ...]:
    words, out = parts.shape(".qweight")
    return out, 32 * words // _bits(parts)


def _float32(parts: Parts, rows: slice) -> Float32:
    bits, (out, inputs) = _bits(parts), _shape(parts)
    groups = parts.shape(".scales")[0]
    parts.check_bits(bits, parts.settings.get("bits"))
    parts.check_shape(".scales", (groups, out))
    parts.check_shape(".qzeros", (groups, out * bits // 32))
    codes = unpacked(parts.raw(".qweight")[:, rows].T, bits)
    zeros = unpacked(parts.raw(".qzeros"), bits)[:, rows]
    if parts.settings.get("checkpoint_format") != "gptq_v2":
        zeros = (zeros + np.uint8(1)) & np.uint8((1 << bits) - 1)
    scales = parts.float32(".scales")[:, rows]
    values = codes.astype(np.float32)
    group_of = parts.group_index(".g_idx", inputs, groups)
    if group_of is None:
        group_of = np.arange(inputs) // parts.group_size(inputs, groups)
    for group in range(groups):
        of_group = np.flatnonzero(group_of == group)
        values[:, of_group] = (values[:, of_group] - zeros[group, :, None]) * scales[group, :, None]
    return values


QUANTISATION = Quantisation(
    summary="GPTQ: integers, packed along the inputs",
    recognises=_recognises,
    markers=(".qweight",),
    parts=(".qweight", ".qzeros", ".scales", ".g_idx"),
    shape=_shape,
    float32=_float32,
    loads_with="transformers with gptqmodel",
)

"""MXFP4, as gpt-oss stores its experts: 4-bit floats with a power of two for every 32 of them.

``NAME_blocks`` [experts, out, groups, 16] holds two e2m1 codes a byte, the low nibble first, ``NAME_scales``
[experts, out, groups] exponents plus 127. The weight ``NAME`` is [experts, 32 * groups, out]. Attention is stored as it
is, so that no criterion reads these.

Source: OCP Microscaling Formats 1.0; ``convert_moe_packed_tensors`` of transformers.
"""

import numpy as np

from gatenorm.checkpoint.dtypes import Float32
from gatenorm.checkpoint.packed_codes import E2M1, unpacked
from gatenorm.checkpoint.quantisation import Parts, Quantisation


def _shape(parts: Parts) -> tuple[int, ...]:
    experts, out, groups, half = parts.shape("_blocks", 4)
    return experts, 2 * half * groups, out


def _float32(parts: Parts, rows: slice) -> Float32:
    experts, out, groups, half = parts.shape("_blocks", 4)
    parts.check_shape("_scales", (experts, out, groups))
    if half != 16:
        raise parts.wrong(f"its blocks have {2 * half} numbers", "32")
    values = E2M1[unpacked(parts.raw("_blocks", rows), 4)]
    exponents = parts.raw("_scales", rows).astype(np.int32) - 127
    values = np.ldexp(values, exponents[..., None])
    return values.reshape(*values.shape[:2], -1).swapaxes(1, 2)


QUANTISATION = Quantisation(
    summary="MXFP4: 4-bit floats with powers of two",
    recognises=lambda settings: settings.get("quant_method") == "mxfp4",
    markers=("_blocks",),
    parts=("_blocks", "_scales"),
    shape=_shape,
    float32=_float32,
    weight="",
)

"""bitsandbytes in 8 bits: integers with a scale for each row.

``weight`` [out, in] holds int8, ``SCB`` [out] the largest absolute value of each row: ``w = weight * SCB / 127``.

Source: ``Linear8bitLt`` of bitsandbytes.
"""

import numpy as np

from gatenorm.checkpoint.dtypes import Float32
from gatenorm.checkpoint.quantisation import Parts, Quantisation, Settings


def _recognises(settings: Settings) -> bool:
    named = settings.get("quant_method") in ("bitsandbytes", "bitsandbytes_8bit", None)
    return named and bool(settings.get("load_in_8bit") or settings.get("_load_in_8bit"))


def _float32(parts: Parts, rows: slice) -> Float32:
    if ".weight_format" in parts and parts.raw(".weight_format").any():
        raise parts.wrong("its rows are stored in the order of a GPU's tiles", "weight_format 0, rows as they are")
    out = parts.shape(".weight")[0]
    parts.check_shape(".SCB", (out,), (out, 1), (1, out))
    if parts.spec(".weight").dtype != "I8":
        raise parts.wrong(f"it has scales, and a weight of type {parts.spec('.weight').dtype}", "I8")
    scales = parts.float32(".SCB").reshape(-1)[rows] / np.float32(127)
    return parts.raw(".weight", rows).astype(np.float32) * scales[:, None]


QUANTISATION = Quantisation(
    summary="bitsandbytes, 8 bits",
    recognises=_recognises,
    markers=(".SCB",),
    parts=(".weight", ".SCB", ".weight_format"),
    float32=_float32,
    loads_with="transformers with bitsandbytes",
)

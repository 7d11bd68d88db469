"""A quantisation: ``half`` holds a weight divided by two."""

from __future__ import annotations

from gatenorm.checkpoint.quantisation import Quantisation

QUANTISATION = Quantisation(
    summary="weights divided by two",
    recognises=lambda settings: settings.get("quant_method") == "halved",
    markers=(".half",),
    parts=(".half",),
    shape=lambda parts: parts.shape(".half"),
    float32=lambda parts, rows: 2 * parts.float32(".half", rows),
)

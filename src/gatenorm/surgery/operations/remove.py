"""Removal: the sublayer adds nothing to the residual stream, ``update(x) = 0``; it costs and stores nothing."""

from __future__ import annotations

from gatenorm.surgery.operation import ExportEntry, Operation

OPERATION = Operation(
    summary="remove the sublayer",
    exports={
        "nemotron-nas": ExportEntry({"no_op": True}),
        # llama.cpp reads a layer without key/value heads as one without attention.
        "gguf": ExportEntry({"head_count": 0, "head_count_kv": 0}),
    },
)

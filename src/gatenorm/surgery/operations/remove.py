"""Removal: the sublayer adds nothing to the residual stream, ``update(x) = 0``; it costs and stores nothing."""

from gatenorm.surgery.operation import Operation

OPERATION = Operation(summary="remove the sublayer", participle="removed")

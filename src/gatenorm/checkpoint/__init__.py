"""Checkpoints: names, shapes, dtypes and lazy reads of tensors. Knows nothing of attention."""

from gatenorm.checkpoint.checkpoint import Checkpoint
from gatenorm.checkpoint.dtypes import to_float32
from gatenorm.checkpoint.header import TensorInfo, parse_header, write_header
from gatenorm.checkpoint.hub import cached, hub_id, local_path, locate

__all__ = [
    "Checkpoint",
    "TensorInfo",
    "cached",
    "hub_id",
    "local_path",
    "locate",
    "parse_header",
    "to_float32",
    "write_header",
]

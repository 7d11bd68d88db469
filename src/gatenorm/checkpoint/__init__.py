"""Checkpoints: names, shapes, types and lazy reads of tensors, in any format. Knows nothing of attention."""

from gatenorm.checkpoint.dialect import Dialect
from gatenorm.checkpoint.dtypes import to_float32
from gatenorm.checkpoint.hub import cached, hub_id, local_path, locate
from gatenorm.checkpoint.opening import open_store
from gatenorm.checkpoint.parts import NewTensor
from gatenorm.checkpoint.store import TensorSpec, TensorStore

__all__ = [
    "Dialect",
    "NewTensor",
    "TensorSpec",
    "TensorStore",
    "cached",
    "hub_id",
    "local_path",
    "locate",
    "open_store",
    "to_float32",
]

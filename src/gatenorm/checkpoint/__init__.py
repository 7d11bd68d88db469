"""Checkpoints: names, shapes, types and lazy reads of tensors, in any format. Knows nothing of attention."""

from gatenorm.checkpoint.dialect import Dialect as Dialect, FormatNames as FormatNames
from gatenorm.checkpoint.dtypes import to_float32 as to_float32
from gatenorm.checkpoint.hub import cached as cached, hub_id as hub_id, local_path as local_path, locate as locate
from gatenorm.checkpoint.opening import open_store as open_store
from gatenorm.checkpoint.parts import NewTensor as NewTensor
from gatenorm.checkpoint.store import (
    GGUF as GGUF,
    TRANSFORMERS as TRANSFORMERS,
    ModelConfig as ModelConfig,
    TensorSpec as TensorSpec,
    TensorStore as TensorStore,
)

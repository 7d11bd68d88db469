"""Families: what each architecture calls its tensors and how q, k, v and o are cut out of them."""

from gatenorm.families.attention import AttentionWeights, Projection
from gatenorm.families.detection import detect_layout, named_like, refuse_dropped
from gatenorm.families.family import counted_layers, families, family, mlp_modules, refusal
from gatenorm.families.latent import attention_weights
from gatenorm.families.layout import Layout
from gatenorm.families.per_layer import keep_entries
from gatenorm.families.rotary import Rotary

__all__ = [
    "AttentionWeights",
    "Layout",
    "Projection",
    "Rotary",
    "attention_weights",
    "counted_layers",
    "detect_layout",
    "families",
    "family",
    "keep_entries",
    "mlp_modules",
    "named_like",
    "refusal",
    "refuse_dropped",
]

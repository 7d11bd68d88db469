"""Families: what each architecture calls its tensors and how q, k, v and o are cut out of them."""

from gatenorm.families.attention import AttentionWeights, Projection
from gatenorm.families.family import classes, families, family, refusal
from gatenorm.families.layout import Layout, detect_layout
from gatenorm.families.per_layer import keep_entries
from gatenorm.families.rotary import Rotary
from gatenorm.families.sublayers import mlp_modules

__all__ = [
    "AttentionWeights",
    "Layout",
    "Projection",
    "Rotary",
    "classes",
    "detect_layout",
    "families",
    "family",
    "keep_entries",
    "mlp_modules",
    "refusal",
]

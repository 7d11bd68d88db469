"""Families: what each architecture calls its tensors and how q, k, v and o are cut out of them."""

from gatenorm.families.attention import AttentionWeights, Projection
from gatenorm.families.family import classes, families, family, refusal
from gatenorm.families.layout import PRUNED_PREFIX, PRUNED_SCHEMA, Layout, understand
from gatenorm.families.per_layer import keep_entries
from gatenorm.families.rotary import Rotary

__all__ = [
    "PRUNED_PREFIX",
    "PRUNED_SCHEMA",
    "AttentionWeights",
    "Layout",
    "Projection",
    "Rotary",
    "classes",
    "families",
    "family",
    "keep_entries",
    "refusal",
    "understand",
]

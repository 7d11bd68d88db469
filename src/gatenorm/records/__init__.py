"""What travels between the steps: small frozen records with versioned JSON, and nothing else.

``scores.json`` holds :class:`Scores`, ``plan.json`` and the ``gatenorm.json`` of every pruned directory hold a
:class:`Plan`, measurements are :class:`Evidence`. A schema version that this release does not know is refused by name.
"""

from gatenorm.records.evidence import EVIDENCE_SCHEMA, WARNING_SCHEMA, Evidence, FailureSignature
from gatenorm.records.identity import ModelIdentity
from gatenorm.records.plan import PLAN_SCHEMA, PLAN_SCHEMA_2, Plan
from gatenorm.records.removal import ATTENTION, BLOCK, KINDS, MLP, SINGULAR, Removal
from gatenorm.records.scores import SCORES_SCHEMA, LayerScore, Scores
from gatenorm.records.validation import check_schema, read_json, spans

__all__ = [
    "ATTENTION",
    "BLOCK",
    "EVIDENCE_SCHEMA",
    "KINDS",
    "MLP",
    "PLAN_SCHEMA",
    "PLAN_SCHEMA_2",
    "SCORES_SCHEMA",
    "SINGULAR",
    "WARNING_SCHEMA",
    "Evidence",
    "FailureSignature",
    "LayerScore",
    "ModelIdentity",
    "Plan",
    "Removal",
    "Scores",
    "check_schema",
    "read_json",
    "spans",
]

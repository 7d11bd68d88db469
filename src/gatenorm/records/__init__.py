"""What travels between the steps: small frozen records with versioned JSON, and nothing else.

``scores.json`` holds :class:`Scores`, ``plan.json`` and the ``gatenorm.json`` of every pruned directory hold a
:class:`Plan`, measurements are :class:`Evidence`. A schema version that this release does not know is refused by name.
"""

from gatenorm.records.evidence import EVIDENCE_SCHEMA, WARNING_SCHEMA, Evidence, FailureSignature
from gatenorm.records.fields import check_schema, read_json, spans
from gatenorm.records.identity import ModelIdentity
from gatenorm.records.plan import PLAN_SCHEMA, Plan
from gatenorm.records.scores import SCORES_SCHEMA, LayerScore, Scores

__all__ = [
    "EVIDENCE_SCHEMA",
    "PLAN_SCHEMA",
    "SCORES_SCHEMA",
    "WARNING_SCHEMA",
    "Evidence",
    "FailureSignature",
    "LayerScore",
    "ModelIdentity",
    "Plan",
    "Scores",
    "check_schema",
    "read_json",
    "spans",
]

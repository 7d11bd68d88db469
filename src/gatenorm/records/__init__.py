"""What travels between the steps: small frozen records with versioned JSON, and nothing else.

``scores.json`` holds :class:`Scores`, ``plan.json`` and the ``gatenorm.json`` of every pruned directory hold a
:class:`Plan`, measurements are :class:`Evidence`. A schema that this release does not know is refused by name.
"""

from gatenorm.records.edit import (
    ANY,
    ATTENTION,
    BLOCK,
    KINDS,
    MLP,
    NAMES,
    REMOVE,
    SINGULAR,
    SUBLAYERS,
    Edit,
    Edits,
    Kind,
    Layer,
    Sublayer,
    spans,
)
from gatenorm.records.evidence import Diagnostic, Evidence
from gatenorm.records.identity import ModelIdentity
from gatenorm.records.plan import Plan
from gatenorm.records.pruned import PRUNED_PREFIX, OperationRecord, PrunedRecord
from gatenorm.records.scores import LayerScore, Scores
from gatenorm.records.serialization import Record, Value, from_json, read_json, read_record, to_json
from gatenorm.records.table import Results, Table

__all__ = [
    "ANY",
    "ATTENTION",
    "BLOCK",
    "KINDS",
    "MLP",
    "NAMES",
    "PRUNED_PREFIX",
    "REMOVE",
    "SINGULAR",
    "SUBLAYERS",
    "Diagnostic",
    "Edit",
    "Edits",
    "Evidence",
    "Kind",
    "Layer",
    "LayerScore",
    "ModelIdentity",
    "OperationRecord",
    "Plan",
    "PrunedRecord",
    "Record",
    "Results",
    "Scores",
    "Sublayer",
    "Table",
    "Value",
    "from_json",
    "read_json",
    "read_record",
    "spans",
    "to_json",
]

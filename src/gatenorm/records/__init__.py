"""What travels between the steps: small frozen records with versioned JSON, and nothing else.

``scores.json`` holds :class:`Scores`, ``plan.json`` and the ``gatenorm.json`` of every pruned directory hold a
:class:`Plan`, measurements are :class:`Evidence`. A schema that this release does not know is refused by name.
"""

from gatenorm.records.edit import (
    ANY as ANY,
    ATTENTION as ATTENTION,
    BLOCK as BLOCK,
    KINDS as KINDS,
    MLP as MLP,
    NAMES as NAMES,
    REMOVE as REMOVE,
    SINGULAR as SINGULAR,
    SUBLAYERS as SUBLAYERS,
    Edit as Edit,
    Edits as Edits,
    Kind as Kind,
    Layer as Layer,
    Sublayer as Sublayer,
    spans as spans,
)
from gatenorm.records.evidence import Diagnostic as Diagnostic, Evidence as Evidence
from gatenorm.records.identity import ModelIdentity as ModelIdentity
from gatenorm.records.plan import Plan as Plan
from gatenorm.records.pruned import (
    PRUNED_PREFIX as PRUNED_PREFIX,
    BlockRecord as BlockRecord,
    BlockShape as BlockShape,
    OperationRecord as OperationRecord,
    PrunedRecord as PrunedRecord,
    RecoverySummary as RecoverySummary,
)
from gatenorm.records.scores import LayerScore as LayerScore, Scores as Scores
from gatenorm.records.serialization import (
    Record as Record,
    Value as Value,
    from_json as from_json,
    read_json as read_json,
    read_record as read_record,
    to_json as to_json,
)
from gatenorm.records.table import Results as Results, Table as Table
from gatenorm.records.written import Written as Written

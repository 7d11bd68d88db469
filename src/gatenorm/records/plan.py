"""What is to be changed, and why: ``plan.json`` and the ``gatenorm.json`` of every pruned directory.

A pruned model is read by the plan in its ``config.json``; ``gatenorm.json`` is a copy, for people and to prune by.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from msgspec import structs

from gatenorm.records.edit import ATTENTION, REMOVE, Choice, Edits, Layer
from gatenorm.records.fit import FitRecord
from gatenorm.records.identity import ModelIdentity
from gatenorm.records.scores import Scores
from gatenorm.records.serialization import Record, from_json, read_json
from gatenorm.records.table import Row


class Plan(Record, frozen=True, tag="gatenorm/plan/1"):
    """The edits that lead from an unpruned model to a pruned one, in original 0-based layers, and why.

    ``edits`` is complete: when a pruned checkpoint is pruned again it holds the old edits and the new ones, and
    ``previous`` is the plan that came before, without what came before that. ``kind`` says what the scores chose among;
    for ``any``, ``scores`` are of attentions and ``mlp_scores`` of MLPs. ``model`` identifies the checkpoint that the
    plan was made for. ``fit`` says how the tensors of its fitted operations came about.
    """

    model: ModelIdentity
    edits: Edits
    criterion: str | None = None
    scores: Scores | None = None
    protect: tuple[Layer, ...] = ()
    previous: Plan | None = None
    version: str = ""
    kind: Choice = ATTENTION
    fit: FitRecord | None = None
    mlp_scores: Scores | None = None

    def rows(self) -> Iterator[Row]:
        """A row for each edit."""
        for edit in self.edits:
            yield {"layer": edit.layer, "sublayer": edit.sublayer, "operation": edit.operation}

    @property
    def added(self) -> Edits:
        """What this plan adds to ``previous``."""
        return self.edits - self.previous.edits if self.previous else self.edits

    @property
    def alone(self) -> Plan:
        """This plan as the ``previous`` one of the next: chains of plans would grow with every pruning."""
        return structs.replace(self, previous=None)

    @property
    def replaces(self) -> bool:
        """Whether this plan puts anything in the place of what it takes out."""
        return any(edit.operation != REMOVE for edit in self.added)


def read_plan(path: Path) -> Plan:
    """The plan in a JSON file, without the cross-check that ``gatenorm prune`` may have written beside it.

    Raises:
        RecordError: as :func:`gatenorm.records.read_record`.
    """
    data = read_json(path, "a plan")
    data.pop("cross_check", None)
    return from_json(Plan, data, "a plan", path=path)

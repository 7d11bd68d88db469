"""Comparisons and cross-checks that were written are read back as they were, and others are refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gatenorm
from gatenorm.analysis.comparison import Comparison
from gatenorm.analysis.cross_check import CrossCheck
from gatenorm.criteria.tokens.sources import Calibration
from gatenorm.errors import PlanError

TinyModels = Callable[..., Path]
HOW = Calibration("random", samples=3, length=12)


@pytest.fixture(scope="module")
def written(tiny_models: TinyModels) -> dict[str, Any]:
    laboratory = gatenorm.laboratory(tiny_models("llama-mha"))
    scores = gatenorm.score(laboratory, "depth")
    return {
        "comparison": gatenorm.compare(laboratory, ["gate-norm-heads", "cosine"], calibration=HOW, bound=True),
        "unbound": gatenorm.compare(laboratory, ["gate-norm", "depth", "random"]),
        "cross-check": gatenorm.cross_check(laboratory, scores, 2, calibration=HOW),
    }


@pytest.mark.parametrize("name", ["comparison", "unbound", "cross-check"])
def test_what_was_written_is_read_back(name: str, written: dict[str, Any]):
    record = written[name]
    data = json.loads(json.dumps(record.to_json()))
    assert type(record).from_json(data) == record
    assert type(record).from_json(data).to_json() == data


@pytest.mark.parametrize(("name", "kind"), [("comparison", Comparison), ("cross-check", CrossCheck)])
def test_another_schema_or_a_cut_file_is_refused(name: str, kind: Any, written: dict[str, Any]):
    data = json.loads(json.dumps(written[name].to_json()))
    with pytest.raises(PlanError, match=rf"schema 'gatenorm/{name}/9', expected 'gatenorm/{name}/1'"):
        kind.from_json(data | {"schema": f"gatenorm/{name}/9"})
    with pytest.raises(PlanError, match="lacks the field 'agreements'"):
        kind.from_json({key: value for key, value in data.items() if key != "agreements"})
    with pytest.raises(PlanError, match="holds a field of the wrong type"):
        kind.from_json(data | {"agreements": [1]})

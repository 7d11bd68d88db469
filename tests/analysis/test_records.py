"""Comparisons and cross-checks that were written are read back as they were, and others are refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gatenorm
from gatenorm.calibration.samples import Calibration
from gatenorm.errors import RecordError
from gatenorm.records import from_json, to_json
from gatenorm.records.rankings import CrossCheck, RankingComparison
from tests.errors import refused

TinyModels = Callable[..., Path]
HOW = Calibration("random", samples=3, length=12)


@pytest.fixture(scope="module")
def written(tiny_models: TinyModels) -> dict[str, Any]:
    session = gatenorm.session(tiny_models("llama-mha"))
    scores = gatenorm.score(session, "depth")
    return {
        "comparison": gatenorm.compare(session, ["gate-norm-heads", "cosine"], calibration=HOW, bound=True),
        "unbound": gatenorm.compare(session, ["gate-norm", "depth", "random"]),
        "cross-check": gatenorm.cross_check(session, scores, 2, calibration=HOW),
    }


@pytest.mark.parametrize("name", ["comparison", "unbound", "cross-check"])
def test_what_was_written_is_read_back(name: str, written: dict[str, Any]):
    record = written[name]
    data = json.loads(json.dumps(to_json(record)))
    assert from_json(type(record), data, name) == record
    assert to_json(from_json(type(record), data, name)) == data


@pytest.mark.parametrize(("name", "kind"), [("comparison", RankingComparison), ("cross-check", CrossCheck)])
def test_another_schema_or_a_cut_file_is_refused(name: str, kind: Any, written: dict[str, Any]):
    data = json.loads(json.dumps(to_json(written[name])))
    with refused("schema-unknown", kind=RecordError):
        from_json(kind, data | {"schema": f"gatenorm/{name}/9"}, name)
    with refused("field-missing", "agreements", RecordError):
        from_json(kind, {key: value for key, value in data.items() if key != "agreements"}, name)
    with refused("field-wrong", "agreements[0]", RecordError):
        from_json(kind, data | {"agreements": [1]}, name)

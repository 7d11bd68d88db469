"""Which layers go: by number, by share, by hand, by a plan file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gatenorm import api
from gatenorm.errors import GatenormError, PlanError, RecordError
from gatenorm.records import to_json
from gatenorm.surgery.planning import count_for_share
from tests.errors import refused

TinyModels = Callable[..., Path]


@pytest.mark.parametrize(
    ("share", "layers", "count"), [(0.2, 40, 8), (0.1, 32, 3), (0.1, 4, 1), (0.25, 6, 2), (0.125, 12, 2), (0.01, 16, 1)]
)
def test_a_share_rounds_half_up_and_is_at_least_one(share: float, layers: int, count: int):
    assert count_for_share(share, layers) == count


@pytest.mark.parametrize("share", ["20%", " 20 %", "0.2", 0.2])
def test_a_share_may_be_text(share: float | str):
    assert count_for_share(share, 40) == 8


def test_a_share_in_per_cent_is_told_how_it_is_written():
    with refused("share-out-of-range", "share", PlanError) as raised:
        count_for_share(20, 10)
    assert "0.2" in raised.value.hint


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 20.0, float("nan"), "x", "120%", "", True, None])
def test_a_share_is_between_0_and_1(share: float):
    with refused("share-out-of-range", "share", PlanError):
        count_for_share(share, 10)


def test_the_weakest_go_and_the_protected_stay(tiny_models: TinyModels):
    model = tiny_models("llama-mha")
    ranking = api.score(model).ranking
    assert api.plan(model, layers=2).edits.attention == tuple(sorted(ranking[:2]))
    assert api.plan(model, share=0.4).edits.attention == tuple(sorted(ranking[:2]))
    weakest = ranking[0]
    plan = api.plan(model, layers=2, protect=[weakest])
    assert plan.edits.attention == tuple(sorted(ranking[1:3]))
    assert plan.protect == (weakest,)
    assert plan.scores.ranking == ranking


@pytest.mark.parametrize(
    ("arguments", "code", "field"),
    [
        ({}, None, None),
        ({"layers": 1, "drop": [1]}, None, None),
        ({"layers": 0}, "count-out-of-range", "layers"),
        ({"layers": 4}, "count-out-of-range", "layers"),
        ({"layers": -1}, "count-out-of-range", "layers"),
        ({"layers": 3, "protect": [0, 1]}, "count-out-of-range", "layers"),
        ({"layers": 1, "protect": [9]}, "protected-layer-unknown", "protect"),
        ({"drop": []}, "layers-missing", "drop"),
        ({"drop": [4]}, "layer-unknown", "drop"),
        ({"drop": [-1]}, "layer-unknown", "drop"),
        ({"drop": [True]}, "layer-unknown", "drop"),
        ({"drop": [0, 1, 2, 3]}, "none-would-stay", "drop"),
        ({"drop": [0, 2], "protect": [2]}, "layer-protected", "protect"),
        ({"drop": [0], "criterion": "gate-nrom"}, "criterion-unknown", "criterion"),
        ({"layers": 1, "criterion": "gate-nrom"}, "criterion-unknown", "criterion"),
    ],
)
def test_what_cannot_be_planned_is_refused_in_one_line(
    arguments: dict, code: str | None, field: str | None, tiny_models: TinyModels
):
    with pytest.raises(GatenormError) as raised:
        api.plan(tiny_models("llama-gqa"), **arguments)
    assert code is None or (raised.value.code, raised.value.field) == (code, field)
    assert "\n" not in str(raised.value)


def test_a_refused_count_says_what_is_possible(tiny_models: TinyModels):
    with refused("count-out-of-range", "layers", PlanError):
        api.plan(tiny_models("llama-gqa"), layers=3, protect=[0, 1])


def test_a_plan_file_is_for_the_model_it_was_made_for(tiny_models: TinyModels, tmp_path: Path):
    model, file = tiny_models("llama-gqa"), tmp_path / "plan.json"
    plan = api.plan(model, layers=2)
    file.write_text(json.dumps(to_json(plan)))
    assert api.plan(model, file=file) == plan
    with refused("plan-of-another-model", "plan", PlanError):
        api.plan(tiny_models("mistral"), file=file)
    with refused("layer-protected", "protect", PlanError):
        api.plan(model, file=file, protect=[plan.edits.attention[0]])
    fine_tuned = shutil.copytree(model, tmp_path / "fine-tuned")
    content = bytearray((fine_tuned / "model.safetensors").read_bytes())
    content[len(content) // 3 :] = bytes(b ^ 1 for b in content[len(content) // 3 :])
    (fine_tuned / "model.safetensors").write_bytes(content)
    with refused("plan-of-another-model", "plan", PlanError):
        api.plan(fine_tuned, file=file)
    file.write_text(json.dumps({**to_json(plan), "schema": "gatenorm/plan/3"}))
    with refused("schema-unknown", kind=RecordError) as caught:
        api.plan(model, file=file)
    assert "'gatenorm/plan/3'" in caught.value.problem
    file.write_text("{")
    with refused("json-unreadable", kind=RecordError):
        api.plan(model, file=file)
    with refused("file-missing", kind=RecordError):
        api.plan(model, file=tmp_path / "none.json")

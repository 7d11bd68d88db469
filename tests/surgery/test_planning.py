"""Which layers go: by number, by share, by hand, by a plan file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gatenorm import api
from gatenorm.errors import PlanError, RecordError
from gatenorm.records import to_json
from gatenorm.surgery.planning import count_for_share

TinyModels = Callable[..., Path]


@pytest.mark.parametrize(
    ("share", "layers", "count"), [(0.2, 40, 8), (0.1, 32, 3), (0.1, 4, 1), (0.25, 6, 2), (0.125, 12, 2), (0.01, 16, 1)]
)
def test_a_share_rounds_half_up_and_is_at_least_one(share: float, layers: int, count: int):
    assert count_for_share(share, layers) == count


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 20.0, float("nan")])
def test_a_share_is_between_0_and_1(share: float):
    with pytest.raises(PlanError, match=r"such as 0\.2"):
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
    ("arguments", "message"),
    [
        ({}, "say once what to remove"),
        ({"layers": 1, "drop": [1]}, "given: layers, drop"),
        ({"layers": 0}, "cannot remove 0"),
        ({"layers": 4}, "the model has 4, and one must stay: 1 to 3"),
        ({"layers": -1}, "cannot remove -1"),
        ({"layers": 3, "protect": [0, 1]}, "2 of them protected, and one must stay: 1 to 2"),
        ({"layers": 1, "protect": [9]}, "layer 9 cannot be protected: the layers are 0 to 3"),
        ({"drop": []}, "no layer to remove was named"),
        ({"drop": [4]}, "there is no layer 4: the layers are 0 to 3"),
        ({"drop": [-1]}, "there is no layer -1"),
        ({"drop": [0, 1, 2, 3]}, "at least one must stay"),
        ({"drop": [0, 2], "protect": [2]}, "layer 2 is to be removed and to be protected"),
        ({"drop": [0], "criterion": "gate-nrom"}, "did you mean 'gate-norm'"),
        ({"layers": 1, "criterion": "gate-nrom"}, "did you mean 'gate-norm'"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(arguments: dict, message: str, tiny_models: TinyModels):
    with pytest.raises(Exception, match=message) as raised:
        api.plan(tiny_models("llama-gqa"), **arguments)
    assert "\n" not in str(raised.value)


def test_a_plan_file_is_for_the_model_it_was_made_for(tiny_models: TinyModels, tmp_path: Path):
    model, file = tiny_models("llama-gqa"), tmp_path / "plan.json"
    plan = api.plan(model, layers=2)
    file.write_text(json.dumps(to_json(plan)))
    assert api.plan(model, file=file) == plan
    with pytest.raises(PlanError, match="another checkpoint"):
        api.plan(tiny_models("mistral"), file=file)
    with pytest.raises(PlanError, match="to be protected"):
        api.plan(model, file=file, protect=[plan.edits.attention[0]])
    fine_tuned = shutil.copytree(model, tmp_path / "fine-tuned")
    content = bytearray((fine_tuned / "model.safetensors").read_bytes())
    content[len(content) // 3 :] = bytes(b ^ 1 for b in content[len(content) // 3 :])
    (fine_tuned / "model.safetensors").write_bytes(content)
    with pytest.raises(PlanError, match="another checkpoint"):
        api.plan(fine_tuned, file=file)
    file.write_text(json.dumps({**to_json(plan), "schema": "gatenorm/plan/3"}))
    with pytest.raises(RecordError, match="gatenorm/plan/3"):
        api.plan(model, file=file)
    file.write_text("{")
    with pytest.raises(RecordError, match="not readable JSON"):
        api.plan(model, file=file)
    with pytest.raises(RecordError, match="there is no file"):
        api.plan(model, file=tmp_path / "none.json")

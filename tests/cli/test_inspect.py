"""What ``inspect`` says for machines: numbers, lists and booleans, every key of which the documents explain."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gatenorm import api
from gatenorm.api import inspect
from gatenorm.cli import main
from gatenorm.families import detect_layout
from gatenorm.records import to_json

TinyModels = Callable[..., Path]
ROOT = Path(__file__).resolve().parents[2]


def facts_of(model: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["inspect", str(model), "--json", "-"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_pruned_model_is_described_by_numbers_lists_and_booleans(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source = tiny_models("llama-biased")
    out = api.prune(source, tmp_path / "out", api.plan(source, drop=[0, 2])).path
    facts = facts_of(out, capsys)
    assert facts["schema"] == "gatenorm/inspection/1"
    assert (facts["layers"], facts["attention_removed_in"], facts["mlp_removed_in"]) == (4, [0, 2], [])
    assert [facts[key] for key in ("width", "heads", "kv_heads", "head_dim", "context")] == [64, 8, 2, 8, 128]
    assert facts["positions"] == {"kind": "rotary", "dims": 8, "base": 10000.0, "type": "default"}
    assert (facts["softcap"], facts["logit_scale_by_layer"]) == (None, None)
    assert (facts["biases"], facts["normed"], facts["fused"]) == (["q", "k", "v", "o"], [], None)
    assert facts["weights_at"]["k"] == "model.layers.1.self_attn.k_proj.weight"
    assert facts["files"] == {"model.safetensors": (out / "model.safetensors").stat().st_size}
    assert 0 < facts["attention_bytes"] < facts["bytes"] < facts["files"]["model.safetensors"]
    assert (facts["can_be_pruned"], facts["why_not_pruned"]) == (True, None)
    assert main(["export", str(out), "--list", "--json", "-"]) == 0
    assert facts["exports"] == json.loads(capsys.readouterr().out)


def test_what_a_sublayer_costs_stands_beside_what_could_replace_it(
    tiny_models: TinyModels, capsys: pytest.CaptureFixture[str]
):
    """64 wide, 8 query and 2 key/value heads of 8: q and o are 64 x 64, k and v 16 x 64, in float32."""
    facts = facts_of(tiny_models("llama-biased"), capsys)
    costs = {one.pop("name"): one for one in facts["costs"]}
    matrices = 2 * 64 * 64 + 2 * 16 * 64
    assert costs["attention"] == {
        "parameters": matrices + 2 * 64 + 2 * 16 + 64,  # biases, and the norm that goes with it
        "multiplications": matrices,
        "multiplications_of_context": 2 * 8 * 8,
        "cache_bytes": 2 * 2 * 8 * 4,
    }
    nothing = {"multiplications_of_context": 0, "cache_bytes": 0.0}
    assert costs["linear"] == {"parameters": 64 * 64, "multiplications": 64 * 64, **nothing}
    assert costs["constant"] == {"parameters": 64, "multiplications": 0, **nothing}
    assert costs["remove"] == {"parameters": 0, "multiplications": 0, **nothing}
    assert costs["mlp"]["multiplications"] > 0
    assert main(["inspect", str(tiny_models("llama-biased"))]) == 0
    assert "linear in its place: 4,096 parameters" in capsys.readouterr().out


def test_other_shapes_are_told_by_the_same_keys(tiny_models: TinyModels, capsys: pytest.CaptureFixture[str]):
    falcon, qwen = (facts_of(tiny_models(case), capsys) for case in ("falcon-alibi", "qwen3"))
    assert falcon.keys() == qwen.keys()
    assert (falcon["positions"], falcon["fused"]) == ({"kind": "alibi"}, "grouped")
    assert (qwen["normed"], qwen["biases"]) == (["q", "k"], [])


def test_what_is_no_whole_model_cannot_be_pruned(shared: Path, capsys: pytest.CaptureFixture[str]):
    model = shared / "models/gpt2-small-attention"
    facts = facts_of(model, capsys)
    assert facts["can_be_pruned"] is False
    assert "lack the MLP weights of layers 0-11 and the embeddings" in facts["why_not_pruned"]
    assert main(["score", str(model), "--json", "-"]) == 0
    capsys.readouterr()
    assert main(["prune", str(model), "--layers", "2", "-o", "nowhere"]) == 2
    assert "MLP weights" in capsys.readouterr().err


def test_a_logit_scale_of_each_layer_is_a_list(tiny_models: TinyModels):
    layout = api.open_model(tiny_models("gpt2"))
    layout.checkpoint.config["scale_attn_by_inverse_layer_idx"] = True
    facts = to_json(inspect(detect_layout(layout.checkpoint)))
    scale = facts["logit_scale"]
    assert facts["logit_scale_by_layer"] == [scale, scale / 2, scale / 3, scale / 4]
    assert facts["can_be_pruned"] is False


def test_the_documents_explain_every_key(tiny_models: TinyModels, capsys: pytest.CaptureFixture[str]):
    table = (ROOT / "docs/loading.md").read_text(encoding="utf-8").partition("as data\n")[2]
    for key in facts_of(tiny_models("llama-gqa"), capsys).keys() - {"schema"}:
        assert f"`{key}`" in table

"""MLPs and whole blocks removed, in every family: on disk, live, and in steps, against branches forced to zero."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import gatenorm
from gatenorm.errors import FamilyError, PlanError, RecordError
from gatenorm.records import Edits, Plan, from_json, to_json
from gatenorm.surgery import modeling_gatenorm as modeling
from gatenorm.surgery.operation import removed_modules
from tests.errors import refused
from tests.surgery.test_pruned_families import answers
from tests.tiny_models import CASES, attention_of, build

TinyModels = Callable[..., Path]
# Layer 0 is in every removal; of the MLPs all but one of four go.
DROPS = {"mlp": (0, 1, 3), "block": (0, 2)}


def zeros_like(output: Any) -> Any:
    return (torch.zeros_like(output[0]), *output[1:]) if isinstance(output, tuple) else torch.zeros_like(output)


def without_branches(name: str, layout: gatenorm.families.Layout, removal: Edits) -> torch.nn.Module:
    """A copy of the stock model whose attention and MLP branches put out zeros where they are removed."""
    model = copy.deepcopy(build(name))
    blocks = model.get_submodule(layout.block.path)
    for layer in removal.attention:
        attention = blocks[layer].get_submodule(layout.block.attention[0])
        attention.register_forward_hook(lambda _, __, output: (torch.zeros_like(output[0]), *output[1:]))
        # A norm behind the attention makes of zeros a zero only where it has no bias: RMSNorms have none.
    for layer in removal.mlp:
        for end in (layout.block.branch[-1], *layout.block.beside):
            blocks[layer].get_submodule(end).register_forward_hook(lambda _, __, output: zeros_like(output))
    return model


@pytest.mark.parametrize("kind", DROPS)
@pytest.mark.parametrize("name", CASES)
def test_removed_on_disk_and_live_equals_silent_branches(name: str, kind: str, tiny_models: TinyModels, tmp_path: Path):
    layout = gatenorm.open_model(tiny_models(name))
    drop = DROPS[kind]
    if not layout.mlp_layers:
        with refused("sublayer-missing", "drop", PlanError):
            gatenorm.plan(layout, drop=drop, kind=kind)
        return
    removal = Edits.of(kind, drop)
    out = gatenorm.prune(layout, tmp_path / "out", gatenorm.plan(layout, drop=drop, kind=kind)).path
    model = gatenorm.load(out, dtype=torch.float32, attn_implementation=attention_of(CASES[name][0]))
    stock = without_branches(name, layout, removal)
    expected_logits, expected_text = answers(stock)
    logits, text = answers(model)
    torch.testing.assert_close(logits, expected_logits, atol=1e-5, rtol=1e-5)
    assert torch.equal(text, expected_text)
    ids = torch.tensor([[5, 6, 7, 8]])
    # The branches mattered: the test would pass for any model otherwise.
    with torch.no_grad():
        assert (build(name)(ids).logits - model(ids).logits).abs().max() > 1e-2

    pruned = gatenorm.open_model(out)
    assert (pruned.edits, pruned.layers) == (removal, layout.layers)
    kept = {
        t.name
        for t in layout.checkpoint.specs.values()
        if not t.name.startswith(
            tuple(
                layout.tensor(layer, module) + "."
                for layer in drop
                for module in removed_modules(layout.data, Edits.of(kind, [0]))
            )
        )
    }
    assert set(pruned.checkpoint.specs) == kept
    with torch.no_grad():
        cache = model(input_ids=torch.tensor([[5, 6, 7]]), use_cache=True).past_key_values
    gone = () if layout.block.in_place else removal.attention
    assert len(cache.layers) == layout.layers - len(gone)

    live = gatenorm.prune_module(copy.deepcopy(build(name)), drop, kind=kind)
    assert torch.equal(answers(live)[0], logits)
    assert set(live.state_dict()) == set(model.state_dict())


def test_what_a_hybrids_layer_lacks_cannot_be_removed(tiny_models: TinyModels):
    for name, layer in (("lfm2", 4), ("nemotron_h", 4), ("nemotron_h", 5)):
        with refused("sublayer-missing", "drop", PlanError):
            gatenorm.plan(tiny_models(name), drop=[layer])
    with refused("none-would-stay", "drop", PlanError):
        gatenorm.plan(tiny_models("lfm2"), drop=[0, 1, 2, 3])


def test_the_mlp_behind_another_mixer_can_be_removed(tiny_models: TinyModels, tmp_path: Path):
    layout = gatenorm.open_model(tiny_models("lfm2"))
    out = gatenorm.prune(layout, tmp_path / "out", gatenorm.plan(layout, drop=[1, 4], kind="mlp")).path
    expected = answers(without_branches("lfm2", layout, Edits.of("mlp", [1, 4])))
    found = answers(gatenorm.load(out, dtype=torch.float32, attn_implementation="eager"))
    torch.testing.assert_close(found[0], expected[0], atol=1e-5, rtol=1e-5)
    assert torch.equal(found[1], expected[1])


def test_a_pattern_of_letters_is_a_list_of_mixers(tiny_models: TinyModels, tmp_path: Path):
    """As Nemotron's files on the hub have it."""
    source = shutil.copytree(tiny_models("nemotron_h"), tmp_path / "model")
    config = json.loads((source / "config.json").read_text())
    del config["layers_block_type"]
    (source / "config.json").write_text(json.dumps({**config, "hybrid_override_pattern": "****M-E"}))
    found = []
    for place in (tiny_models("nemotron_h"), source):
        out = gatenorm.prune(place, tmp_path / f"out-{len(found)}", gatenorm.plan(place, drop=[0, 2])).path
        with torch.no_grad():
            found.append(gatenorm.load(out, dtype=torch.float32)(torch.tensor([[5, 6, 7, 8]])).logits)
    assert torch.equal(*found)
    (source / "config.json").write_text(json.dumps({**config, "hybrid_override_pattern": "****M-?"}))
    with refused("config-wrong", kind=FamilyError):
        gatenorm.open_model(source)


@pytest.mark.parametrize("name", ["llama-biased", "gemma2", "falcon-7b", "opt-post-norm", "gpt_neo"])
def test_steps_in_any_order_end_where_one_does(name: str, tiny_models: TinyModels, tmp_path: Path):
    """Block 0 in two steps, attention 2 and MLP 3: the same files and the same live model, whatever came first."""
    steps = [("attention", [0, 2]), ("mlp", [3, 0])]
    source, live = tiny_models(name), {}
    removal = Edits.of("attention", (0, 2)) | Edits.of("mlp", (0, 3))
    for order, taken in {"forth": steps, "back": steps[::-1]}.items():
        directory, live[order] = source, copy.deepcopy(build(name))
        for kind, drop in taken:
            plan = gatenorm.plan(directory, drop=drop, kind=kind)
            directory = gatenorm.prune(directory, tmp_path / order / kind, plan).path
            gatenorm.prune_module(live[order], drop, kind=kind)
        assert (plan.edits, plan.added) == (removal, Edits.of(kind, drop))
        assert plan.previous.edits == Edits.of(*taken[0])
        assert from_json(Plan, json.loads((directory / "gatenorm.json").read_text()), "a plan") == plan
    ends = [tmp_path / "forth" / "mlp", tmp_path / "back" / "attention"]
    assert len({(end / "model.safetensors").read_bytes() for end in ends}) == 1
    configs = [json.loads((end / "config.json").read_text()) for end in ends]
    for config in configs:
        del config["gatenorm"]["plan"]
    assert configs[0] == configs[1]
    expected = answers(without_branches(name, gatenorm.open_model(source), removal))
    loaded = gatenorm.load(ends[0], dtype=torch.float32, attn_implementation=attention_of(CASES[name][0]))
    found = answers(loaded)
    torch.testing.assert_close(found[0], expected[0], atol=1e-5, rtol=1e-5)
    assert torch.equal(found[1], expected[1])
    for model in live.values():
        assert torch.equal(answers(model)[0], found[0])
        assert set(model.state_dict()) == set(loaded.state_dict())
    live["back"].save_pretrained(tmp_path / "saved")
    assert gatenorm.open_model(tmp_path / "saved").edits == removal
    again = gatenorm.load(tmp_path / "saved", dtype=torch.float32, attn_implementation=attention_of(CASES[name][0]))
    assert torch.equal(answers(again)[0], found[0])


def test_a_directory_and_a_live_model_describe_themselves_alike(tiny_models: TinyModels, tmp_path: Path):
    out = gatenorm.prune(tiny_models("gemma2"), tmp_path / "out", gatenorm.plan(tiny_models("gemma2"), drop=[1])).path
    record = json.loads((out / "config.json").read_text())["gatenorm"]
    assert list(record) == ["schema", "base_model_type", "layers", "edits", "block", "plan"]
    assert (record["schema"], record["plan"]["schema"]) == ("gatenorm/pruned/1", "gatenorm/plan/1")
    assert record["edits"] == [{"layer": 1, "sublayer": "attention", "operation": "remove"}]
    card = (out / "README.md").read_text()
    assert "without 1 of its 4 attention sublayers" in card
    assert "| attention removed in layers | 1 (25.0% of 4) |" in card
    assert "MLP" not in card
    live = gatenorm.prune_module(copy.deepcopy(build("gemma2")), [1]).config.gatenorm
    assert {**live, "plan": None} == {**record, "plan": None}


def test_cards_say_what_went(tiny_models: TinyModels, tmp_path: Path):
    source = tiny_models("llama-mha")
    plan = gatenorm.plan(source, layers=2, kind="block", criterion="depth")
    assert (plan.edits.attention, plan.edits.mlp, plan.kind, plan.scores.kind) == ((3, 4), (3, 4), "block", "block")
    card = (gatenorm.prune(source, tmp_path / "out", plan).path / "README.md").read_text()
    for line in (
        "without 2 of its 5 blocks",
        "| attention removed in layers | 3, 4 (40.0% of 5) |",
        "| MLP removed in layers | 3, 4 (40.0% of 5) |",
        "| removed in this step | blocks 3, 4 |",
        "| 4 | 1 | removed |",
        "- mlp-removed",
    ):
        assert line in card
    plan = gatenorm.plan(tmp_path / "out", drop=[0], kind="mlp")
    card = (gatenorm.prune(tmp_path / "out", tmp_path / "again", plan).path / "README.md").read_text()
    assert "without 2 of its 5 attention sublayers and 3 of its 5 MLP sublayers" in card
    assert "| removed in this step | MLP 0 |" in card


@pytest.mark.parametrize(
    ("arguments", "code", "field", "said"),
    [
        ({"drop": [0], "kind": "mlps"}, "kind-unknown", "kind", "'mlp'"),
        ({"drop": [1], "kind": "block"}, "layer-edited-before", "drop", "attention"),
        ({"drop": [2], "kind": "block"}, "layer-edited-before", "drop", "MLP"),
        ({"drop": [0, 3, 4, 1], "kind": "mlp"}, "none-would-stay", "drop", "4 MLP sublayers"),
        ({"layers": 4, "kind": "block", "criterion": "depth"}, "count-out-of-range", "layers", "3 blocks"),
        ({"layers": 4, "kind": "mlp", "criterion": "depth"}, "count-out-of-range", "layers", "4 MLP sublayers"),
        ({"layers": 1, "kind": "block"}, "criterion-kind", "criterion", "block-cosine"),
        ({"layers": 1, "criterion": "block-cosine@random"}, "criterion-kind", "criterion", "gate-norm"),
        ({"layers": 1, "kind": "mlp", "criterion": "norm-ratio@self"}, "criterion-kind", "criterion", "cosine"),
        ({"drop": [], "kind": "mlp"}, "layers-missing", "drop", ""),
    ],
)
def test_what_cannot_be_removed_is_refused_in_one_line(
    arguments: dict[str, object], code: str, field: str, said: str, tiny_models: TinyModels, tmp_path: Path
):
    source = tiny_models("llama-mha")
    once = gatenorm.prune(source, tmp_path / "1", gatenorm.plan(source, drop=[1])).path
    twice = gatenorm.prune(once, tmp_path / "2", gatenorm.plan(once, drop=[2], kind="mlp")).path
    with refused(code, field) as error:
        gatenorm.plan(twice, **arguments)
    assert said in f"{error.value.problem} {error.value.hint}"
    assert "\n" not in str(error.value)


def test_plan_files_of_blocks_are_carried_out_and_checked(tiny_models: TinyModels, tmp_path: Path):
    source = tiny_models("llama-mha")
    plan = gatenorm.plan(source, drop=[1, 3], kind="block")
    (tmp_path / "plan.json").write_text(json.dumps(to_json(plan)))
    assert gatenorm.plan(source, file=tmp_path / "plan.json") == plan
    out = gatenorm.prune(source, tmp_path / "out", gatenorm.plan(source, drop=[0], kind="mlp")).path
    identity = to_json(gatenorm.open_model(out).identity())
    (tmp_path / "late.json").write_text(json.dumps({**to_json(plan), "model": identity}))
    with refused("plan-omits-edits", "plan", PlanError):
        gatenorm.plan(out, file=tmp_path / "late.json")
    with refused("layer-protected", "protect", PlanError):
        gatenorm.plan(source, file=tmp_path / "plan.json", protect=[3])


def without_mlp(*layers: int) -> list[dict[str, Any]]:
    return [{"layer": layer, "sublayer": "mlp", "operation": "remove"} for layer in layers]


@pytest.mark.parametrize(
    ("edits", "field", "said"),
    [
        (without_mlp(0, 9), "the gatenorm entry of config.json", "layer 9"),
        ([*without_mlp(0), {**without_mlp(0)[0], "operation": "other"}], "edits", ""),
        (without_mlp(0, 1, 2, 3), "the gatenorm entry of config.json", ""),
    ],
)
def test_damaged_configs_are_refused_by_both_readers(
    edits: list[dict[str, Any]], field: str, said: str, tiny_models: TinyModels, tmp_path: Path
):
    source = tiny_models("llama-gqa")
    out = gatenorm.prune(source, tmp_path / "out", gatenorm.plan(source, drop=[0, 2], kind="block")).path
    config = json.loads((out / "config.json").read_text())
    attention = [edit for edit in config["gatenorm"]["edits"] if edit["sublayer"] == "attention"]
    config["gatenorm"]["edits"] = attention + edits
    (out / "config.json").write_text(json.dumps(config))
    with refused("field-wrong", field, RecordError) as caught:
        gatenorm.open_model(out)
    assert said in caught.value.problem
    with pytest.raises(ValueError, match=r"edits|does not describe the operation"):
        modeling.read_record(type("Config", (), {**config}))


def test_a_model_without_mlps_pickles_and_learns(tiny_models: TinyModels):
    ids = torch.tensor([[5, 6, 7, 8]])
    for name in ("llama-gqa", "falcon-7b"):
        model = gatenorm.prune_module(copy.deepcopy(build(name)), [1], kind="mlp")
        gatenorm.prune_module(model, [2], kind="block")
        expected = model(ids, use_cache=False).logits
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(other(ids, use_cache=False).logits, expected)
        gradients = []
        for checkpointing in (False, True):
            learner = copy.deepcopy(model)
            if checkpointing:
                learner.gradient_checkpointing_enable({"use_reentrant": False})
            learner.train()(ids, labels=ids, use_cache=False).loss.backward()
            gradients.append({key: parameter.grad for key, parameter in learner.named_parameters()})
        torch.testing.assert_close(gradients[1], gradients[0])

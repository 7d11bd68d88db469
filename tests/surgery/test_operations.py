"""A new operation is one file, from which it is stored, run (with gatenorm and without), costed and exported.

The operations of this test come from another package.
"""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec import structs

import gatenorm
from gatenorm.checkpoint import open_store
from gatenorm.errors import PlanError
from gatenorm.extensions import installed
from gatenorm.models.architecture import Architecture
from gatenorm.models.weight_count import WeightCount
from gatenorm.records import Edit, Edits
from gatenorm.surgery.disk import write_pruned
from gatenorm.surgery.exported import unexportable
from gatenorm.surgery.live import edit_model
from gatenorm.surgery.operation import fingerprint, operations, update_source
from gatenorm.surgery.planning import plan_by_hand
from tests.errors import refused
from tests.replaced import weights_of, write_edited, write_replaced
from tests.surgery.test_saving import python
from tests.tiny_models import build

PLUGIN = """
from gatenorm.surgery.operation import ExportEntry, Operation

OUTSIDE = 2


def constant(x, weights):
    return weights["value"].expand_as(x)


def linear(x, weights):
    from torch.nn import functional

    return functional.linear(x, weights["matrix"], weights["bias"])


def leaning(x, weights):
    return x * OUTSIDE


def vector(width):
    return {"value": (width,)}


def affine(width):
    return {"matrix": (width, width), "bias": (width,)}


CONSTANT = Operation(
    "add a constant",
    "replaced by a constant",
    update=constant,
    shapes=vector,
    exports={"gguf": "llama.cpp has no such thing"},
)
LINEAR = Operation(
    "a linear map",
    "replaced by a linear map",
    ("attention",),
    update=linear,
    normed=True,
    shapes=affine,
    exports={
        "nemotron-nas": ExportEntry(
            {"no_op": False, "replace_with_linear": True},
            {"matrix": "self_attn.linear_attn.weight", "bias": "self_attn.linear_attn.bias"},
        ),
    },
)
LEANING = Operation("leans on its module", update=leaning)
"""
POINTS = """
[gatenorm.operations]
constant-of-a-plugin = plugin_operations:CONSTANT
linear-of-a-plugin = plugin_operations:LINEAR
leaning = plugin_operations:LEANING
"""
CONSTANT, LINEAR = "constant-of-a-plugin", "linear-of-a-plugin"


@pytest.fixture(autouse=True, scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A distribution with entry points, on the path while this file is tested."""
    root = tmp_path_factory.mktemp("plugin")
    (root / "plugin_operations.py").write_text(PLUGIN)
    (root / "plugin_operations-1.dist-info").mkdir()
    (root / "plugin_operations-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin-operations\n")
    (root / "plugin_operations-1.dist-info" / "entry_points.txt").write_text(POINTS)
    sys.path.insert(0, str(root))
    installed.cache_clear()
    yield
    sys.path.remove(str(root))
    installed.cache_clear()


def text() -> torch.Tensor:
    return torch.randint(4, 60, (2, 20), generator=torch.Generator().manual_seed(2))


GENERATION: tuple[dict[str, Any], ...] = ({}, {"cache_implementation": "static"}, {"use_cache": False})


def generated(model: Any, **options: Any) -> torch.Tensor:
    """Greedy continuations of a batch whose second text is padded on the left."""
    ids = text()
    mask = torch.ones_like(ids)
    ids[1, :5] = mask[1, :5] = 0
    return model.generate(ids, attention_mask=mask, max_new_tokens=8, do_sample=False, pad_token_id=0, **options)


def logits_of(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=text()).logits


def expected(name: str, edits: Edits, weights: dict[Edit, dict[str, np.ndarray]]) -> Any:
    """The stock model with hooks that put the same updates in the sublayers' place."""
    model = copy.deepcopy(build(name))
    for edit in edits:
        block = model.model.layers[edit.layer]
        module = block.self_attn if edit.sublayer == "attention" else block.mlp
        update = torch.from_numpy(weights[edit]["value"]) if edit.operation == CONSTANT else None

        def put(
            _: Any, arguments: Any, keywords: Any, output: Any, update: Any = update, own: Any = weights[edit]
        ) -> Any:
            x = keywords.get("hidden_states", arguments[0] if arguments else None)
            value = x @ torch.from_numpy(own["matrix"]).T + torch.from_numpy(own["bias"]) if update is None else update
            value = value.expand_as(x)
            return (value, *output[1:]) if isinstance(output, tuple) else value

        module.register_forward_hook(put, with_kwargs=True)
    return model


EDITS = {
    "constant": Edits.of("attention", (0, 2), CONSTANT),
    "constant-mlp": Edits.of("mlp", (1,), CONSTANT) | Edits.of("attention", (1, 2), CONSTANT),
    "linear": Edits.of("attention", (1, 3), LINEAR),
    "mixed": Edits.of("block", (0,)) | Edits.of("attention", (2,), LINEAR) | Edits.of("mlp", (3,), CONSTANT),
}


@pytest.mark.parametrize("case", EDITS)
def test_an_operation_is_stored_and_run_the_same_everywhere(case: str, tiny_models: Any, tmp_path: Path) -> None:
    source, edits = tiny_models("llama-gqa"), EDITS[case]
    layout = gatenorm.open_model(source)
    weights = weights_of(edits, layout.width)
    write_edited(source, tmp_path / "out", edits)

    pruned = gatenorm.open_model(tmp_path / "out")
    assert pruned.edits == edits
    if case == "mixed":
        card = (tmp_path / "out" / "README.md").read_text()
        assert (
            "without 1 of its 4 attention sublayers and 1 of its 4 MLP sublayers, with 1 of its 4 attention sublayers "
            "replaced by a linear map and 1 of its 4 MLP sublayers replaced by a constant\n" in card
        )
        assert "| attention replaced by a linear map in layers | 2 (25.0% of 4) |" in card
        assert "- attention-replaced\n" in card
    loaded = gatenorm.load(tmp_path / "out", dtype=torch.float32)
    logits = logits_of(loaded)
    if case != "mixed":
        stock = expected("llama-gqa", edits, weights)
        torch.testing.assert_close(logits, logits_of(stock), atol=1e-5, rtol=1e-4)
        for options in GENERATION:
            assert torch.equal(generated(loaded, **options), generated(stock, **options)), options

    live = edit_model(copy.deepcopy(build("llama-gqa")), edits, layout.data, weights=weights)
    torch.testing.assert_close(logits_of(live), logits, atol=1e-5, rtol=1e-4)
    live.save_pretrained(tmp_path / "saved")
    assert (tmp_path / "saved/modeling_gatenorm.py").read_text() == (tmp_path / "out/modeling_gatenorm.py").read_text()
    for directory in ("out", "saved"):
        torch.testing.assert_close(without_gatenorm(tmp_path / directory), logits, atol=1e-5, rtol=1e-4)

    # Pruned once more, it keeps what its operations store.
    more = min(set(range(4)) - set(edits.attention))
    again = gatenorm.prune(pruned, tmp_path / "again", gatenorm.plan(pruned, drop=[more])).path
    kept = {name for name in pruned.checkpoint.specs if not name.startswith(f"model.layers.{more}.")}
    found = gatenorm.open_model(again)
    assert kept <= set(found.checkpoint.specs)
    assert found.edits == edits | Edits.of("attention", [more])
    gatenorm.load(again)


REMOTE = """
import sys
sys.modules["gatenorm"] = None
import torch
from transformers import AutoModelForCausalLM
directory, tokens, copied = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(directory, trust_remote_code=True, dtype=torch.float32)
assert type(model).__module__.startswith("transformers_modules"), type(model)
ids = torch.load(tokens)
with torch.no_grad():
    torch.save(model.eval()(input_ids=ids).logits, tokens)
model.save_pretrained(copied)
"""


def without_gatenorm(directory: Path) -> torch.Tensor:
    """The logits in a process that cannot import gatenorm, and that saves the model once more."""
    tokens, copied = directory.with_suffix(".pt"), directory.with_suffix(".copied")
    torch.save(text(), tokens)
    python(REMOTE, directory, tokens, copied, HF_MODULES_CACHE=str(directory.with_suffix(".modules")))
    assert (copied / "modeling_gatenorm.py").read_text() == (directory / "modeling_gatenorm.py").read_text()
    return torch.load(tokens)


@pytest.mark.parametrize("operation", ["linear", "linear:8", "constant"])
def test_a_replaced_attention_compiles_to_one_graph_and_can_be_pickled(
    operation: str, tiny_models: Any, tmp_path: Path
) -> None:
    model = gatenorm.load(write_replaced(tiny_models("llama-gqa"), tmp_path / "out", (0, 2), operation))
    expected = logits_of(model)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(text(), use_cache=False).logits, expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(logits_of(pickle.loads(pickle.dumps(model))), expected)


def test_the_cost_of_an_operation_is_counted(tiny_models: Any, tmp_path: Path) -> None:
    layout = gatenorm.open_model(tiny_models("llama-gqa"))
    width, edits = layout.width, Edits.of("attention", (1, 3), LINEAR)
    removed = Architecture.of(layout, Edits.of("attention", (1, 3)))
    foreseen = Architecture.of(layout, edits)
    each = WeightCount.of_operation(LINEAR, width)
    norm = width  # the norm in front of the attention, which stays
    assert (each.parameters, each.matrix, each.flops(3)) == (width**2 + width, width**2, 6 * width**2)
    assert foreseen.parameters - removed.parameters == 2 * (each.parameters + norm)
    assert foreseen.replaced == dict.fromkeys(edits, each)
    assert [s.matrix for s in foreseen.mlp] == [s.matrix for s in removed.mlp]
    write_edited(tiny_models("llama-gqa"), tmp_path / "out", edits)
    counted = Architecture.of(gatenorm.open_model(tmp_path / "out"))
    assert (counted.parameters, counted.mlp) == (foreseen.parameters, foreseen.mlp)
    assert [*counted.replaced.values()] == [*foreseen.replaced.values()]


def test_an_export_form_writes_what_the_operation_says_or_why_not() -> None:
    both = Edits.of("attention", [0]) | Edits.of("attention", [1], LINEAR)
    assert unexportable(both, "nemotron-nas") is None
    assert unexportable(both, "gguf") == (
        f"layer 1 has {LINEAR} in place of its attention: the form has no way to express it"
    )
    assert "llama.cpp has no such thing" in str(unexportable(Edits.of("mlp", [2], CONSTANT), "gguf"))


def test_exports_write_the_tensors_and_settings_of_an_operation(tiny_models: Any, tmp_path: Path) -> None:
    layout, edits = gatenorm.open_model(tiny_models("llama-gqa")), Edits.of("attention", (0, 2), LINEAR)
    weights = weights_of(edits, layout.width)
    write_edited(tiny_models("llama-gqa"), tmp_path / "pruned", edits)
    with refused("not-exportable") as error:
        gatenorm.export(tmp_path / "pruned", "gguf", tmp_path / "pruned.gguf")
    assert "layer 0 " in error.value.problem
    assert LINEAR in error.value.problem
    assert "model.layers" not in error.value.problem  # its tensors are no reason of their own
    gatenorm.export(tmp_path / "pruned", "nemotron-nas", tmp_path / "nas")
    written = open_store(tmp_path / "nas")
    attention = [block["attention"] for block in written.config["block_configs"]]
    assert [(one["no_op"], one["replace_with_linear"]) for one in attention] == [(False, True), (False, False)] * 2
    for edit in edits:
        stored = written.float32(f"model.layers.{edit.layer}.self_attn.linear_attn.weight")
        np.testing.assert_array_equal(stored, weights[edit]["matrix"])
        assert f"model.layers.{edit.layer}.input_layernorm.weight" in written
        assert f"model.layers.{edit.layer}.self_attn.q_proj.weight" not in written


def test_what_an_operation_cannot_do_is_refused(tiny_models: Any, tmp_path: Path) -> None:
    assert {"remove", CONSTANT, LINEAR} <= set(operations())
    layout = gatenorm.open_model(tiny_models("llama-gqa"))
    with refused("operation-unknown", "replace", PlanError) as error:
        plan_by_hand(layout, [1], operation="linear-of-a-plugim")
    assert f"'{LINEAR}'" in error.value.hint
    with pytest.raises(PlanError) as error:
        plan_by_hand(layout, [1], kind="mlp", operation=LINEAR)
    assert error.value.code == "operation-not-for-sublayer"
    with pytest.raises(PlanError) as error:
        update_source("leaning")
    assert (error.value.code, error.value.given) == ("operation-not-self-contained", "leaning")

    plan = plan_by_hand(layout, [1], operation=CONSTANT)
    (edit,) = plan.edits
    right = {"value": np.ones(layout.width, np.float32)}
    for weights in ({}, {edit: {"value": np.ones(3, np.float32)}}, {edit: {**right, "other": right["value"]}}):
        with pytest.raises(PlanError) as error:
            write_pruned(layout, plan, tmp_path / "out", weights=weights)
        assert error.value.code == "operation-tensors-wrong"
    named = structs.replace(edit, artifact=fingerprint(right))
    plan = structs.replace(plan, edits=Edits([named]))
    with pytest.raises(PlanError) as error:
        write_pruned(layout, plan, tmp_path / "out", weights={named: {"value": 2 * right["value"]}})
    assert error.value.code == "operation-tensors-foreign"
    write_pruned(layout, plan, tmp_path / "out", weights={named: right})

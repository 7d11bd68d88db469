"""Every family: adapters where the roles say; merged, the checkpoint computes what they computed on top."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import gatenorm
from gatenorm.checkpoint import TensorSpec, open_store
from gatenorm.errors import RecoveryError
from gatenorm.families import detect_layout
from gatenorm.records import Edits, RecoverySummary
from gatenorm.records.recovery_settings import Settings
from gatenorm.recovery.merging import Update, updates, with_adapters, write_adapter, write_merged
from gatenorm.recovery.student import adapted_modules
from tests.errors import refused
from tests.tiny_models import CASES, attention_of, tokens

TinyModels = Callable[..., Path]
DROP = (0, 2)
SETTINGS = Settings(rank=4, alpha=8, targets=("attention", "mlp"))


def loaded(directory: Path, name: str) -> torch.nn.Module:
    return gatenorm.load(directory, dtype=torch.float32, attn_implementation=attention_of(CASES[name][0]))


def trained(model: torch.nn.Module) -> torch.nn.Module:
    """As if the adapters had been trained: fresh ones add nothing."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(0.05 * torch.randn(parameter.shape, generator=draw))
    return model


def _is_expert(tensor: TensorSpec, layout: gatenorm.families.Layout, layer: int) -> bool:
    inside = tensor.name.startswith(f"{layout.prefix}.{layer}.")
    return inside and (".experts." in tensor.name or len(tensor.shape) == 3)


@pytest.mark.usefixtures("plain_experts")
@pytest.mark.parametrize("name", CASES)
def test_merged_equals_adapters_on_top(name: str, tiny_models: TinyModels, tmp_path: Path):
    from peft import PeftModel

    source = tiny_models(name)
    pruned = gatenorm.prune(source, tmp_path / "pruned", gatenorm.plan(source, drop=DROP)).path
    layout = gatenorm.open_model(pruned)
    model = loaded(pruned, name)
    plain = model(input_ids=tokens()).logits.detach()
    modules = adapted_modules(model, layout, SETTINGS.targets)
    adapted = with_adapters(
        model, modules, SETTINGS, transposed=layout.roles.transposed, name="the-pruned-model"
    ).eval()
    torch.testing.assert_close(adapted(input_ids=tokens()).logits, plain)
    trained(adapted)
    (tmp_path / "merged").mkdir()
    write_merged(layout, updates(adapted, modules), RecoverySummary("lm", 1, "a text"), tmp_path / "merged")
    # Run in float64: what then differs are the weights, and not in which order a CPU adds up large logits.
    expected = adapted.double()(input_ids=tokens()).logits.detach()
    assert (expected - plain).abs().max() > 1e-2
    found = loaded(tmp_path / "merged", name).double()(input_ids=tokens()).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    write_adapter(adapted, tmp_path / "adapter", "the-pruned-model")
    again = PeftModel.from_pretrained(loaded(pruned, name), tmp_path / "adapter").double().eval()
    torch.testing.assert_close(again(input_ids=tokens()).logits, expected)

    # Only what has an adapter differs, and that is what the roles name.
    before, after = open_store(pruned), open_store(tmp_path / "merged")
    assert list(before.specs) == list(after.specs)
    changed = {n for n in before.specs if before.raw(n).tobytes() != after.raw(n).tobytes()}
    assert changed == set(modules.values())
    inside = tuple(layout.tensor(layer, layout.block.attention[0]) + "." for layer in layout.attention_layers)
    attention = {t.name for t in before.specs.values() if t.name.startswith(inside) and len(t.shape) == 2}
    assert set(adapted_modules(model, layout, ("attention",)).values()) == attention
    mlp = changed - attention
    # A mixture's experts are no linear maps: of such a block there may be none.
    dense = [n for n in layout.mlp_layers if not any(_is_expert(t, layout, n) for t in before.specs.values())]
    trained_in = {int(n.removeprefix(layout.prefix + ".").split(".")[0]) for n in mlp}
    assert set(dense) <= trained_in <= set(range(layout.layers))
    assert detect_layout(after).recovered
    assert json.loads((tmp_path / "adapter/adapter_config.json").read_text())["base_model_name_or_path"]


def test_shards_and_stored_types_stay(tiny_models: TinyModels, tmp_path: Path):
    source = tiny_models("llama-gqa", dtype="bfloat16", max_shard_size="60KB")
    pruned = gatenorm.prune(source, tmp_path / "pruned", gatenorm.plan(source, drop=DROP)).path
    layout = gatenorm.open_model(pruned)
    assert len(layout.checkpoint.files) > 1
    model = loaded(pruned, "llama-gqa")
    modules = adapted_modules(model, layout, ("attention",))
    adapted = trained(with_adapters(model, modules, SETTINGS, transposed=False, name="x"))
    (tmp_path / "merged").mkdir()
    write_merged(layout, updates(adapted, modules), RecoverySummary("lm", 1, "a text"), tmp_path / "merged")
    after = open_store(tmp_path / "merged")
    assert after.files == layout.checkpoint.files
    name = next(iter(modules.values()))
    live = adapted.get_base_model().get_submodule(next(iter(modules)))
    merged = (layout.checkpoint.torch(name).float() + live.get_delta_weight("default")).to(torch.bfloat16)
    assert torch.equal(after.torch(name), merged)


@pytest.mark.parametrize("value", [float("nan"), 1e30])
def test_what_is_no_number_once_it_is_merged_is_not_written(value: float, tiny_models: TinyModels, tmp_path: Path):
    """Or is one, and beyond the stored type."""
    source = tiny_models("llama-gqa", dtype="float16")
    layout = gatenorm.open_model(gatenorm.prune(source, tmp_path / "pruned", gatenorm.plan(source, drop=DROP)).path)
    name = next(name for name in layout.checkpoint.specs if name.endswith("q_proj.weight"))
    added = {name: Update(SimpleNamespace(get_delta_weight=lambda _: torch.tensor(value)))}
    (tmp_path / "merged").mkdir()
    with refused("weights-not-finite", kind=RecoveryError) as caught:
        write_merged(layout, added, RecoverySummary("lm", 1, "a text"), tmp_path / "merged")
    assert name in caught.value.problem


def test_nothing_to_train_is_said(tiny_models: TinyModels, tmp_path: Path):
    source = tiny_models("llama-gqa")
    pruned = gatenorm.prune(source, tmp_path / "pruned", gatenorm.plan(source, drop=DROP)).path
    layout = gatenorm.open_model(pruned)
    # A checkpoint from which every attention went is no pruned checkpoint of ours; seen from here it has no module.
    object.__setattr__(layout, "edits", Edits.of("attention", range(layout.layers)))
    with refused("nothing-to-train", "targets", RecoveryError):
        adapted_modules(loaded(pruned, "llama-gqa"), layout, ("attention",))

"""MLPs and whole blocks removed, in every family: on disk, live, and in steps, against branches forced to zero."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import gatenorm
from gatenorm.errors import CheckpointError, GatenormError, PlanError
from gatenorm.families import gone_modules
from gatenorm.records import KINDS, Plan, Removal
from gatenorm.surgery import modeling_gatenorm as modeling
from tests.surgery.test_pruned_families import answers
from tests.tiny_models import CASES, attention_of, build

TinyModels = Callable[..., Path]
# Layer 0 is in every removal, and the last layer in one of each kind.
DROPS = {"mlp": [(0, 2), (0, 1, 3)], "block": [(0, 2), (0, 1, 3)]}


def without_branches(name: str, layout: gatenorm.families.Layout, removal: Removal) -> torch.nn.Module:
    """A copy of the stock model whose attention and MLP branches put out zeros where they are removed."""
    model = copy.deepcopy(build(name))
    blocks = model.get_submodule(layout.block["path"])
    for layer in removal.attention:
        attention = blocks[layer].get_submodule(layout.block["attention"][0])
        attention.register_forward_hook(lambda _, __, output: (torch.zeros_like(output[0]), *output[1:]))
        # A norm behind the attention makes of zeros a zero only where it has no bias: RMSNorms have none.
    for layer in removal.mlp:
        last = blocks[layer].get_submodule(layout.block["branch"][-1])
        last.register_forward_hook(lambda _, __, output: torch.zeros_like(output))
    return model


@pytest.mark.parametrize("kind", DROPS)
@pytest.mark.parametrize("name", CASES)
def test_removed_on_disk_and_live_equals_silent_branches(
    name: str, kind: str, tiny_models: TinyModels, tmp_path: Path
):
    layout = gatenorm.open_model(tiny_models(name))
    for drop in DROPS[kind]:
        removal = Removal.of(kind, drop)
        out = gatenorm.prune(layout, tmp_path / str(len(drop)), gatenorm.plan(layout, drop=drop, kind=kind))
        model = gatenorm.load(out, dtype=torch.float32, attn_implementation=attention_of(CASES[name][0]))
        stock = without_branches(name, layout, removal)
        expected_logits, expected_text = answers(stock)
        logits, text = answers(model)
        torch.testing.assert_close(logits, expected_logits, atol=1e-5, rtol=1e-5)
        assert torch.equal(text, expected_text)
        # The branches mattered: the test would pass for any model otherwise.
        assert (answers(build(name))[0] - logits).abs().max() > 1e-2

        pruned = gatenorm.open_model(out)
        assert (pruned.removal, pruned.layers) == (removal, layout.layers)
        kept = {
            t.name
            for t in layout.checkpoint
            if not t.name.startswith(
                tuple(
                    layout.tensor(layer, module) + "."
                    for layer in drop
                    for module in gone_modules(layout.data, KINDS[kind])
                )
            )
        }
        assert {t.name for t in pruned.checkpoint} == kept
        with torch.no_grad():
            cache = model(input_ids=torch.tensor([[5, 6, 7]]), use_cache=True).past_key_values
        assert len(cache.layers) == layout.layers - len(removal.attention)

        live = gatenorm.prune_module(copy.deepcopy(build(name)), drop, kind=kind)
        assert torch.equal(answers(live)[0], logits)
        assert set(live.state_dict()) == set(model.state_dict())

"""Losses that share what lies in front of the first difference, against the whole model run for every set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from gatenorm.calibration.shared_prefix import SharedPrefix
from gatenorm.models.loading import load
from gatenorm.surgery.disk import write_pruned
from gatenorm.surgery.planning import plan_by_hand
from tests.analysis.models import SHAPES, layout_of, loss_on, model_on, samples
from tests.tiny_models import build, tokens

TinyModels = Callable[..., Path]


def sets(layers: Sequence[int]) -> list[list[tuple[int, ...]]]:
    """Those of leave-one-out, those of a round of the greedy search, and some that share little."""
    last = layers[-1]
    return [
        [(), *((layer,) for layer in layers)],
        [(layers[1], layer) for layer in layers if layer != layers[1]],
        [(last,), (layers[0], last), (last, layers[1]), (last,)],
        [(layers[2],)],
    ]


@pytest.mark.parametrize("name", [*SHAPES, "gemma4_text-e"])
def test_losses_are_those_of_the_whole_model(name: str, tiny_models: TinyModels):
    layout, given = layout_of(tiny_models(name)), samples()
    model = model_on(layout, build(name))
    before = model.module(tokens(), use_cache=False).logits
    naive, shared = loss_on(model, given), SharedPrefix(model, given)
    for wanted in sets(layout.removable("attention")):
        assert shared(wanted) == pytest.approx([naive(one) for one in wanted], abs=1e-7)
    assert torch.equal(model.module(tokens(), use_cache=False).logits, before)


def test_a_pruned_model_and_one_spread_by_accelerate_share_as_well(tiny_models: TinyModels, tmp_path: Path):
    layout, given = layout_of(tiny_models("llama-mha")), samples()
    write_pruned(layout, plan_by_hand(layout, [1]), tmp_path / "out")
    for directory, options in [(tmp_path / "out", {}), (layout.checkpoint.directory, {"device_map": "auto"})]:
        own = layout_of(directory)
        model = model_on(own, load(directory, dtype=torch.float32, **options))
        naive, shared = loss_on(model, given), SharedPrefix(model, given)
        for wanted in sets(own.attention_layers):
            assert shared(wanted) == pytest.approx([naive(one) for one in wanted], abs=1e-7)


def test_blocks_in_front_of_a_difference_run_once_a_batch(tiny_models: TinyModels):
    layout, given, ran = layout_of(tiny_models("llama-mha")), samples(), []
    model = model_on(layout, build("llama-mha"))
    for layer, block in enumerate(model.module.model.layers):
        block.self_attn.register_forward_hook(lambda *_, layer=layer: ran.append(layer))
    SharedPrefix(model, given)([(), *((layer,) for layer in range(5))])
    # Of 2 batches: the whole model once, then what follows each removed layer.
    assert [ran.count(layer) for layer in range(5)] == [2 * (1 + layer) for layer in range(5)]
    ran.clear()
    steps: list[Any] = []
    SharedPrefix(model, given)([(0, 3), (0, 4)], lambda *step: steps.append(step))
    assert [ran.count(layer) for layer in range(5)] == [0, 2, 2, 2, 2]
    assert steps[-1] == (2, 2)

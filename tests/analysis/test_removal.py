"""Layers taken out of a loaded model against checkpoints that were pruned and loaded; searches against brute force."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import pytest
import torch

from gatenorm.calibration.shared_prefix import SharedPrefix
from gatenorm.criteria.ablation.leave_one_out import leave_one_out
from gatenorm.criteria.ablation.perplexity_greedy import greedy
from gatenorm.models.forward import negative_log_likelihood
from gatenorm.models.loading import load
from gatenorm.progress import Progress
from gatenorm.surgery.disk import write_pruned
from gatenorm.surgery.planning import plan_by_hand
from tests.analysis.models import SHAPES, layout_of, loss_on, model_on, samples
from tests.tiny_models import build, tokens

TinyModels = Callable[..., Path]


@pytest.mark.parametrize("name", SHAPES)
def test_without_is_the_pruned_checkpoint(name: str, tiny_models: TinyModels, tmp_path: Path):
    layout = layout_of(tiny_models(name))
    write_pruned(layout, plan_by_hand(layout, [0, 2]), tmp_path / "out")
    pruned, model = load(tmp_path / "out", dtype=torch.float32), load(layout.checkpoint.directory, dtype=torch.float32)
    before = model(tokens(), use_cache=False).logits
    with model_on(layout, model).without([2, 0]) as less, torch.no_grad():
        assert less.edits.attention == (0, 2)
        assert torch.equal(less.module(tokens(), use_cache=False).logits, pruned(tokens(), use_cache=False).logits)
    assert torch.equal(model(tokens(), use_cache=False).logits, before)
    assert not torch.equal(pruned(tokens()).logits, before)


@pytest.mark.parametrize("kind", ["mlp", "block"])
@pytest.mark.parametrize("name", SHAPES)
def test_without_mlps_and_blocks_too(name: str, kind: str, tiny_models: TinyModels, tmp_path: Path):
    layout = layout_of(tiny_models(name))
    write_pruned(layout, plan_by_hand(layout, [0, 2], kind=kind), tmp_path / "out")
    pruned, model = load(tmp_path / "out", dtype=torch.float32), load(layout.checkpoint.directory, dtype=torch.float32)
    whole, before = model_on(layout, model), model(tokens(), use_cache=False).logits
    with whole.without([2, 0], kind) as less, torch.no_grad():
        assert torch.equal(less.module(tokens(), use_cache=False).logits, pruned(tokens(), use_cache=False).logits)
    assert torch.equal(model(tokens(), use_cache=False).logits, before)
    # On what is pruned already the attention that is left goes, or nothing.
    again = model_on(layout_of(tmp_path / "out"), pruned)
    with again.without([0, 2]) as less, whole.without([0, 2], "block") as blocks, torch.no_grad():
        found, wanted = (m.module(tokens(), use_cache=False).logits for m in (less, blocks))
    torch.testing.assert_close(found, wanted)


OUTER = dict.fromkeys(("model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head"), "cpu")
OFFLOADED = OUTER | {f"model.layers.{n}": "disk" if n in (1, 2) else "cpu" for n in range(4)}


@pytest.mark.parametrize("where", ["auto", OFFLOADED], ids=["auto", "partly on disk"])
def test_a_model_spread_by_accelerate_loses_layers_too(where: object, tiny_models: TinyModels, tmp_path: Path):
    directory = tiny_models("llama-gqa")
    layout = layout_of(directory)
    spread = load(directory, dtype=torch.float32, device_map=where, offload_folder=tmp_path)
    with model_on(layout).without([1, 3]) as less, torch.no_grad():
        expected = less.module(tokens(), use_cache=False).logits
    with model_on(layout, spread).without([1, 3]) as less, torch.no_grad():
        assert torch.allclose(less.module(tokens(), use_cache=False).logits, expected, atol=1e-5)


def test_a_pruned_model_loses_more(tiny_models: TinyModels, tmp_path: Path):
    layout = layout_of(tiny_models("llama-mha"))
    write_pruned(layout, plan_by_hand(layout, [0, 3]), tmp_path / "two")
    write_pruned(layout, plan_by_hand(layout, [0, 2, 3]), tmp_path / "three")
    two, three = load(tmp_path / "two", dtype=torch.float32), load(tmp_path / "three", dtype=torch.float32)
    with model_on(layout_of(tmp_path / "two"), two).without([2]) as less, torch.no_grad():
        assert less.edits.attention == (0, 2, 3)
        assert torch.equal(less.module(tokens(), use_cache=False).logits, three(tokens(), use_cache=False).logits)


@pytest.mark.parametrize("name", ["llama-gqa", "gemma2", "opt-post-norm"])
def test_leave_one_out_is_the_loss_of_checkpoints_without_one(name: str, tiny_models: TinyModels, tmp_path: Path):
    layout, given = layout_of(tiny_models(name)), samples()
    whole = negative_log_likelihood(build(name), given.sequences) / given.predicted
    expected = {}
    for layer in range(layout.layers):
        write_pruned(layout, plan_by_hand(layout, [layer]), tmp_path / str(layer))
        pruned = load(tmp_path / str(layer), dtype=torch.float32)
        expected[layer] = negative_log_likelihood(pruned, given.sequences) / given.predicted - whole
    steps: list[tuple[int, int]] = []
    losses = SharedPrefix(model_on(layout, build(name)), given)
    found = leave_one_out(losses, layout.attention_layers, lambda done, total: steps.append((done, total)))
    assert found == pytest.approx(expected, abs=1e-5)
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert {total for _, total in steps} == {layout.layers + 1}
    assert steps[-1] == (layout.layers + 1, layout.layers + 1)


def test_greedy_takes_the_best_of_every_round(tiny_models: TinyModels):
    layout, given = layout_of(tiny_models("llama-mha")), samples()
    loss = loss_on(model_on(layout, build("llama-mha")), given)
    known: dict[tuple[int, ...], float] = {}

    def remembered(sets: Sequence[Collection[int]], progress: Progress | None = None) -> list[float]:
        if progress:
            progress(len(sets), len(sets))
        return [known.setdefault(tuple(sorted(layers)), loss(layers)) for layers in sets]

    steps: list[tuple[int, int]] = []
    path = greedy(remembered, layout.attention_layers, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(n, 15) for n in (1, 6, 10, 13, 15)]
    gone: list[int] = []
    while len(gone) < 4:
        rounds = [known[tuple(sorted([*gone, layer]))] for layer in range(5) if layer not in gone]
        gone.append(path.order[len(gone)])
        assert known[tuple(sorted(gone))] == min(rounds) == path.losses[len(gone) - 1]
    assert sorted(path.order) == list(range(5))
    assert path.whole == known[()]


def test_greedy_may_stop_early_and_ranks_the_rest_by_its_last_round():
    costs = {0: 5.0, 1: 1.0, 2: 3.0, 3: 1.0}
    path = greedy(lambda sets, _: [sum(costs[layer] for layer in layers) for layers in sets], (0, 1, 2, 3), steps=1)
    assert path.order == (3, 1, 2, 0)
    assert path.losses == (1.0,)

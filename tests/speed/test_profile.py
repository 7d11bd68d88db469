"""Where the time goes, on real models with a clock of our own: every reading is one tick later than the last."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gatenorm.api import open_model, plan, prune
from gatenorm.engines import Case, Setting
from gatenorm.engines.transformers import profiler as profiling
from gatenorm.engines.transformers.profiler import PassTimes, recording
from gatenorm.engines.transformers.timed import TransformersTimed
from gatenorm.models.architecture import Architecture, Work
from gatenorm.models.loading import load
from gatenorm.speed.measure.profile_report import profile_model, profiled
from tests.tiny_models import tokens

TinyModels = Callable[..., Path]
SHAPES = ("llama-gqa", "olmo2", "gemma2", "gpt2", "gpt_neo", "gpt_neox", "falcon-7b", "falcon-40b", "opt-post-norm")


class Ticks:
    """A clock that counts readings: a part's length is then the number of readings in it."""

    def __init__(self, device: Any):
        self.now = 0

    def read(self) -> int:
        self.now += 1
        return self.now

    def between(self, begin: int, end: int) -> float:
        return float(end - begin)


def profile_of(model: Any, layout: Any, monkeypatch: pytest.MonkeyPatch) -> PassTimes:
    monkeypatch.setattr(profiling, "Watch", Ticks)
    with recording(model, layout.block, layout.edits.attention) as recorder, torch.inference_mode():
        begin = recorder.watch.read()
        model(tokens(), use_cache=True)
        return recorder.profile(begin, recorder.watch.read())


@pytest.mark.parametrize("name", SHAPES)
def test_every_part_is_found_and_they_sum_to_the_whole(
    name: str, tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch
):
    layout = open_model(tiny_models(name))
    model = load(layout.checkpoint.directory)
    found = profile_of(model, layout, monkeypatch)
    assert set(found.attention) == set(range(4))
    # Two readings a module that runs, one tick within each, and as many again between them and the block's own.
    own = [m for m in layout.block.attention if hasattr(model.get_submodule(layout.block.path)[0], m)]
    others = [*layout.block.before, *layout.block.branch, *layout.block.after]
    between = (len(own) + len(others) + 1) / 2
    assert set(found.attention.values()) == {len(own) + between}
    assert set(found.mlp) == {len(others) + between}
    readings = 4 * 2 * (1 + len(own) + len(others)) + 1
    assert found.total == readings
    assert sum(found.shares().values()) == pytest.approx(sum(found.attention.values()) / found.total)


@pytest.mark.parametrize("name", ["llama-gqa", "gpt2", "falcon-7b", "opt-post-norm"])
def test_blocks_without_attention_have_no_share(
    name: str, tiny_models: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source = tiny_models(name)
    layout = open_model(prune(source, tmp_path / "out", plan(source, drop=[0, 2])))
    found = profile_of(load(layout.checkpoint.directory), layout, monkeypatch)
    assert set(found.attention) == {1, 3}
    assert found.mlp[0] == found.mlp[2] > 0
    assert found.total == pytest.approx(sum(found.attention.values()) + sum(found.mlp) + found.outer)


def test_the_hooks_are_gone_afterwards(tiny_models: TinyModels):
    layout = open_model(tiny_models("llama-gqa"))
    model = load(layout.checkpoint.directory)
    with recording(model, layout.block, ()):
        assert any(m._forward_hooks for m in model.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_shares_of_a_real_run_are_parts_of_one(tiny_models: TinyModels):
    case = Case(24, batch=2, new=3)
    session = TransformersTimed.of_directory(tiny_models("llama-gqa"), Setting((case,), threads=1))
    shares = session.profile(case)
    assert shares.layers == (0, 1, 2, 3)
    for phase in (shares.prefill, shares.decode):
        assert all(share > 0 for share in phase)
        assert sum(phase) < 1


def test_figures_by_hand():
    passes = [PassTimes({0: 1.0, 1: 2.0}, (1.0, 1.0, 1.0), 2.0)] * 2 + [PassTimes({0: 9.0, 1: 9.0}, (9,) * 3, 9)]
    found = profiled(passes, 0.5)
    assert (found.attention_seconds, found.mlp_seconds, found.outer_seconds, found.total_seconds) == (3, 3, 2, 8)
    assert (found.attention_share, found.attention_over_mlp, found.attention_flops_share) == (3 / 8, 1.5, 0.5)
    assert (found.attention_by_layer, found.mlp_by_layer) == ((1.0, 2.0, None), (1.0, 1.0, 1.0))


def test_the_profile_of_a_real_model_adds_up(tiny_models: TinyModels):
    layout = open_model(tiny_models("qwen3"))
    setting = Setting((Case(16, 1, 2), Case(32, 2, 2)), threads=1)
    seen: list[tuple[int, int]] = []
    found = profile_model(layout, setting, rounds=2, progress=lambda *at: seen.append(at))
    assert seen == [(i, 6) for i in range(1, 7)]
    counted = Architecture.of(layout)
    for evidence, case in zip(found, setting.cases, strict=True):
        assert [*evidence.phases()] == ["prefill", "decode"]
        for phase in evidence.phases().values():
            parts = [phase.attention_seconds, phase.mlp_seconds, phase.outer_seconds]
            assert sum(parts) == pytest.approx(phase.total_seconds)
            assert phase.attention_share == pytest.approx(parts[0] / sum(parts))
            assert 0 < phase.attention_flops_share < 1
            assert len(phase.mlp_by_layer) == layout.layers
        assert evidence.cache_bytes == counted.cache_bytes(case.tokens, case.batch, 4)
        weights = sum(part.parameters for part in counted.attention.values())
        assert evidence.attention_weights_share == weights / counted.parameters
        assert evidence.protocol.prompt_tokens == case.tokens
    first = counted.attention_flops(0, Work.prefill(16))
    assert first == 2 * counted.attention[0].matrix * 16 + 4 * 4 * 16 * (16 * 17 // 2)

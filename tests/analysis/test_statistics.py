"""Streaming sums against activations that were all kept, in every block shape, batched with padding."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gatenorm.calibration import layerwise
from gatenorm.calibration.layerwise import observe_layer_by_layer
from gatenorm.calibration.samples import Samples
from gatenorm.criteria.activations.block_cosine import block_cosine
from gatenorm.criteria.activations.cosine import cosine
from gatenorm.criteria.activations.norm_ratio import norm_ratio
from gatenorm.criteria.streams import StreamStatistics, Watch
from gatenorm.errors import CalibrationError
from gatenorm.families import Layout
from gatenorm.models.loading import load
from gatenorm.surgery.disk import write_pruned
from gatenorm.surgery.planning import plan_by_hand
from tests.analysis.models import SHAPES, layout_of, naive_figures, naive_streams, samples, stream_statistics
from tests.errors import refused
from tests.tiny_models import build

TinyModels = Callable[..., Path]


def layer_by_layer(layout: Layout, samples: Samples, **options: Any) -> StreamStatistics:
    watch = Watch(layout)
    observe_layer_by_layer(layout, samples, watch, **options)
    return watch.statistics


def figures(statistics: StreamStatistics) -> dict[str, dict[int, float]]:
    return {
        "cosine": cosine(statistics),
        "norm-ratio": norm_ratio(statistics),
        "block-cosine": block_cosine(statistics),
        "cosine of mlp": cosine(statistics, "mlp"),
    }


@pytest.mark.parametrize("name", SHAPES)
def test_sums_agree_with_kept_activations(name: str, tiny_models: TinyModels):
    layout, model, given = layout_of(tiny_models(name)), build(name), samples()
    found = stream_statistics(model, layout, given)
    assert found.positions == given.tokens
    expected = naive_figures(naive_streams(model, layout, given.sequences))
    for criterion, by_layer in figures(found).items():
        assert by_layer == pytest.approx(expected[criterion], rel=1e-5, abs=1e-6)
        assert len(set(by_layer.values())) == layout.layers


@pytest.mark.parametrize("name", [*SHAPES, "opt-projected", "llama-tied", "gemma4_text"])
def test_layer_by_layer_from_disk_is_the_same(name: str, tiny_models: TinyModels, tmp_path: Path):
    directory = tiny_models(name)
    layout, given, steps = layout_of(directory), samples(), []
    whole = figures(stream_statistics(load(directory, dtype=torch.float32), layout, given))
    spooled = layer_by_layer(layout, given, spool=tmp_path, progress=lambda *step: steps.append(step))
    assert figures(spooled) == {c: pytest.approx(v, rel=1e-6) for c, v in whole.items()}
    assert steps[-1] == (layout.layers, layout.layers)
    assert list(tmp_path.iterdir()) == []


def test_layers_that_read_the_keys_of_others_do_not_run_alone(tiny_models: TinyModels):
    with refused("keys-shared", kind=CalibrationError):
        layer_by_layer(layout_of(tiny_models("gemma4_text-e")), samples())


def test_a_pruned_model_is_watched_where_it_still_attends(tiny_models: TinyModels, tmp_path: Path):
    layout = layout_of(tiny_models("llama-mha"))
    write_pruned(layout, plan_by_hand(layout, [0, 3]), tmp_path / "out")
    pruned, given = layout_of(tmp_path / "out"), samples()
    whole = figures(stream_statistics(load(tmp_path / "out", dtype=torch.float32), pruned, given))
    assert list(whole["cosine"]) == [1, 2, 4]
    assert figures(layer_by_layer(pruned, given)) == {c: pytest.approx(v, rel=1e-6) for c, v in whole.items()}


def test_a_model_without_some_mlps_and_blocks_is_watched_where_there_is_something(
    tiny_models: TinyModels, tmp_path: Path
):
    for name in ("llama-mha", "falcon-7b"):
        layout, given = layout_of(tiny_models(name)), samples()
        write_pruned(layout, plan_by_hand(layout, [0], kind="mlp"), tmp_path / name / "one")
        once = layout_of(tmp_path / name / "one")
        write_pruned(once, plan_by_hand(once, [2], kind="block"), tmp_path / name / "two")
        pruned = layout_of(tmp_path / name / "two")
        whole = figures(stream_statistics(load(tmp_path / name / "two", dtype=torch.float32), pruned, given))
        assert list(whole["cosine"]) == [n for n in range(layout.layers) if n != 2]
        assert (
            list(whole["cosine of mlp"])
            == list(whole["block-cosine"])
            == [n for n in range(layout.layers) if n not in (0, 2)]
        )
        apart = figures(layer_by_layer(pruned, given))
        assert apart == {c: pytest.approx(v, rel=1e-6) for c, v in whole.items()}


def test_a_base_model_s_files_and_bfloat16_do_layer_by_layer(tiny_models: TinyModels):
    directory = tiny_models("gpt_neox", dtype="bfloat16")
    layout, given = layout_of(directory), samples()
    whole = figures(stream_statistics(load(directory, dtype=torch.bfloat16), layout, given))
    found = figures(layer_by_layer(layout, given, dtype="bfloat16"))
    assert found == {c: pytest.approx(v, rel=1e-6) for c, v in whole.items()}
    base = layout_of(tiny_models("llama-gqa", base_only=True))
    found = figures(layer_by_layer(base, given))
    assert found["cosine"] == pytest.approx(cosine(stream_statistics(build("llama-gqa"), base, given)), rel=1e-6)


def test_a_model_spread_by_accelerate_is_watched_as_well(tiny_models: TinyModels):
    directory = tiny_models("llama-gqa")
    layout, given = layout_of(directory), samples()
    spread = load(directory, dtype=torch.float32, device_map="auto")
    assert cosine(stream_statistics(spread, layout, given)) == pytest.approx(
        cosine(stream_statistics(build("llama-gqa"), layout, given)), rel=1e-6
    )


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="room is taken by posix_fallocate")
def test_streams_that_find_no_room_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    prepared = [(torch.zeros(2, 3, dtype=torch.long), torch.tensor([3, 3]))]
    with layerwise._streams(prepared, 4, torch.float32, tmp_path) as (stream,):
        assert not list(tmp_path.iterdir())  # no kill leaves a file
        stream.copy_(torch.ones(2, 3, 4))
        assert stream.sum() == 24

    def full(descriptor: int, offset: int, length: int) -> None:
        assert length == 2 * 3 * 4 * 4
        assert not list(tmp_path.iterdir())  # nor one that comes before there is room
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with refused("disk-full"), layerwise._streams(prepared, 4, torch.float32, tmp_path):
        pass
    assert not list(tmp_path.iterdir())

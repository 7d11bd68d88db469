"""Benchmarks from models to records: real runs of tiny models, in this process and in others. Nothing is timed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gatenorm.api import open_model, plan, prune
from gatenorm.engines import Case, Setting, SkippedError, engine_for, engine_named, engines_that
from gatenorm.engines.transformers.timed import TransformersTimed
from gatenorm.errors import EvaluationError, GatenormError, MissingExtraError
from gatenorm.exports.registry import Variant
from gatenorm.models import memory
from gatenorm.models.architecture import Architecture, Work
from gatenorm.records import Edits, from_json, to_json
from gatenorm.records.evidence import Speed
from gatenorm.speed.measure.bench import Protocol, bench, cases, check, new_edits
from gatenorm.speed.measure.worker import Worker
from gatenorm.speed.predict.machines import Machine, machines
from tests.errors import refused
from tests.replaced import write_replaced

TinyModels = Callable[..., Path]
DROP = [1, 3]


@pytest.fixture(scope="module")
def pair(tiny_models: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> tuple[Variant, Variant]:
    """A dense model of five layers, and itself without two attentions."""
    source = tiny_models("llama-mha")
    out = prune(source, tmp_path_factory.mktemp("pruned") / "out", plan(source, drop=DROP)).path
    return Variant.of(open_model(source)), Variant.of(open_model(out))


def in_this_process(setting: Setting) -> Callable[[Variant], TransformersTimed]:
    return lambda variant: TransformersTimed.of_directory(variant.path, setting)


def test_records_hold_everything_that_a_report_needs(pair: tuple[Variant, Variant]):
    dense, pruned = pair
    setting = Setting((Case(24, 1, 3), Case(16, 2, 2)), threads=1)
    seen: list[tuple[int, int]] = []
    found = bench(
        [pruned],
        engine_named("transformers"),
        setting,
        Protocol(rounds=2, machine=machines()["h200"]),
        baseline=dense,
        progress=lambda *at: seen.append(at),
        open_session=in_this_process(setting),
    )
    assert seen[-1] == (6 * 27 + 6 * 36, 6 * 27 + 6 * 36)
    assert [(e.edits.attention, e.protocol.prompt_tokens) for e in found] == [
        ((), 24),
        ((1, 3), 24),
        ((), 16),
        ((1, 3), 16),
    ]
    counted = Architecture.of(dense.layout)  # type: ignore[arg-type]
    for evidence, case in zip(found[1::2], setting.cases, strict=True):
        first = found[2 * setting.cases.index(case)]
        assert first.cache_bytes == counted.cache_bytes(case.tokens, case.batch, 4)
        assert evidence.cache_bytes == first.cache_bytes * 3 / 5
        assert evidence.cache_share_removed == pytest.approx(2 / 5)
        for phase in (evidence.prefill, evidence.decode):
            assert phase.speedup.low <= phase.speedup.median <= phase.speedup.high
            assert phase.ideal > 1
            assert phase.predicted > 1
            assert phase.achieved == pytest.approx(phase.speedup.median / phase.ideal)
        assert evidence.first_token.ideal is None
        assert not first.compared
    for evidence in found:
        assert evidence.protocol.order == f"in turns: {dense.name}, {pruned.name}; again for every round"
        assert evidence.protocol.dtype == "float32"
        assert len(evidence.samples) == 2
        assert evidence.peak_bytes > 1e6
        assert from_json(Speed, json.loads(json.dumps(to_json(evidence))), "a timing") == evidence


def test_without_a_baseline_there_are_no_ratios(pair: tuple[Variant, Variant]):
    setting = Setting((Case(8, 1, 2),), threads=1)
    engine = engine_named("transformers")
    found = bench(pair, engine, setting, Protocol(rounds=1), open_session=in_this_process(setting))
    assert len(found) == 2
    assert not any(e.compared for e in found)
    assert found[0].attention_shares == ()


def test_a_case_without_room_is_skipped_with_the_reason(pair: tuple[Variant, Variant], monkeypatch: pytest.MonkeyPatch):
    setting = Setting((Case(8, 1, 2), Case(120, 8, 2)), threads=1)
    free = memory.available_bytes()
    assert free is None or free > 1e6
    monkeypatch.setattr(memory, "available_bytes", lambda: 400_000)
    found = bench(
        pair[1:],
        engine_named("transformers"),
        setting,
        Protocol(rounds=1),
        baseline=pair[0],
        open_session=in_this_process(setting),
    )
    assert all(e.measured for e in found[:2])
    for evidence in found[2:]:
        assert not evidence.measured
        assert evidence.skipped.startswith("needs about 0.0 GB beside the weights")


class TestOtherProcesses:
    def test_one_that_dies_is_a_skipped_case_and_comes_back(self, pair: tuple[Variant, Variant]):
        case = Case(8, 1, 2)
        worker = Worker("transformers", pair[0].path, Setting((case,), threads=1)).opened()
        try:
            assert worker.run(case).cache_bytes == 5 * 2 * 64 * 8 * 4
            assert worker._process is not None
            os.kill(worker._process.process.pid, signal.SIGKILL)
            worker._process.process.wait()
            with pytest.raises(SkippedError, match="ended with status -9"):
                worker.run(case)
            assert worker.run(case).cache_bytes == 5 * 2 * 64 * 8 * 4
        finally:
            worker.close()
            worker.close()

    def test_what_the_engine_refuses_is_one_line(self, tmp_path: Path):
        worker = Worker("transformers", tmp_path / "none", Setting((Case(8),)))
        with refused("engine-fails", kind=EvaluationError) as caught:
            worker.opened()
        assert str(tmp_path / "none") in caught.value.problem
        assert "\n" not in str(caught.value)
        worker.close()


def test_when_nothing_can_be_run_that_is_an_error(pair: tuple[Variant, Variant], monkeypatch: pytest.MonkeyPatch):
    setting = Setting((Case(8, 1, 2),), threads=1)
    monkeypatch.setattr(memory, "available_bytes", lambda: 1)
    with refused("nothing-measured"):
        bench(pair, engine_named("transformers"), setting, Protocol(rounds=1), open_session=in_this_process(setting))


def test_lengths_are_those_that_fit(pair: tuple[Variant, Variant]):
    assert cases([16, 24], [1, 2], 4, pair) == (Case(16, 1, 4), Case(24, 1, 4), Case(16, 2, 4), Case(24, 2, 4))
    assert cases(None, [1], 32, pair) == (Case(96, 1, 32),)  # none of the usual ones fits into 128 tokens
    with refused("length-too-long", "lengths") as longer:
        cases([16, 125], [1], 4, pair)
    assert (longer.value.given, longer.value.expected) == (125, "at most 124")
    with refused("length-too-long", "lengths") as longer:
        cases(None, [1], 128, pair)
    assert longer.value.expected == "at most 0"
    with refused("count-out-of-range", "lengths"):
        cases([16], [0], 4, pair)


def test_only_more_removals_of_the_same_model_have_an_ideal(pair: tuple[Variant, Variant]):
    dense, pruned = pair
    assert new_edits(pruned, dense) == Edits.of("attention", (1, 3))
    assert new_edits(dense, dense) == Edits()
    assert new_edits(dense, pruned) is None


def test_engines_are_named_where_they_lack(pair: tuple[Variant, Variant], monkeypatch: pytest.MonkeyPatch):
    with refused("engine-unknown", "engine"):
        engine_named("torch")
    with refused("engine-unable", "engine") as unable:
        engine_named("mlx", "times")
    assert unable.value.expected == "llamacpp or transformers or vllm"
    for able in ("", "times"):
        with refused("form-unread", "engine"):
            engine_for("etched-in-stone", able=able)
    monkeypatch.setattr("gatenorm.engines._engine.find_spec", lambda name: None)
    for engine in engines_that("times"):
        with refused("missing-extra", kind=MissingExtraError) as missing:
            check(engine, pair)
        assert engine.name in missing.value.args[0]
    monkeypatch.undo()
    if engine_named("llamacpp").installed:
        with refused("engine-cannot-read", "engine"):
            check(engine_named("llamacpp"), pair)


def test_other_errors_than_a_lack_of_memory_are_not_hidden(pair: tuple[Variant, Variant]):
    case = Case(8, 1, 2)
    session = TransformersTimed.of_directory(pair[0].path, Setting((case,), threads=1))

    def fails(text: str) -> Callable[..., Any]:
        def run(*_: Any, **__: Any) -> Any:
            raise RuntimeError(text)

        return run

    session._decode = fails("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")  # type: ignore[method-assign]
    with pytest.raises(SkippedError, match="out of memory"):
        session.run(case)
    session._decode = fails("shapes cannot be multiplied")  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="multiplied"):
        session.run(case)


def test_a_nemotron_directory_is_known_by_its_config(tiny_models: TinyModels, tmp_path: Path):
    import json
    import shutil

    directory = shutil.copytree(tiny_models("llama-gqa"), tmp_path / "nas")
    config = json.loads((directory / "config.json").read_text())
    blocks = [{"attention": {"no_op": i == 2}, "ffn": {"no_op": False}} for i in range(4)]
    (directory / "config.json").write_text(
        json.dumps({**config, "model_type": "nemotron-nas", "block_configs": blocks})
    )
    variant = Variant.exported(directory)
    assert variant is not None
    assert (variant.form, variant.edits.attention, variant.identity.layers, variant.context) == (
        "nemotron-nas",
        (2,),
        4,
        128,
    )
    (directory / "config.json").write_text(json.dumps({**config, "model_type": "nemotron-nas", "block_configs": [1]}))
    with refused("config-wrong", kind=GatenormError):
        Variant.exported(directory)
    assert Variant.exported(tiny_models("llama-gqa")) is None


def test_the_ideal_of_a_replacement_counts_what_replaces(tiny_models: TinyModels, tmp_path: Path):
    source, width = tiny_models("llama-mha"), open_model(tiny_models("llama-mha")).width
    dense = Variant.of(open_model(source))
    removed, replaced = (
        Variant.of(open_model(write_replaced(source, tmp_path / name, DROP, name))) for name in ("remove", "linear")
    )
    setting = Setting((Case(24, 1, 3),), threads=1)
    # Where moving a byte costs next to nothing, only products and scores count.
    busy = Machine(name="made", summary="", bandwidth=1e30, rates={"float32": 1.0}, source="")
    first, less, other = bench(
        [removed, replaced],
        engine_named("transformers"),
        setting,
        Protocol(rounds=1, machine=busy),
        baseline=dense,
        open_session=in_this_process(setting),
    )
    left = {"prefill": Work.prefill(24), "decode": Work.decode(24 + 1)}
    counted = Architecture.of(dense.layout)  # type: ignore[arg-type]
    for phase, work in left.items():
        saved = [1 - 1 / e.phase(phase).ideal for e in (less, other)]
        kept = 2 * width**2 * work.tokens / counted.attention_flops(1, work)
        assert saved[1] / saved[0] == pytest.approx(1 - kept)
    assert first.attention_shares


def test_an_ideal_needs_no_machine_to_be_named(tiny_models: TinyModels, tmp_path: Path):
    source = tiny_models("llama-mha")
    replaced = Variant.of(open_model(write_replaced(source, tmp_path / "out", DROP, "linear")))
    setting = Setting((Case(24, 1, 3),), threads=1)
    engine, session = engine_named("transformers"), in_this_process(setting)
    dense = Variant.of(open_model(source))
    _, found = bench([replaced], engine, setting, Protocol(rounds=1), baseline=dense, open_session=session)
    assert found.prefill.ideal is not None
    assert found.prefill.predicted is None

"""``bench``, ``profile``, and what the cost model adds to ``inspect`` and ``prune``, as a person meets them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gatenorm.api import open_model, plan, prune
from gatenorm.cli import main
from gatenorm.errors import PlanError
from gatenorm.models.architecture import Architecture
from gatenorm.records import to_json
from gatenorm.speed.predict.cost_model import forecasts
from gatenorm.speed.predict.machines import machines
from gatenorm.speed.predict.targets import Target, count_for_target, smallest_removal
from tests import errors
from tests.checkpoint.test_hub import gatenorm, hub
from tests.command_line import refused

TinyModels = Callable[..., Path]


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_bench_shows_writes_and_draws(tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = tiny_models("llama-gqa")
    out = prune(source, tmp_path / "out", plan(source, drop=[1])).path
    files = ["--json", tmp_path / "bench.json", "--plot", tmp_path / "bench.svg"]
    asked = ["--lengths", "16,32", "--new-tokens", "2", "--rounds", "1", "--threads", "1", "--machine", "h200", *files]
    status, said, err = run(capsys, "bench", out, "--baseline", source, *asked)
    assert (status, err) == (0, "")
    for shown in ("16 x 1", "32 x 1", "25.0%", "achieved / ideal", "predicted", "round by round"):
        assert shown in said
    records = json.loads((tmp_path / "bench.json").read_text())
    assert [[e["layer"] for e in r["edits"]] for r in records] == [[], [1]] * 2
    assert {r["schema"] for r in records} == {"gatenorm/speed/1"}
    assert all(r["cache_share_removed"] == 0.25 and r["decode"]["ideal"] > 1 for r in records[1::2])
    assert all(r["protocol"]["dtype"] == "float32" and r["versions"]["torch"] for r in records)
    drawn = (tmp_path / "bench.svg").read_text()
    assert drawn.startswith("<svg")


def test_profile_shows_writes_and_draws(tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    files = ["--json", tmp_path / "profile.json", "--plot", tmp_path / "profile.html"]
    asked = [
        "--lengths",
        "16,32",
        "--new-tokens",
        "2",
        "--rounds",
        "1",
        "--threads",
        "1",
        "--attention",
        "eager",
        *files,
    ]
    status, said, err = run(capsys, "profile", tiny_models("gpt2"), *asked)
    assert (status, err) == (0, "")
    for shown in ("attention / MLP", "one token", "of the weights and all of the key/value cache"):
        assert shown in said
    assert [r["schema"] for r in json.loads((tmp_path / "profile.json").read_text())] == ["gatenorm/profile/1"] * 2
    assert "<svg" in (tmp_path / "profile.html").read_text()


def test_bad_input_is_one_line(tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model, text = tiny_models("llama-gqa"), tmp_path / "model.gguf"
    text.write_text("no model")
    wrong: list[tuple[list[object], str]] = [
        (["bench", model, "--lengths", "127"], "length-too-long lengths"),
        (["bench", model, "--lengths", "1k"], "expected whole numbers above 0"),
        (["bench", model, "--batches", "0"], "expected whole numbers above 0"),
        (["bench", model, "--engine", "tgi"], "engine-unknown engine"),
        (["bench", model, "--dtype", "int8"], "dtype-unknown dtype"),
        (["bench", model, "--machine", "cray"], "machine-unknown machine"),
        (["bench", model, "--device", "abacus"], "device-unusable device"),
        (["bench", model, "--plot", "a.gif"], "plot-format-unknown plot"),
        (["bench", tmp_path / "none"], "does not exist"),
        (["bench", text], "gguf-no-file"),
        (["profile", model, "--lengths", "999"], "length-too-long lengths"),
        (["profile", model, "--attention", "loud"], "attention-unknown attention"),
        (["inspect", model, "--machine", "cray"], "machine-unknown machine"),
        (["inspect", model, "--context", "4096"], "context-too-long context"),
        (["prune", model, "-o", tmp_path / "o", "--target-speedup", "9"], "out-of-reach target_speedup"),
        (["prune", model, "-o", tmp_path / "o", "--target-speedup", "fast"], "speedup-wrong target_speedup"),
        (["prune", model, "-o", tmp_path / "o", "--target-speedup", "training=2"], "speedup-wrong target_speedup"),
        (
            ["prune", model, "-o", tmp_path / "o", "--target-speedup", "1.1", "--layers", "1"],
            "choice-unclear",
        ),
        (["prune", model, "-o", tmp_path / "o", "--max-cache-gb", "0"], "cache-out-of-range max_cache_gb"),
        (["prune", model, "-o", tmp_path / "o", "--max-cache-gb", "1e-6"], "out-of-reach max_cache_gb"),
        (["prune", model, "-o", tmp_path / "o", "--max-cache-gb", "4"], "cache-fits max_cache_gb"),
    ]
    for arguments, expected in wrong:
        refused(capsys, expected, *arguments)
    assert not (tmp_path / "o").exists()


def test_inspect_says_what_removal_would_bring(tiny_models: TinyModels, capsys: pytest.CaptureFixture[str]):
    model = tiny_models("llama-mha")
    status, said, _ = run(capsys, "inspect", model, "--context", "64", "--batch", "4", "--machine", "rtx-a6000")
    assert status == 0
    assert "on rtx-a6000, batch 4" in said
    assert "2 of 5: prefill 1." in said
    status, said, _ = run(capsys, "inspect", model, "--context", "64", "--json", "-")
    found = json.loads(said)["predictions"]
    counted = Architecture.of(open_model(model))
    expected = {f.count: to_json(f) for f in forecasts(counted, machines()["h100-sxm"], 64)}
    assert found == [{"machine": "h100-sxm", **expected[n]} for n in (1, 2)]


def test_inspect_predicts_for_a_model_that_stays_on_the_hub(tiny_models: TinyModels, tmp_path: Path):
    """From config and headers alone: no byte of a weight is fetched."""
    source = tiny_models("llama-mha")
    files = {path.name: path.read_bytes() for path in source.iterdir()}
    with hub({"some/llama": files}) as (address, asked):
        there = gatenorm(tmp_path / "home", address, "inspect", "some/llama", "--context", "64", "--json", "-")
    assert there.returncode == 0, there.stderr
    header = 8 + int.from_bytes(files["model.safetensors"][:8], "little")
    fetched = sum(int(line.split()[1]) for line in asked if "safetensors" in line)
    assert fetched <= header
    counted = Architecture.of(open_model(source))
    expected = {f.count: to_json(f) for f in forecasts(counted, machines()["h100-sxm"], 64)}
    assert json.loads(there.stdout)["predictions"] == [{"machine": "h100-sxm", **expected[n]} for n in (1, 2)]


def test_inspect_predicts_nothing_of_a_part_of_a_model(shared: Path, capsys: pytest.CaptureFixture[str]):
    status, said, _ = run(capsys, "inspect", shared / "models/gpt2-small-attention", "--json", "-")
    assert (status, json.loads(said)["predictions"]) == (0, [])


@pytest.mark.parametrize("target", ["1.1", "prefill=1.1", "decode=1.2"])
def test_prune_takes_the_smallest_number_that_is_enough(
    target: str, tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    model, out = tiny_models("llama-mha"), tmp_path / "out"
    asked = ["--target-speedup", target, "--context", "64", "--batch", "2", "--machine", "h200"]
    status, said, _ = run(capsys, "prune", model, "-o", out, *asked)
    assert status == 0
    assert "predicted by the cost model on h200, 64 tokens, batch 2" in said
    chosen = len(open_model(out).edits.attention)
    phase, _, wanted = target.rpartition("=")
    found = forecasts(Architecture.of(open_model(model)), machines()["h200"], 64, 2)
    reached = [min(f.prefill, f.decode) if not phase else getattr(f, phase) for f in found]
    assert reached[chosen - 1] >= float(wanted)
    assert chosen == 1 or reached[chosen - 2] < float(wanted)


def test_more_sublayers_go_where_what_replaces_them_costs_time(tiny_models: TinyModels):
    layout = open_model(tiny_models("llama-mha"))
    removed, replaced = (
        forecasts(Architecture.of(layout), machines()["h200"], 64, 2, operation=name) for name in ("remove", "linear")
    )
    wanted = f"prefill={removed[1].prefill - 1e-6}"
    target = Target(wanted, machine="h200", context=64, batch=2)
    found = [smallest_removal(layout, target, operation=name) for name in ("remove", "linear")]
    assert found[0] == removed[1]
    assert found[1] == next(one for one in replaced if one.prefill >= removed[1].prefill - 1e-6)
    assert found[1].count > found[0].count
    with errors.refused("operation-not-for-sublayer", "replace", PlanError):
        smallest_removal(layout, Target("1.1"), kind="mlp", operation="linear")


def test_prune_brings_the_cache_below_a_size(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    model, out = tiny_models("llama-mha"), tmp_path / "out"
    counted = Architecture.of(open_model(model))
    limit = counted.cache_bytes(128, 3) * 0.55
    status, _, _ = run(capsys, "prune", model, "-o", out, "--max-cache-gb", limit / 1e9, "--batch", "3", "--protect", 4)
    assert status == 0
    pruned = open_model(out)
    assert len(pruned.edits.attention) == 3
    assert 4 not in pruned.edits.attention
    assert Architecture.of(pruned).cache_bytes(128, 3) <= limit


def test_the_smallest_count_by_hand():
    assert count_for_target([1.1, 1.2, 1.3], 1.2, "x") == 2
    assert count_for_target([1.1], 1.0, "x") == 1
    with errors.refused("out-of-reach", "x", PlanError) as caught:
        count_for_target([1.1, 1.2, 1.3], 2, "x")
    assert caught.value.given == "2"
    assert "3 sublayers give 1.3" in caught.value.problem
    with errors.refused("out-of-reach", "x", PlanError) as caught:
        count_for_target([], 2, "x")
    assert "sublayers" not in caught.value.problem

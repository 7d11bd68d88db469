"""The commands that run a model: what they say, what they write, and what they refuse before any work."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from gatenorm.cli import main
from gatenorm.criteria.registry import forward_criteria, weight_criteria
from gatenorm.records import Edits, from_json
from gatenorm.records.curve import Curve
from tests.command_line import refused

TinyModels = Callable[..., Path]
FEW = ("--samples", 3, "--length", 12)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_help_names_every_criterion(capsys: pytest.CaptureFixture[str]):
    for command in ("score", "compare", "audit"):
        said = re.sub(r"-\s+", "-", run(capsys, command, "--help")[1])
        assert all(name in said for name in (*weight_criteria(), *forward_criteria()))


def test_score_runs_the_model_when_told_to(tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    apart = ("--layer-by-layer", "--activations", tmp_path)
    model = tiny_models("llama-mha")
    status, out, err = run(capsys, "score", model, "--criterion", "cosine", "--calibration", "self", *FEW)
    assert (status, err) == (0, "")
    assert "cosine@self" in out
    assert "heuristic" not in out
    assert re.search(r"forward passes took \d+\.\d\d s \(loading the model \d+\.\d\d s, drawing tokens ", out)
    assert "read " not in out.splitlines()[-2]
    status, out, _ = run(capsys, "score", model, "--criterion", "norm-ratio@random", *FEW, "--json", "-")
    assert status == 0
    assert json.loads(out)["calibration"]["tokens"] == 36
    status, out, _ = run(capsys, "score", model, "--criterion", "cosine@random", *FEW, *apart, "--json", "-")
    assert json.loads(out)["calibration"]["layer_by_layer"] is True


def test_a_cross_check_names_layers(tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model = tiny_models("llama-mha")
    status, out, err = run(capsys, "score", model, "--criterion", "depth", "--cross-check", *FEW)
    assert (status, err) == (0, "")
    for shown in ("cross-check of 1 layer that depth", "cosine@random:", "cosine@self:", "rank correlation"):
        assert shown in out
    plan = tmp_path / "plan.json"
    arguments = ("--layers", 2, "-o", tmp_path / "out", "--cross-check", "--json", plan)
    status, out, err = run(capsys, "prune", model, *arguments, *FEW)
    assert (status, err) == (0, "")
    assert "cross-check of 2 layers that gate-norm" in out
    assert len(json.loads(plan.read_text())["cross_check"]["checks"]) == 2
    status, out, _ = run(capsys, "prune", model, "--plan", plan, "-o", tmp_path / "again")
    assert status == 0
    status, out, _ = run(
        capsys, "prune", model, "--layers", 1, "--criterion", "cosine@random", *FEW, "-o", tmp_path / "data"
    )
    assert status == 0
    recorded = json.loads((tmp_path / "data/gatenorm.json").read_text())
    assert recorded["scores"]["calibration"]["source"] == "random"


def test_compare_shows_agreement_cost_and_bound(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    criteria = ("--criteria", "gate-norm,cosine@random,cosine@self")
    arguments = ("compare", tiny_models("llama-mha"), *criteria, *FEW, "--bound")
    drawn = {"--plot": tmp_path / "a.png", "--selection": tmp_path / "s.svg", "--heads": tmp_path / "h.html"}
    status, out, err = run(capsys, *arguments, *(x for pair in drawn.items() for x in pair))
    assert (status, err) == (0, "")
    for shown in ("gate-norm, cosine@random", "Spearman", "by chance", "vacuous", "none │", "gate-norm"):
        assert shown in out
    assert all(path.stat().st_size > 1000 for path in drawn.values())
    status, out, _ = run(capsys, *arguments, "--json", "-")
    found = json.loads(out)
    assert (status, found["schema"]) == (0, "gatenorm/ranking-comparison/1")
    assert [s["criterion"] for s in found["scores"]] == ["gate-norm", "cosine", "cosine"]
    assert len(found["bound"]["layers"]) == 5
    assert all(s["seconds"] > 0 and s["bytes_read"] > 0 for s in found["scores"])


def test_curve_measures_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from gatenorm.demo.corpus import stories

    text, state = tmp_path / "stories.txt", tmp_path / "state"
    text.write_text(stories(4).content)
    how = ("--criteria", "gate-norm,cosine@random", *FEW, "--counts", 1, "--seeds", 1, "--window", 64, "--limit", 2)
    arguments = ("curve", "demo", "--data", text, *how, "--state", state)
    status, out, err = run(capsys, *arguments, "--plot", tmp_path / "c.svg")
    assert (status, err) == (0, "")
    for shown in (
        "removed",
        "cosine@random",
        "random, 1 draws: least, geom. mean, largest",
        "window 64",
        "dtype float32",
    ):
        assert shown in out
    assert (tmp_path / "c.svg").stat().st_size > 1000
    before = {path.name: path.read_text() for path in state.iterdir()}
    status, out, _ = run(capsys, *arguments, "--json", "-")
    found = json.loads(out)
    assert (status, found["schema"]) == (0, "gatenorm/curve/2")
    assert [len(p["layers"]) for p in found["lines"][0]["points"]] == [0, 1]
    assert {path.name: path.read_text() for path in state.iterdir()} == before


def test_curve_measures_tasks_and_speed_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from gatenorm.demo.corpus import stories

    text, written = tmp_path / "stories.txt", tmp_path / "curve.json"
    text.write_text(stories(4).content)
    how = ("--criteria", "gate-norm,depth", "--counts", 1, "--seeds", 0, "--window", 64, "--limit", 2)
    more = ("--tasks", "retrieval", "--latency", 16, "--new-tokens", 2, "--rounds", 1, "--pareto", tmp_path / "p.svg")
    status, out, err = run(capsys, "curve", "demo", "--data", text, *how, *more, "--json", written)
    assert (status, err) == (0, "")
    for shown in ("mean accuracy on the tasks", "recall-short (accuracy)", "prefill / decode", "1.00 / 1.00"):
        assert shown in " ".join(out.split())
    assert (tmp_path / "p.svg").stat().st_size > 1000
    points = from_json(Curve, json.loads(written.read_text()), "a curve").lines[0].points
    assert [len(point.layers) for point in points] == [0, 1]
    for numbers in (point.numbers() for point in points):
        assert 0 <= numbers["accuracy"] <= 1
        assert numbers["decode_speedup"] > 0


def test_bad_requests_are_one_line_and_status_2(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    model, short = tiny_models("llama-gqa"), tmp_path / "short.txt"
    short.write_text("short")
    out = tmp_path / "out"
    wrong: list[tuple[list[object], str]] = [
        (["score", model, "--criterion", "cosine"], "calibration-missing"),
        (["score", model, "--calibration", "self"], "calibration-unused calibration"),
        (["score", model, "--criterion", "cosin"], "criterion-unknown criterion"),
        (["score", "demo", "--criterion", "cosine@none.txt"], "data-missing criterion"),
        (["score", "demo", "--criterion", "cosine", "--calibration", short], "text-too-short data"),
        (["score", model, "--criterion", "cosine", "--calibration", short], "no-tokenizer calibration"),
        (["score", model, "--criterion", "cosine@self", "--layer-by-layer"], "whole-model-needed layer_by_layer"),
        (["score", model, "--criterion", "cosine@random", "--device", "cuda:99"], "device-unusable device"),
        (["score", model, "--criterion", "cosine@random", "--length", 500], "length-too-long length"),
        (["score", model, "--criterion", "cosine@random", "--samples", 0], "option-value samples"),
        (["score", model, "--criterion", "cosine@random", "--activations", tmp_path], "activations-unused activations"),
        (["prune", model, "--drop", 1, "-o", out, "--cross-check"], "option-unused cross_check"),
        (["prune", model, "--layers", 1, "-o", out, "--criterion", "cosine"], "calibration-missing"),
        (["compare", model, "--bound", "--layer-by-layer"], "whole-model-needed bound"),
        (["compare", model, "--criteria", "gate-norm"], "criteria-too-few criteria"),
        (["compare", model, "--criteria", "gate-norm,cosine"], "calibration-missing"),
        (["compare", model, "--plot", tmp_path / "a.bmp"], "plot-format-unknown plot"),
        (["compare", "demo", "--criteria", "gate-norm,cosine@none.txt"], "data-missing criterion"),
        (
            ["score", "demo", "--criterion", "cosine", "--calibration", "none.txt"],
            "data-missing data",
        ),
        (
            ["score", "demo", "--criterion", "cosine", "--calibration", short, "--documents", ""],
            "documents-empty documents",
        ),
        (["compare", "demo", "--calibration", short, "--documents", ""], "documents-empty documents"),
        (
            [
                "prune",
                "demo",
                "--layers",
                1,
                "--criterion",
                "cosine",
                "--calibration",
                short,
                "--documents",
                "",
                "-o",
                out,
            ],
            "documents-empty documents",
        ),
        (["curve", "demo", "--data", short, "--criteria", ""], "option-value criteria"),
        (["curve", model], "usage"),
        (["curve", "demo", "--data", short], "text-too-short data"),
        (["curve", "demo", "--data", tmp_path / "none.txt"], "data-missing data"),
        (["curve", "demo", "--data", short, "--counts", "x"], "option-value counts"),
        (["curve", "demo", "--data", short, "--pareto", tmp_path / "p.svg"], "latency-missing pareto"),
        (["curve", "demo", "--data", short, "--task-limit", 3], "tasks-missing task_limit"),
        (["curve", "demo", "--data", short, "--tasks", "zeroshto"], "task-unknown tasks"),
        (
            ["curve", "demo", "--data", short, "--tasks", "zeroshot", "--task-data", short],
            "not-a-directory data",
        ),
    ]
    for arguments, message in wrong:
        refused(capsys, message, *arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["short.txt"]


def test_blocks_and_mlps_from_the_command_line(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    model = tiny_models("llama-mha")
    status, out, err = run(capsys, "score", model, "--criterion", "block-cosine@random", *FEW)
    assert (status, err) == (0, "")
    assert "block-cosine@random of blocks" in out
    status, out, _ = run(capsys, "score", model, "--kind", "mlp", "--criterion", "depth", "--json", "-")
    found = json.loads(out)
    assert (found["schema"], found["kind"], found["ranking"][0]) == ("gatenorm/scores/1", "mlp", 4)
    chosen = ("--kind", "block", "--layers", 2, "--criterion", "block-cosine@random")
    status, out, err = run(capsys, "prune", model, *chosen, *FEW, "-o", tmp_path / "blocks")
    assert (status, err) == (0, "")
    assert "2 of 5 attention sublayers, 2 of 5 MLP sublayers" in out
    assert "its key/value cache is 40.0% smaller" in out
    plan = json.loads((tmp_path / "blocks/gatenorm.json").read_text())
    edits = Edits.from_json(plan["edits"])
    assert (plan["schema"], plan["kind"], edits.layers) == ("gatenorm/plan/1", "block", edits.blocks)
    left = str(next(layer for layer in range(5) if layer not in edits.blocks))
    again = ("--kind", "mlp", "--drop", left, "-o", tmp_path / "again")
    status, out, err = run(capsys, "prune", tmp_path / "blocks", *again)
    assert (status, err) == (0, "")
    assert f"MLP {left} removed: 0 of 3" in out
    assert "cache is as large as before" in out
    status, out, _ = run(capsys, "score", tmp_path / "again", "--kind", "mlp", "--criterion", "cosine@random", *FEW)
    assert status == 0
    assert "attention and MLP removed" in out
    assert "MLP removed" in out
    status, out, _ = run(capsys, "inspect", tmp_path / "again", "--json", "-")
    facts = json.loads(out)
    assert int(left) in facts["mlp_removed_in"]
    assert facts["goes_with_the_mlp"] == ["post_attention_layernorm", "mlp"]
    target = ("--kind", "block", "--criterion", "depth", "--target-speedup", "1.3", "-o", tmp_path / "fast")
    status, out, err = run(capsys, "prune", model, *target)
    assert (status, err) == (0, "")
    assert "predicted by the cost model" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("prune", "--kind", "blocks", "--layers", 1), "kind-unknown kind"),
        (("prune", "--kind", "block", "--layers", 1), "criterion-kind criterion"),
        (("prune", "--layers", 1, "--criterion", "block-cosine@self"), "criterion-kind criterion"),
        (("score", "--kind", "mlp"), "criterion-kind criterion"),
        (("score", "--kind", "tail"), "kind-unknown kind"),
        (("score", "--kind", "mlp", "--criterion", "cosine@random", "--cross-check"), "cross-check-kind cross_check"),
        (("prune", "--kind", "mlp", "--criterion", "depth", "--max-cache-gb", 1), "mlp-without-cache max_cache_gb"),
        (("prune", "--kind", "mlp", "--drop", "9"), "layer-unknown drop"),
    ],
)
def test_kinds_that_do_not_fit_are_refused_before_any_work(
    arguments: tuple[object, ...],
    message: str,
    tiny_models: TinyModels,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    out = ("-o", tmp_path / "out") if arguments[0] == "prune" else ()
    refused(capsys, message, arguments[0], tiny_models("llama-mha"), *arguments[1:], *out)
    assert not (tmp_path / "out").exists()

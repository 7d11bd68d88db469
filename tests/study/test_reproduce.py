"""A recipe carried out on the built-in model: its figures are the API's own, and nothing is measured twice."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
from msgspec.structs import replace

import gatenorm
from gatenorm.audit.plan.pace import Pace
from gatenorm.cli.tables import reproduction as tables
from gatenorm.demo.package import MODEL
from gatenorm.evaluation.core.job import TaskOptions
from gatenorm.families import Layout
from gatenorm.models.model import Model
from gatenorm.progress import Progress
from gatenorm.records import Edits
from gatenorm.records.evidence import Figure, Harness, Measurements
from gatenorm.records.serialization import from_json, to_json
from gatenorm.results import ResultStore
from gatenorm.study.measurements import Results, _figures
from gatenorm.study.recipe import Shape, recipe
from gatenorm.study.record import Reproduction
from gatenorm.study.run import Options, estimate, reproduce, stands_in
from gatenorm.study.workbench import Workbench
from tests.command_line import answer, refused as refuses
from tests.errors import refused

RECIPE = """
title: a curve
model: demo
shape: {layers: 16, width: 64}
calibration: {source: random, samples: 2, length: 32}
plot: curve
rankings: {criteria: [gate-norm, depth], yardstick: cosine}
removal:
  criteria: [gate-norm, cosine@random]
  counts: [2, 5]
  random_draws: 2
  evaluations: [{task: perplexity, data: generic, window: 64, limit: 4}, {task: multistep, limit: 2}]
claims:
  - {says: fewer cost less, figure: rise/gate-norm/2, below: rise/gate-norm/5}
  - {says: a number, figure: perplexity/unpruned/0, near: 5}
"""


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "mine.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Options:
    return Options(state=tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="module")
def found(recipe_file: Path, options: Options) -> Reproduction:
    return reproduce(str(recipe_file), options)


def test_figures_are_those_of_the_api(found: Reproduction):
    model = Model.of_layout(gatenorm.open_model("demo"))
    gone = gatenorm.score("demo").ranking[:2]
    request = TaskOptions(window=64, limit=4)
    (before,) = gatenorm.evaluate(model, "perplexity", "generic", request=request)
    (after,) = gatenorm.evaluate(
        model.edited_copy(Edits.of("attention", gone)), "perplexity", "generic", request=request
    )
    assert found.figures["perplexity/unpruned/0"].value == pytest.approx(before.perplexity)
    assert found.figures["perplexity/gate-norm/2"].value == pytest.approx(after.perplexity)
    rise = found.figures["rise/gate-norm/2"]
    assert rise.value == pytest.approx(math.log(after.perplexity / before.perplexity))
    assert rise.low is not None
    assert rise.high is not None
    assert rise.low < rise.value < rise.high
    assert found.scores["gate-norm"].layers == gatenorm.score("demo").layers
    agreement = gatenorm.compare("demo", ["gate-norm", "cosine"], calibration=gatenorm.Calibration("random", 2, 32))
    assert found.figures["spearman/gate-norm/cosine"].value == pytest.approx(agreement.agreements[0].spearman)


def test_random_draws_are_a_band(found: Reproduction):
    draws = [line.perplexity[2] for line in found.band]
    band = found.figures["perplexity/random/2"]
    assert (band.low, band.high) == (min(draws), max(draws))
    assert band.value == pytest.approx(math.sqrt(draws[0] * draws[1]))
    base = found.figures["perplexity/unpruned/0"].value
    rise = found.figures["rise/gate-norm/2"].value
    beats = found.figures["beats/gate-norm/2"]
    hits = sum(math.log(draw / base) > rise for draw in draws)
    assert beats.value == hits / 2
    # The exact ends of a proportion of two: 1 - 0.025^(1/2), and what is left and right of one half.
    ends = {0: (0.0, 0.841886), 1: (0.012579, 0.987421), 2: (0.158114, 1.0)}
    assert (beats.low, beats.high) == pytest.approx(ends[hits], abs=1e-6)
    assert not any(name.startswith(("rise/random 0", "perplexity/random 1")) for name in found.figures)


def test_a_second_run_measures_nothing(recipe_file: Path, options: Options, found: Reproduction):
    again = reproduce(str(recipe_file), options)
    assert [part.runs for part in again.parts] == [0, 0]
    assert all(part.kept for part in again.parts)
    assert again.figures == found.figures


def test_a_pruned_checkpoint_is_named_by_its_layers_alone(tmp_path: Path):
    """A name with more in it, such as that of cosine@FILE, would lead out of the folder, or to other tokens' layers."""
    session = gatenorm.api.session("demo")
    store = ResultStore(tmp_path / "results")
    bench = Workbench(recipe("smollm2-speed"), session, store, tmp_path / "study", None, lambda *_: nullcontext())
    first, same, other = (bench.pruned(gone) for gone in ((3, 5), (5, 3), (3, 6)))
    assert first == same != other
    assert {path.parent for path in (first, other)} == {tmp_path / "study"}
    assert gatenorm.open_model(first).edits == Edits.of("attention", (3, 5))


def test_the_record_is_read_back(found: Reproduction):
    data = json.loads(json.dumps(to_json(found)))
    assert from_json(Reproduction, data, "a reproduction") == found
    assert {row["what"] for row in found.rows()} >= {"perplexity", "rise", "multistep", "spearman"}


def test_numbers_of_the_paper_are_compared_on_its_own_model_alone(found: Reproduction):
    """The recipe is for a model 64 wide, and the built-in one is 128."""
    assert [claim.verdict == "not comparable" for claim in found.claims] == [False, True]
    assert found.claims[0].verdict != "not measured"
    assert found.stand_in == "demo"


def test_what_was_measured_of_a_model_that_changed_meanwhile_is_not_kept(tmp_path: Path):
    model = shutil.copytree(MODEL.checked_directory(), tmp_path / "model")
    store = ResultStore(tmp_path / "results")
    session = gatenorm.api.session(model)
    bench = Workbench(recipe("smollm2-speed"), session, store, tmp_path, None, lambda *_: nullcontext(None))

    def measure() -> Measurements:
        (model / "config.json").write_text((model / "config.json").read_text() + " ")
        return Measurements(())

    with refused("file-changed"):
        bench.once({"anything": 1}, Measurements, measure)
    assert not store.directory.exists()


def test_an_estimate_counts_what_would_run(recipe_file: Path, options: Options):
    asked, parts = estimate(str(recipe_file), options)
    assert asked.title == "a curve"
    assert [(part.what, part.runs) for part in parts] == [("rankings", 3), ("removal", 9)]
    assert all(part.seconds > 0 for part in parts)


def test_an_estimate_is_for_the_type_that_is_asked_for(
    recipe_file: Path, options: Options, monkeypatch: pytest.MonkeyPatch
):
    asked: list[str] = []

    def pace(layout: Layout, device: str, dtype: str, threads: int) -> Pace:
        asked.append(dtype)
        return Pace(layout, device, dtype, threads)

    monkeypatch.setattr("gatenorm.study.run.Pace", pace)
    estimate(str(recipe_file), dataclasses.replace(options, dtype="bfloat16"))
    assert asked == ["bfloat16"]


def test_too_many_to_remove_are_refused_before_anything_is_measured(tmp_path: Path, recipe_file: Path):
    path = tmp_path / "much.yaml"
    path.write_text(recipe_file.read_text().replace("[2, 5]", "[2, 16]"))
    with refused("count-out-of-range", "layers"):
        reproduce(str(path), Options(state=tmp_path / "state"))
    assert not (tmp_path / "state").exists()


def test_the_command_prints_figures_claims_and_writes_json_and_a_plot(
    recipe_file: Path, options: Options, found: Reproduction, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    plot = tmp_path / "curve.svg"
    said = answer(capsys, "reproduce", recipe_file, "--state", options.state, "--plot", plot)
    assert said.status == 0
    for words in ("fewer cost less", "layers removed first", "known before", "verdict"):
        assert words in said.out
    assert "claims of" not in said.out  # none of them quotes a paper
    assert "carried out in small" not in said.out
    assert plot.read_text().startswith("<svg")
    data = json.loads(answer(capsys, "reproduce", recipe_file, "--state", options.state, "--json", "-").out)
    assert data["schema"] == "gatenorm/reproduction/1"
    assert data["figures"].keys() == found.figures.keys()


def test_a_trial_says_that_its_figures_are_not_to_be_believed(found: Reproduction, capsys: pytest.CaptureFixture[str]):
    tables.show(found, trial=True)
    assert "believe none of its figures" in capsys.readouterr().out


def test_figures_of_few_models_share_a_table(capsys: pytest.CaptureFixture[str]):
    """As of a recovery: a table for each of its tasks would have one or two figures."""
    kinds = ("pruned", "recovered", "copying pruned", "copying recovered")
    figures = {f"{kind}/gate-norm/15": Figure(value=0.5) for kind in kinds} | {
        "recovered/unpruned/0": Figure(value=1.0)
    }
    figures |= {f"score/gate-norm/{layer}": Figure(value=2.0) for layer in range(9)}
    identity = gatenorm.open_model("demo").identity()
    tables.show(Reproduction(name="", title="", source="", model=identity, figures=figures, claims=(), parts=()))
    said = capsys.readouterr().out
    assert [said.count(f"{word} ") for word in ("gate-norm, 15", "unpruned", "copying recovered")] == [1, 1, 1]
    assert said.count("┏") == 2


def test_the_command_lists_recipes_and_says_what_one_would_take(
    recipe_file: Path, options: Options, capsys: pytest.CaptureFixture[str]
):
    listed = answer(capsys, "reproduce", "--list").out
    assert "smollm2-perplexity" in listed
    assert "hub, gpu" in listed
    said = answer(capsys, "reproduce", recipe_file, "--dry-run", "--state", options.state).out
    assert "removal" in said
    assert "in all" in said
    refuses(capsys, "recipe-missing name", "reproduce")
    # Said before anything is measured.
    refuses(capsys, "nothing-to-draw plot", "reproduce", "smollm2-multistep", "--model", "nowhere", "--plot", "a.svg")
    refuses(capsys, "recipe-unknown name", "reproduce", "smollm2-curve")


def test_a_stand_in_is_one_of_another_shape():
    asked, layout = recipe("llama-13b-layers"), gatenorm.open_model("demo")
    assert stands_in(asked, layout) == "huggyllama/llama-13b"
    assert stands_in(replace(asked, shape=Shape(layout.layers, layout.width)), layout) == ""


def test_a_task_without_a_share_of_right_answers_gives_no_figure():
    results = Results()
    record = Harness(name="translation", metrics={"bleu": Figure(value=30.0)}, count=4)
    _figures("gate-norm", 2, [record], [record], results)
    assert results.figures == {}


def test_trainings_are_counted_and_reported_step_by_step(tmp_path: Path):
    path = tmp_path / "recovery.yaml"
    path.write_text("""
title: two budgets
model: demo
calibration: {source: generic}
recovery: {counts: [1, 2], steps: 2, batch: 1, length: 32, limit: 2}
claims: [{says: it works, figure: boundary/gate-norm/perplexity, above: 1}]
""")
    text = tmp_path / "held-out.txt"
    text.write_text("A sentence of a text that is held out from training. " * 40)
    options, told = Options(data=str(text), state=tmp_path / "state"), []

    def bars(what: str, unit: str) -> AbstractContextManager[Progress]:
        return nullcontext(lambda done, total: told.append((what, done, total)))

    (made,) = reproduce(str(path), options, bars).parts
    assert (made.runs, made.kept) == (2, 0)
    assert [one for one in told if one[0] == "training"] == [("training", done, 4) for done in (1, 2, 3, 4)]
    (again,) = reproduce(str(path), options).parts
    assert (again.runs, again.kept) == (0, 2)

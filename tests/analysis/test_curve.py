"""What a curve measures beside perplexity: tasks and speed of copies that share every tensor, kept and gone on with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

import gatenorm
from gatenorm.analysis.latency import LatencyProbe
from gatenorm.demo.evaluation import WorldTask
from gatenorm.demo.package import MODEL
from gatenorm.errors import CriterionError, EvaluationError, OutputError, RecordError
from gatenorm.evaluation.tasks.perplexity import Protocol
from gatenorm.models.loading import load
from gatenorm.records import Edits, LayerScore, from_json, to_json
from gatenorm.records.curve import Curve, Point
from gatenorm.records.evidence import Figure, Harness, Measured, Measurements
from gatenorm.surgery.disk import write_pruned
from gatenorm.surgery.planning import plan_by_hand
from tests.analysis.models import SHAPES, layout_of, model_on
from tests.errors import refused
from tests.results.test_fingerprint import swap_two_tokens
from tests.tiny_models import tokens

TinyModels = Callable[..., Path]


@pytest.mark.parametrize("name", SHAPES)
def test_a_copy_is_the_pruned_checkpoint_and_holds_no_tensor_of_its_own(
    name: str, tiny_models: TinyModels, tmp_path: Path
):
    layout = layout_of(tiny_models(name))
    model = load(layout.checkpoint.directory, dtype=torch.float32)
    write_pruned(layout, plan_by_hand(layout, [0, 2]), tmp_path / "out")
    expected = load(tmp_path / "out", dtype=torch.float32)
    before = model(tokens()).logits
    whole = model_on(layout, model)
    copied = whole.edited_copy(Edits.of("attention", {2, 0})).module
    own = {t.data_ptr() for t in (*model.parameters(), *model.buffers())}
    assert {t.data_ptr() for t in (*copied.parameters(), *copied.buffers())} <= own
    asked = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    with torch.no_grad():
        assert torch.equal(copied(tokens()).logits, expected(tokens()).logits)
        assert torch.equal(model(tokens()).logits, before)
        # With a cache, which has one layer for every attention that is left.
        assert torch.equal(copied.generate(tokens(), **asked), expected.generate(tokens(), **asked))
    assert whole.edited_copy(Edits()) is whole


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text in the built-in model's language."""
    from gatenorm.demo.corpus import stories

    path = tmp_path_factory.mktemp("text") / "stories.txt"
    path.write_text(stories(4).content)
    return path


def measured(session: Any, text: Path, ranking: Any = "gate-norm", **options: Any) -> Curve:
    how = {"counts": [2], "protocol": Protocol(window=64, limit=2), "seeds": 1} | options
    return gatenorm.curve(session, [ranking], str(text), **how)


def test_tasks_are_those_of_the_pruned_checkpoint_and_are_added_to_a_state(text: Path, tmp_path: Path):
    from gatenorm.evaluation.core.job import TaskOptions

    session, state = gatenorm.session("demo"), tmp_path / "state"
    # The first layers, which the tasks cannot do without: the late ones would leave every item right.
    ranked = gatenorm.score(session, "depth")
    layers = tuple(LayerScore(s.layer, float(s.layer)) for s in ranked.layers)
    first = msgspec.structs.replace(ranked, layers=layers, ranking=())
    plain = measured(session, text, first, state=state)
    assert plain.records == ()
    asked = {"state": state, "tasks": "retrieval", "task_limit": 4}
    steps: list[tuple[int, int]] = []
    found = measured(session, text, first, progress=lambda *step: steps.append(step), **asked)
    jobs = len(found.records)
    # Perplexity of 0, of 2 by the ranking and of 2 at random is known; the tasks of the ranking's two are not.
    assert steps[-1] == (3 + 2 * jobs, 3 + 2 * jobs)
    assert (3, 3 + 2 * jobs) in steps
    (line,) = found.lines
    assert line.perplexity == plain.lines[0].perplexity
    assert all(point.records == () for point in found.band[0].points)
    gatenorm.prune("demo", tmp_path / "two", gatenorm.plan("demo", drop=line.removed[2]))
    records = gatenorm.evaluate(tmp_path / "two", "retrieval", request=TaskOptions(limit=4))
    right = {r.task: r.metrics["accuracy"].value for r in records if isinstance(r, WorldTask)}
    whole, two = line.points
    assert {task: two.numbers()[f"{task}.accuracy"] for task in right} == right
    assert whole.accuracy is not None
    assert two.accuracy == pytest.approx(sum(right.values()) / len(right))
    assert two.accuracy < whole.accuracy - 0.2
    assert not any(record.paired_items for record in two.records)
    fresh = gatenorm.session("demo")
    again = measured(fresh, text, first, **asked)
    assert not fresh.model.loaded
    assert again.lines == found.lines
    with pytest.raises(OutputError) as error:
        measured(fresh, text, first, state=state, tasks="retrieval", task_limit=5)
    assert (error.value.code, error.value.field) == ("results-differ", "state")
    assert from_json(Curve, json.loads(json.dumps(to_json(found))), "a curve") == found


def test_a_state_of_another_tokenizer_or_of_other_software_is_refused(text: Path, tmp_path: Path):
    directory, state = tmp_path / "model", tmp_path / "state"
    shutil.copytree(MODEL.checked_directory(), directory)
    how: dict[str, Any] = {"counts": [1], "seeds": 0, "state": state}
    found = measured(gatenorm.session(directory), text, **how)
    fresh = gatenorm.session(shutil.copytree(directory, tmp_path / "elsewhere"))
    assert measured(fresh, text, **how).lines == found.lines
    assert not fresh.model.loaded
    claims = state / "claims.json"
    kept = claims.read_text()
    told = json.loads(kept)
    told["claims"]["perplexity of a curve"]["versions"]["torch"] = "1.0"
    claims.write_text(json.dumps(told))
    with refused("results-differ", "state", OutputError) as caught:
        measured(fresh, text, **how)
    assert "(software.torch 1.0," in caught.value.problem
    claims.write_text(kept)
    swap_two_tokens(directory)
    with refused("results-differ", "state", OutputError) as caught:
        measured(gatenorm.session(directory), text, **how)
    assert "(model " in caught.value.problem


def test_speed_is_held_against_the_whole_model_in_turns(text: Path, monkeypatch: pytest.MonkeyPatch):
    from gatenorm.engines import Case, Sample
    from gatenorm.engines.transformers.timed import TransformersTimed

    ran: list[int] = []

    def run(session: TransformersTimed, case: Case) -> Sample:
        attentions = sum(hasattr(block, "self_attn") for block in session.model.model.layers)
        ran.append(attentions)
        return Sample(prefill=attentions / 4, first_token=1.0, decode=2.0 * attentions)

    monkeypatch.setattr(TransformersTimed, "run", run)
    found = measured(gatenorm.session("demo"), text, latency=LatencyProbe(48, 8, rounds=3))
    assert ran == [16] * 4 + [16, 14] * 4
    whole, two = (point.numbers() for point in found.lines[0].points)
    assert (whole["prefill_speedup"], two["prefill_speedup"]) == (1.0, 16 / 14)
    assert (whole["decode_speedup_low"], two["decode_speedup_low"]) == (1.0, 16 / 14)
    assert (whole["prefill_seconds"], two["prefill_seconds"]) == (4.0, 3.5)
    assert (whole["decode_tokens_per_second"], two["decode_tokens_per_second"]) == (8 / 32, 8 / 28)
    assert found.speed is not None
    how = found.speed.protocol
    assert (how.prompt_tokens, how.new_tokens, how.rounds, how.engine) == (48, 8, 3, "transformers")
    assert from_json(Curve, json.loads(json.dumps(to_json(found))), "a curve") == found


def test_speed_is_really_timed(text: Path):
    found = measured(gatenorm.session("demo"), text, latency=LatencyProbe(32, 2, rounds=2), seeds=0)
    figures = found.lines[0].points[-1].numbers()
    for phase in ("prefill", "decode"):
        low, middle, high = (figures[f"{phase}_speedup{end}"] for end in ("_low", "", "_high"))
        assert 0 < low <= middle <= high
    assert all(point.numbers()["prefill_seconds"] > 0 for point in found.lines[0].points)


def test_a_curve_of_another_schema_is_refused_by_name(text: Path):
    data = to_json(measured(gatenorm.session("demo"), text, counts=[1], seeds=0))
    with refused("schema-unknown", kind=RecordError):
        from_json(Curve, data | {"schema": "gatenorm/curve/9"}, "a curve")
    with refused("field-missing", "protocol", RecordError):
        from_json(Curve, {key: value for key, value in data.items() if key != "protocol"}, "a curve")
    with refused("field-wrong", "a curve", RecordError):
        from_json(Curve, data | {"lines": []}, "a curve")


def test_the_random_criterion_is_drawn_by_the_seed_and_the_band_by_its_own(text: Path):
    session = gatenorm.session("demo")
    found = measured(session, text, "random", seed=5, counts=[3])
    (line,), (band,) = found.lines, found.band
    assert line.removed[3] == tuple(gatenorm.score(session.layout, "random", seed=5).ranking[:3])
    assert band.removed[3] == tuple(gatenorm.score(session.layout, "random", seed=0).ranking[:3])
    assert line.removed[3] != band.removed[3]


def test_what_a_curve_cannot_be_of_is_said_before_any_work(text: Path):
    with refused("criteria-missing", "criteria", CriterionError):
        gatenorm.curve("demo", [], str(text))
    with refused("one-device-needed", "device", EvaluationError):
        measured(gatenorm.session("demo", device="auto"), text, latency=32)


def test_the_accuracy_of_a_point_is_the_mean_of_what_speaks_for_its_tasks():
    def task(name: str, **metrics: float) -> Harness:
        return Harness(name=name, metrics={key: Figure(value=value) for key, value in metrics.items()}, count=4)

    records = (task("gsm8k", exact_match=0.4), task("hellaswag", acc=0.5, acc_norm=0.8), task("wmt", bleu=30.0))
    point = Point((), 10.0, Measurements((*records, Measured(name="accuracy", value=9.0))))
    assert point.accuracy == pytest.approx(0.6)
    assert point.numbers()["gsm8k.exact_match"] == 0.4
    assert Point((), 10.0, Measurements(records[-1:])).accuracy is None

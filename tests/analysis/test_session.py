"""The verbs that run a model: records that state their protocol, one pass for three criteria, cross-check, curve."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

import gatenorm
from gatenorm.calibration.samples import Calibration
from gatenorm.criteria import session as session_module
from gatenorm.criteria.registry import criterion, forward_criteria, known, weight_criteria
from gatenorm.criteria.session import ScoringSession
from gatenorm.errors import CalibrationError, CriterionError, EvaluationError, OutputError, RecordError
from gatenorm.records import Scores, from_json, to_json
from gatenorm.records.curve import Curve, spread
from gatenorm.records.evidence import FewLayersShared
from tests.errors import refused

TinyModels = Callable[..., Path]
HOW = Calibration("random", samples=3, length=12)


def test_every_criterion_that_is_named_can_be_measured():
    assert {*forward_criteria()} | {*weight_criteria()} == {*known()}
    with refused("criterion-unknown", "criterion", CriterionError) as caught:
        criterion("cosin")
    assert "'cosine'" in caught.value.hint


@pytest.mark.parametrize("name", forward_criteria())
def test_scores_state_their_calibration(name: str, tiny_models: TinyModels):
    how = replace(HOW, samples=8)  # a map needs more tokens than the model is wide
    scores = gatenorm.score(tiny_models("llama-mha"), name, calibration=how)
    assert [s.layer for s in scores.layers] == list(range(5))
    assert scores.calibration is not None
    keys = ("source", "samples", "length", "seed", "dtype", "device")
    stated = {key: getattr(scores.calibration, key) for key in keys}
    assert stated == {"source": "random", "samples": 8, "length": 12, "seed": 0, "dtype": "float32", "device": "cpu"}
    assert scores.seconds == pytest.approx(sum(structs.astuple(scores.calibration.seconds)))
    assert from_json(Scores, json.loads(json.dumps(to_json(scores))), "scores") == scores
    assert gatenorm.score(tiny_models("llama-mha"), f"{name}@self", calibration=how).ranking


def test_a_plan_can_rest_on_data(tiny_models: TinyModels, tmp_path: Path):
    model = tiny_models("gpt2")
    scores = gatenorm.score(model, "cosine", calibration=HOW)
    plan = gatenorm.plan(model, layers=2, criterion="cosine", calibration=HOW)
    assert set(plan.edits.attention) == set(scores.ranking[:2])
    assert plan.scores is not None
    assert plan.scores.calibration is not None
    gatenorm.prune(model, tmp_path / "out", plan)
    assert (tmp_path / "out/gatenorm.json").is_file()


def test_a_model_may_be_spread_and_may_be_pruned(tiny_models: TinyModels, tmp_path: Path):
    model = tiny_models("llama-mha")
    whole = gatenorm.score(model, "leave-one-out", calibration=HOW)
    spread = gatenorm.score(model, "leave-one-out", calibration=HOW, device="auto", dtype="float32")
    assert [s.score for s in spread.layers] == pytest.approx([s.score for s in whole.layers], abs=1e-6)
    assert gatenorm.score(model, device="auto").ranking == gatenorm.score(model).ranking
    gatenorm.prune(model, tmp_path / "out", gatenorm.plan(model, drop=[1]))
    pruned = gatenorm.compare(tmp_path / "out", ["leave-one-out", "cosine", "gate-norm"], calibration=HOW)
    assert all([s.layer for s in scores.layers] == [0, 2, 3, 4] for scores in pruned.scores)
    assert [s.score for s in pruned.scores[0].layers] != pytest.approx([s.score for s in whole.layers[:4]])


def test_one_pass_serves_three_criteria(tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch):
    passes: list[Any] = []
    real = session_module.observe
    monkeypatch.setattr(session_module, "observe", lambda *given: passes.append(given) or real(*given))
    found = gatenorm.compare(
        tiny_models("olmo2"), ["cosine", "norm-ratio", "block-cosine", "gate-norm"], calibration=HOW
    )
    assert len(passes) == 1
    assert [s.criterion for s in found.scores] == ["cosine", "norm-ratio", "block-cosine", "gate-norm"]
    assert len(found.agreements) == 6


def test_layer_by_layer_is_said_in_the_record(tiny_models: TinyModels):
    model = tiny_models("gemma2")
    whole = gatenorm.score(model, "cosine", calibration=HOW)
    apart = gatenorm.score(model, "cosine", calibration=HOW, layer_by_layer=True)
    assert [s.score for s in apart.layers] == pytest.approx([s.score for s in whole.layers], rel=1e-6)
    assert apart.calibration is not None
    assert apart.calibration.layer_by_layer is True


def test_what_makes_no_request_is_refused_at_once(tiny_models: TinyModels):
    for criteria, code in [
        (["gate-norm", "cosine"], "calibration-missing"),
        (["gate-norm@self", "depth"], "criterion-tokens"),
        (["cosine@", "depth"], "criterion-tokens"),
        (["cosine@self", "cosine@self"], "criterion-twice"),
        (["gate-norm"], "criteria-too-few"),
    ]:
        with pytest.raises(CriterionError) as error:
            gatenorm.compare(tiny_models("llama-gqa"), criteria)
        assert error.value.code == code
    with refused("calibration-unused", "calibration", CriterionError):
        gatenorm.score(tiny_models("llama-gqa"), "gate-norm", calibration="self")
    with refused("data-missing", "data", CalibrationError):
        gatenorm.score("demo", "cosine", calibration="none.txt")


def test_a_cross_check_names_the_layers_in_dispute(tiny_models: TinyModels):
    session = gatenorm.session(tiny_models("llama-mha"))
    scores = gatenorm.score(session, "depth")
    checked = gatenorm.cross_check(session, scores, 2, protect=[4], calibration=HOW)
    assert [c.calibration.source for c in checked.checks if c.calibration] == ["self", "random"]
    for check, dispute in zip(checked.checks, checked.disputes, strict=True):
        chosen, other = {2, 3}, set([layer for layer in check.ranking if layer != 4][:2])
        assert set(dispute.only_scores) == chosen - other
        assert set(dispute.only_check) == other - chosen
        few = [w.evidence for w in checked.warnings if isinstance(w.evidence, FewLayersShared)]
        shared = [one.shared for evidence in few for one in evidence.checks if one.check == dispute.check]
        assert shared == ([] if chosen & other else [()])


@pytest.mark.shared
def test_a_cross_check_is_on_packaged_text_where_the_model_reads_it(shared: Path):
    """No slower than random tokens, where self-sampled text has to be drawn first; the demo has its own language."""
    for model, sources in ((shared / "models/stories260K", ["generic", "random"]), ("demo", ["self", "random"])):
        session = gatenorm.session(model)
        checked = gatenorm.cross_check(session, gatenorm.score(session), 2, calibration=HOW)
        assert [c.calibration.source for c in checked.checks if c.calibration] == sources


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text in the built-in model's language."""
    from gatenorm.demo.corpus import stories

    path = tmp_path_factory.mktemp("text") / "stories.txt"
    path.write_text(stories(6).content)
    return path


def measured(session: ScoringSession, text: Path, state: Path | None, **options: Any) -> Curve:
    from gatenorm.evaluation.tasks.perplexity import Protocol

    how = {"counts": [1, 2], "protocol": Protocol(window=64, limit=2), "seeds": 2} | options
    return gatenorm.curve(session, ["gate-norm", "depth"], str(text), state=state, **how)


def test_a_curve_is_that_of_pruned_checkpoints_and_goes_on_where_it_stopped(text: Path, tmp_path: Path):
    from gatenorm.evaluation.core.text import read_text
    from gatenorm.evaluation.tasks.perplexity import Protocol, perplexity
    from gatenorm.models.loading import load, load_tokenizer

    state, steps = tmp_path / "state", []
    session = gatenorm.session("demo")
    found = measured(session, text, state, progress=lambda done, total: steps.append((done, total)))
    assert found.counts == (0, 1, 2)
    assert steps[-1][0] == steps[-1][1] == len([*state.iterdir()]) - 1
    for line in found.lines:
        gatenorm.prune("demo", tmp_path / line.name, gatenorm.plan("demo", drop=line.removed[2]))
        where, protocol = tmp_path / line.name, Protocol(window=64, limit=2)
        pruned = load(where, dtype="float32")
        expected = perplexity(pruned, load_tokenizer(where), read_text(str(text)), protocol).perplexity
        assert line.perplexity[2] == pytest.approx(expected, rel=1e-5)
    extents = spread(found.band)
    assert all(low <= mean <= high for low, mean, high in extents.values())
    assert extents[0][0] == extents[0][2]
    fresh = gatenorm.session("demo")
    again = measured(fresh, text, state)
    assert not fresh.model.loaded
    assert again.lines == found.lines
    json.dumps(to_json(again))
    (state / "claims.json").write_text("{}")
    with refused("schema-unknown", kind=RecordError):
        measured(fresh, text, state)


def test_a_curve_measures_what_else_it_is_asked_for(text: Path, tmp_path: Path):
    def blocks_with_attention(model: Any) -> float:
        return sum(hasattr(block, "self_attn") for block in model.model.layers)

    state = tmp_path / "state"
    session = gatenorm.session("demo")
    how = {"counts": [2], "seeds": 0, "measures": {"attentions": blocks_with_attention}}
    found = measured(session, text, state, **how)
    assert [point.numbers() for point in found.lines[0].points] == [{"attentions": 16.0}, {"attentions": 14.0}]
    assert [point["records"][0]["value"] for point in to_json(found)["lines"][0]["points"]] == [16.0, 14.0]
    assert measured(gatenorm.session("demo"), text, state, **how).lines == found.lines


def test_a_curve_refuses_what_it_cannot_measure(text: Path, tmp_path: Path):
    session = gatenorm.session("demo")
    short = tmp_path / "short.txt"
    short.write_text("short")
    with refused("text-too-short", "data", EvaluationError):
        gatenorm.curve(session, ["cosine@self"], str(short))
    with refused("count-out-of-range", "counts", EvaluationError):
        measured(session, text, None, counts=[16])
    with refused("task-compares", "tasks", EvaluationError):
        measured(session, text, None, tasks="domain", task_data=str(text))
    with refused("context-too-short", "latency", EvaluationError):
        measured(session, text, None, latency=500)
    with refused("not-a-directory", "data", EvaluationError):
        measured(session, text, None, tasks="zeroshot", task_data="none")
    with refused("one-device-needed", "device", EvaluationError):
        measured(gatenorm.session("demo", device="auto"), text, None, tasks="retrieval")
    assert not session.model.loaded
    with refused("out-unwritable", kind=OutputError):
        measured(session, text, short, counts=[1], seeds=0)

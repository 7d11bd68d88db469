"""Choosing among attention and MLP sublayers by damage for what they save: against every subset, and end to end."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import chain, combinations
from pathlib import Path

import numpy as np
import pytest

import gatenorm
from gatenorm.calibration.samples import Calibration
from gatenorm.cli import main
from gatenorm.models.architecture import Architecture, Work
from gatenorm.records import SUBLAYERS, Edit, Edits, Plan, from_json, to_json
from gatenorm.records.rankings import SublayerRanking
from gatenorm.speed.predict.cost_model import predict
from gatenorm.speed.predict.machines import machines
from gatenorm.surgery.card import model_card
from gatenorm.surgery.selection import cheapest
from tests.errors import refused

TinyModels = Callable[..., Path]
HOW = Calibration("random", samples=3, length=12)
ALL = tuple(Edit(layer, sublayer, "remove") for layer in range(4) for sublayer in SUBLAYERS)


def one_stays(edits: Edits) -> bool:
    """Of four layers."""
    return len(edits.attention) < 4 and len(edits.mlp) < 4


def saves(saved: dict[Edit, float], wanted: float) -> Callable[[Edits], bool]:
    return lambda edits: sum(saved[edit] for edit in edits) >= wanted - 1e-12


@pytest.mark.parametrize("seed", range(20))
def test_the_greedy_choice_is_enough_and_never_twice_the_best(seed: int):
    made = np.random.default_rng(seed)
    damage = dict(zip(ALL, made.uniform(0.1, 1, 8).tolist(), strict=True))
    saved = dict(zip(ALL, made.uniform(0.5, 1, 8).tolist(), strict=True))
    enough = saves(saved, 2.5)
    found = cheapest(damage, saved, enough, one_stays)
    assert found is not None
    assert enough(found)
    assert not any(enough(found - Edits([edit])) for edit in found)  # all of them are needed
    subsets = (Edits(one) for one in chain.from_iterable(combinations(ALL, n) for n in range(8)))
    best = min(sum(damage[edit] for edit in one) for one in subsets if enough(one))
    assert best <= sum(damage[edit] for edit in found) <= 2 * best


def test_what_is_cheap_for_what_it_saves_goes_first():
    attention, mlp = (dict.fromkeys((e for e in ALL if e.sublayer == kind), 1.0) for kind in SUBLAYERS)
    damage = {**attention, **mlp}
    saved = {**dict.fromkeys(attention, 1.0), **dict.fromkeys(mlp, 3.0)}
    assert cheapest(damage, saved, saves(saved, 3), one_stays) == Edits.of("mlp", [3])
    # Nothing that saves nothing; what does good before all; one of each kind stays.
    assert cheapest(damage, {**saved, **dict.fromkeys(mlp, 0.0)}, saves(saved, 3), one_stays) == Edits.of(
        "attention", (1, 2, 3)
    )
    good = {**damage, ALL[0]: -0.1}
    assert ALL[0] in (cheapest(good, saved, saves(saved, 3), one_stays) or ())
    assert cheapest(damage, saved, saves(saved, 12), one_stays) == Edits(ALL) - Edits.of("block", [0])
    assert cheapest(damage, saved, saves(saved, 12.5), one_stays) is None


def test_a_budget_that_some_edits_meet_is_never_called_out_of_reach():
    # The order by damage for what is saved takes layers 0 to 2, and the one of them that must stay is the useful one.
    damage = {edit: [1.0, 1.0, 1.0, 100.0][edit.layer] for edit in ALL if edit.sublayer == "attention"}
    saved = {edit: [1.0, 1.0, 1.0, 10.0][edit.layer] for edit in damage}
    found = cheapest(damage, saved, saves(saved, 11), one_stays)
    assert found is not None
    assert len(found) == 2
    assert 3 in found.attention


def test_a_plan_for_a_speed_up_takes_both_kinds_and_reaches_it(tiny_models: TinyModels):
    opened = gatenorm.session(tiny_models("llama-gqa"))
    asked = {"kind": "any", "criterion": "cosine", "calibration": HOW, "machine": "h200", "context": 64}
    plan = gatenorm.plan(opened, target_speedup="prefill=1.3", **asked)
    predicted = gatenorm.forecast(opened, plan, machine="h200", context=64)
    assert (plan.kind, plan.criterion, predicted.kind) == ("any", "cosine", "any")
    assert plan.scores is not None
    assert plan.mlp_scores is not None
    assert (plan.scores.kind, plan.mlp_scores.kind) == ("attention", "mlp")
    assert plan.mlp_scores.layers == gatenorm.score(opened, "cosine", kind="mlp", calibration=HOW).layers
    assert from_json(Plan, json.loads(json.dumps(to_json(plan))), "a plan") == plan
    times = predict(Architecture.of(opened.layout), machines()["h200"], Work.prefill(64))
    assert predicted.prefill == pytest.approx(times.speedup_with(plan.edits))
    assert predicted.prefill >= 1.3
    assert not any(times.speedup_with(plan.edits - Edits([edit])) >= 1.3 for edit in plan.edits)
    card = model_card(opened.layout, plan, ())
    assert "attention and MLP sublayers in one ranking, by damage for what they save" in card
    for kind, scores in (("attention", plan.scores), ("MLP", plan.mlp_scores)):
        table = card.partition(f"| cosine of {kind} sublayers |")[2].partition("\n\n")[0]
        marked = [row.layer for row in scores.layers if f"\n| {row.layer} | {row.score:.6g} | removed |" in table]
        assert tuple(marked) == plan.edits.layers_of(scores.kind)
    counted = gatenorm.plan(opened, layers=3, **asked)
    assert len(counted.edits) == 3
    # Only attention has a cache.
    cache = Architecture.of(opened.layout).cache_bytes(64)
    smaller = gatenorm.plan(opened, max_cache_gb=0.6 * cache / 1e9, **asked)
    less = gatenorm.forecast(opened, smaller, machine="h200", context=64)
    assert not smaller.edits.mlp
    assert less.cache_bytes <= 0.6 * cache
    assert list(smaller.edits.attention) == sorted(smaller.scores.ranking[: len(smaller.edits)])  # type: ignore[union-attr]
    assert not {0, 1} & {*gatenorm.plan(opened, layers=3, protect=(0, 1), **asked).edits.layers}


def test_only_what_measures_both_alike_can_choose(tiny_models: TinyModels):
    model = tiny_models("llama-gqa")
    for name in ("gate-norm", "perplexity-greedy", "depth"):
        with refused("criterion-kind", "criterion") as error:
            gatenorm.plan(model, kind="any", layers=2, criterion=name, calibration=HOW)
        assert "cosine or leave-one-out" in error.value.hint
    with refused("out-of-reach", "target_speedup"):
        gatenorm.plan(model, kind="any", target_speedup="50", criterion="cosine", calibration=HOW)
    with refused("choice-unclear"):
        gatenorm.plan(model, kind="any", layers=2, share=0.2, criterion="cosine", calibration=HOW)
    for wrong, code in (("linaer", "operation-unknown"), ("linear:64", "rank-out-of-range")):
        with refused(code, "replace"):
            gatenorm.plan(model, kind="any", layers=2, criterion="cosine", calibration=HOW, replace=wrong)
    with refused("fold-impossible", "replace"):
        gatenorm.plan(tiny_models("gemma2"), kind="any", layers=2, criterion="cosine", calibration=HOW, replace="fold")
    with refused("option-unused", "drop"):
        gatenorm.plan(model, kind="any", drop=[1], criterion="cosine", calibration=HOW)


def test_what_takes_a_sublayers_place_decides_what_it_saves(tiny_models: TinyModels):
    opened = gatenorm.session(tiny_models("llama-gqa"))
    asked = {"criterion": "cosine", "calibration": HOW, "machine": "h200", "context": 64}
    removed, replaced = (gatenorm.rank_sublayers(opened, replace=one, **asked) for one in ("remove", "linear"))
    assert from_json(SublayerRanking, json.loads(json.dumps(to_json(replaced))), "a ranking") == replaced
    assert {(one.edit.sublayer, one.edit.operation) for one in replaced.sublayers} == {
        ("attention", "linear"),  # whose place a map can take
        ("mlp", "remove"),
    }
    by_place = {(one.edit.layer, one.edit.sublayer): one for one in removed.sublayers}
    times = {
        phase: predict(Architecture.of(opened.layout), machines()["h200"], work)
        for phase, work in (("prefill", Work.prefill(64)), ("decode", Work.decode(64)))
    }
    for one in replaced.sublayers:
        before = by_place[one.edit.layer, one.edit.sublayer]
        assert (one.damage, one.cache) == (before.damage, before.cache)
        assert one.cache == (0.25 if one.edit.sublayer == "attention" else 0)
        assert (one.prefill < before.prefill) == (one.edit.sublayer == "attention")
        for phase, share in (("prefill", one.prefill), ("decode", one.decode)):
            with_edit = times[phase].total * (1 - share)
            assert times[phase].speedup_with(Edits([one.edit])) == pytest.approx(times[phase].total / with_edit)
    for ranking in (removed, replaced):
        ratios = [one.per_time for one in ranking.sublayers if one.per_time is not None and one.damage > 0]
        assert ratios == sorted(ratios)
        assert len(ranking.sublayers) == 8

    plan = gatenorm.plan(opened, kind="any", layers=5, replace="linear", criterion="cosine", calibration=HOW)
    assert (plan.kind, len(plan.edits)) == ("any", 5)
    assert all((edit.operation == "linear") == (edit.sublayer == "attention") for edit in plan.edits)


def test_folds_and_the_mlps_that_carry_them_are_not_both_chosen(tiny_models: TinyModels):
    opened = gatenorm.session(tiny_models("llama-gqa"))
    for layers in range(1, 5):
        plan = gatenorm.plan(opened, kind="any", layers=layers, replace="fold", criterion="cosine", calibration=HOW)
        folded = [edit.layer for edit in plan.edits if edit.operation == "fold"]
        assert 0 not in folded  # which has no MLP in front of it
        assert not {layer - 1 for layer in folded} & {*plan.edits.mlp}
    constant = gatenorm.plan(opened, kind="any", layers=5, replace="constant", criterion="cosine", calibration=HOW)
    assert {edit.operation for edit in constant.edits} == {"constant"}


def test_the_command_line_prunes_both(tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model, out = str(tiny_models("llama-gqa")), tmp_path / "out"
    how = ["--criterion", "cosine", "--calibration", "random", "--samples", "3", "--length", "12"]
    budget = ["--target-speedup", "prefill=1.3", "--machine", "h200", "--context", "64"]
    assert main(["prune", model, "--kind", "any", *budget, *how, "-o", str(out)]) == 0
    assert "predicted by the cost model on h200" in capsys.readouterr().out
    assert gatenorm.load(out) is not None
    asked = {"machine": "h200", "context": 64, "criterion": "cosine", "calibration": HOW}
    plan = gatenorm.plan(model, kind="any", target_speedup="prefill=1.3", **asked)
    assert gatenorm.open_model(out).edits == plan.edits
    assert main(["prune", model, "--kind", "any", "--layers", "5", *how, "--replace", "linear", "--dry-run"]) == 0
    assert "linear map" in capsys.readouterr().out
    for wrong, field in ((["--drop", "1"], "--drop"), (["--layers", "2", "--cross-check"], "--cross-check")):
        assert main(["prune", model, "--kind", "any", *wrong, "-o", str(tmp_path / "no")]) == 2
        assert field in capsys.readouterr().err


def test_score_shows_both_kinds_in_one_table(tiny_models: TinyModels, capsys: pytest.CaptureFixture[str]):
    model = str(tiny_models("llama-gqa"))
    how = ["--criterion", "cosine", "--calibration", "random", "--samples", "3", "--length", "12"]
    both = ["score", model, "--kind", "any", *how, "--context", "64", "--replace", "linear"]
    assert main(both) == 0
    shown = capsys.readouterr().out
    assert "per 1% time" in shown
    assert shown.count("linear") >= 4
    assert main([*both, "--json", "-"]) == 0
    ranking = from_json(SublayerRanking, json.loads(capsys.readouterr().out), "a ranking")
    assert (
        ranking.sublayers
        == gatenorm.rank_sublayers(model, criterion="cosine", calibration=HOW, context=64, replace="linear").sublayers
    )
    for wrong, field in (
        (["--kind", "any", *how, "--cross-check"], "--cross-check"),
        (["--kind", "any", "--criterion", "gate-norm"], "--criterion"),
        (["--kind", "mlp", *how, "--replace", "constant"], "--replace"),
    ):
        assert main(["score", model, *wrong]) == 2
        assert field in capsys.readouterr().err

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
from gatenorm.speed.predict.cost_model import predict
from gatenorm.speed.predict.machines import machines
from gatenorm.surgery.card import model_card
from gatenorm.surgery.selection import cheapest
from tests.errors import refused

TinyModels = Callable[..., Path]
HOW = Calibration("random", samples=3, length=12)
ALL = tuple(Edit(layer, sublayer, "remove") for layer in range(4) for sublayer in SUBLAYERS)
FOUR = {"attention": 4, "mlp": 4}


def saves(saved: dict[Edit, float], wanted: float) -> Callable[[Edits], bool]:
    return lambda edits: sum(saved[edit] for edit in edits) >= wanted - 1e-12


@pytest.mark.parametrize("seed", range(20))
def test_the_greedy_choice_is_enough_and_never_twice_the_best(seed: int):
    made = np.random.default_rng(seed)
    damage = dict(zip(ALL, made.uniform(0.1, 1, 8).tolist(), strict=True))
    saved = dict(zip(ALL, made.uniform(0.5, 1, 8).tolist(), strict=True))
    enough = saves(saved, 2.5)
    found = cheapest(damage, saved, enough, FOUR)
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
    assert cheapest(damage, saved, saves(saved, 3), FOUR) == Edits.of("mlp", [3])
    # Nothing that saves nothing; what does good before all; one of each kind stays.
    assert cheapest(damage, {**saved, **dict.fromkeys(mlp, 0.0)}, saves(saved, 3), FOUR) == Edits.of(
        "attention", (1, 2, 3)
    )
    good = {**damage, ALL[0]: -0.1}
    assert ALL[0] in (cheapest(good, saved, saves(saved, 3), FOUR) or ())
    assert cheapest(damage, saved, saves(saved, 12), FOUR) == Edits(ALL) - Edits.of("block", [0])
    assert cheapest(damage, saved, saves(saved, 12.5), FOUR) is None


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
        assert error.value.hint.startswith("choose by cosine or leave-one-out")
    with refused("out-of-reach", "target_speedup"):
        gatenorm.plan(model, kind="any", target_speedup="50", criterion="cosine", calibration=HOW)
    with refused("choice-unclear"):
        gatenorm.plan(model, kind="any", layers=2, share=0.2, criterion="cosine", calibration=HOW)
    with refused("operation-not-for-sublayer", "operation"):
        gatenorm.plan(model, kind="any", layers=2, criterion="cosine", calibration=HOW, replace="linear")


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
    for wrong, field in ((["--drop", "1"], "--drop"), (["--layers", "2", "--cross-check"], "--cross-check")):
        assert main(["prune", model, "--kind", "any", *wrong, "-o", str(tmp_path / "no")]) == 2
        assert field in capsys.readouterr().err

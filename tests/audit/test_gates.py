"""Gates: limits held against figures, by the rule about intervals."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from msgspec.structs import replace

from gatenorm.audit.judge.gates import _gate_of, check_gates, evaluate_gate, gates, limits, outcome_of
from gatenorm.audit.judge.metrics import GateValue, domain_divergence
from gatenorm.audit.judge.selection import nearest, too_far, unstable
from gatenorm.audit.judge.verdict import verdict
from gatenorm.audit.main import failed
from gatenorm.audit.output.output import _uneven
from gatenorm.demo.evaluation import WorldTask
from gatenorm.errors import AuditError
from gatenorm.evaluation.core.task import Metric, Task
from gatenorm.findings import Findings, findings
from gatenorm.records import Edits, Evidence, ModelIdentity, Plan, to_json
from gatenorm.records.audit import (
    BY_CHANCE,
    CANDIDATE,
    FAILS,
    INCONCLUSIVE,
    PASSES,
    AuditedVariant,
    BestSupported,
    GateResult,
)
from gatenorm.records.evidence import (
    MULTISTEP,
    RETRIEVAL,
    TASKS,
    Cell,
    Data,
    Figure,
    Item,
    Measurements,
    Multistep,
    Perplexity,
    PhaseTime,
    Refusal,
    RefusalItem,
    RefusalProtocol,
    Retrieval,
    RetrievalItem,
    RetrievalProtocol,
    Sample,
    Speed,
    SpeedProtocol,
    Spread,
    TaskEvidence,
    TaskItem,
    UnevenTasks,
    Workload,
    WorkloadProtocol,
    ZeroShot,
)
from tests.report.audits import audit as audit_fixture

NOBODY = ModelIdentity("nobody", "llama", 4, "0", {})
DATA = Data(name="some", sha256="1")
BEST = BestSupported(ranking="x", why="why", count=1, losses={}, rule="")
PROTOCOL = RetrievalProtocol(
    asks="one fact",
    lengths=(128,),
    depths=(0.5,),
    mean_tokens={"128": 120.0},
    items_a_cell=1,
    candidates=4,
    scoring="log-likelihood",
    chat_template=False,
)


def text(*losses: float) -> Perplexity:
    """A text of one window for each loss."""
    nll = sum(losses) / len(losses)
    items = tuple(Item(id=n, metrics={"nll": loss}) for n, loss in enumerate(losses))
    return Perplexity(model=NOBODY, data=DATA, perplexity=math.exp(nll), nll=nll, tokens=len(losses), items=items)


def speed(seconds: list[float], tokens: int, label: str) -> Speed:
    at = SpeedProtocol(
        engine="transformers", prompt_tokens=tokens, batch=1, new_tokens=8, order="in turns", label=label
    )
    samples = tuple(Sample(s / 2, s / 2, s / 2) for s in seconds)
    return Speed(model=NOBODY, protocol=at, prefill=PhaseTime(seconds=Spread.of(seconds)), samples=samples)


def held(name: str, reading: GateValue | None, limit: float) -> GateResult:
    gate = gates()[name]
    return evaluate_gate(dataclasses.replace(gate, find=lambda _: reading), limit, Findings((), (), ()))


@pytest.mark.parametrize(
    ("reading", "outcome"),
    [
        (GateValue(1.0, 0.5, 1.9), PASSES),
        (GateValue(2.0, 2.0, 2.0), PASSES),  # at the limit is within it
        (GateValue(1.0, 0.5, 2.5), INCONCLUSIVE),
        (GateValue(3.0, 1.9, 4.0), INCONCLUSIVE),
        (GateValue(3.0, 2.1, 4.0), FAILS),
        (GateValue(1.0), PASSES),
        (GateValue(3.0), FAILS),
        (GateValue(1.0, too_few=True), INCONCLUSIVE),
        (GateValue(3.0, too_few=True), INCONCLUSIVE),
        (None, INCONCLUSIVE),
    ],
)
def test_a_limit_inside_the_interval_proves_nothing(reading: GateValue | None, outcome: str):
    assert held("task-drop", reading, 2.0).outcome == outcome


def test_a_least_value_is_a_limit_from_below():
    assert held("speed-up", GateValue(1.1, 1.06, 1.2), 1.05).outcome == PASSES
    assert held("speed-up", GateValue(1.1, 1.01, 1.2), 1.05).outcome == INCONCLUSIVE
    fallen = held("speed-up", GateValue(1.0, 0.9, 1.02), 1.05)
    assert fallen.outcome == FAILS
    assert "by 0.05x" in fallen.detail


def test_the_rise_is_that_of_paired_losses_on_the_worst_text():
    before = text(1.0, 2.0, 3.0)
    after = text(1.1, 2.1, 3.1)
    found = findings([before], [after])
    result = evaluate_gate(gates()["perplexity-rise"], 6.0, found)
    assert result.value == pytest.approx(10.517, abs=1e-3)  # 100 (exp(0.1) - 1)
    assert result.low == pytest.approx(result.high)
    assert result.outcome == FAILS


def test_one_window_proves_nothing():
    before, after = (text(value) for value in (1.0, 1.001))
    result = evaluate_gate(gates()["perplexity-rise"], 6.0, findings([before], [after]))
    assert (result.outcome, result.low, result.high) == (INCONCLUSIVE, None, None)
    assert "too few for an interval" in result.detail
    json.dumps(to_json(result), allow_nan=False)


def test_what_is_lost_is_counted_item_by_item():
    before = share("demo-task", "accuracy", 100, 100, task="place")
    after = share("demo-task", "accuracy", 97, 100, task="place")
    result = evaluate_gate(gates()["task-drop"], 2.0, findings([before], [after]))
    assert result.value == pytest.approx(3.0)
    assert result.outcome == INCONCLUSIVE
    same = evaluate_gate(gates()["task-drop"], 2.0, findings([before], [before]))
    assert (same.value, same.outcome) == (0.0, PASSES)
    assert str(same.value) == "0.0"  # not -0.0, which people would read


def share(kind: str, metric: str, right: int, items: int, chance: float = 0.25, *, task: str) -> Evidence:
    """So many right answers, the first ones."""
    p = right / items
    figure = Figure(value=p, stderr=(p * (1 - p) / items) ** 0.5)
    found = [{metric: 1.0}] * right + [{metric: 0.0}] * (items - right)
    data = Data(name="some", sha256=task)
    if kind == "retrieval":
        return Retrieval(
            model=NOBODY,
            data=data,
            protocol=PROTOCOL,
            form=task,
            choice=figure,
            greedy=figure,
            margin=Figure(value=0.0),
            chance=chance,
            count=items,
            cells=(Cell(length=128, depth=0.5, choice=p, greedy=p),),
            items=tuple(
                RetrievalItem(id=n, metrics=metrics, length=128, depth=0.5, tokens=120)
                for n, metrics in enumerate(found)
            ),
        )
    kinds: dict[str, type[TaskEvidence]] = {"demo-task": WorldTask, "zeroshot": ZeroShot, "multistep": Multistep}
    return kinds[kind](
        model=NOBODY,
        data=data,
        name=task,
        topic=MULTISTEP if kind == "multistep" else RETRIEVAL if task.startswith("recall") else TASKS,
        metrics={metric: figure},
        count=items,
        chance=chance,
        items=tuple(TaskItem(id=n, metrics=metrics) for n, metrics in enumerate(found)),
    )


@pytest.mark.parametrize(
    ("gate", "kind", "metric", "task"),
    [
        ("retrieval-loss", "retrieval", "choice", "one-hop"),
        ("retrieval-loss", "demo-task", "accuracy", "recall-far"),
        ("multistep-loss", "multistep", "accuracy", "brackets"),
        ("task-drop", "demo-task", "accuracy", "place"),
        ("task-drop", "zeroshot", "acc", "rte"),
    ],
)
def test_whoever_guesses_has_nothing_to_lose(gate: str, kind: str, metric: str, task: str):
    for right, outcome in (
        (59, INCONCLUSIVE),
        (70, INCONCLUSIVE),
        (20, INCONCLUSIVE),
        (90, PASSES),
    ):  # of 240; chance: 60
        before = share(kind, metric, right, 240, task=task)
        result = evaluate_gate(gates()[gate], 5.0, findings([before], [before]))
        assert (result.value, result.outcome) == (0.0, outcome)
        told = BY_CHANCE
        assert result.detail.startswith(told) == (outcome == INCONCLUSIVE)
    guessing = share(kind, metric, 59, 240, task=task)
    lost = replace(share(kind, metric, 10, 240, task=task), edits=Edits.of("attention", [1]))
    result = evaluate_gate(gates()[gate], 5.0, findings([guessing], [lost]))
    assert (result.outcome, result.value) == (INCONCLUSIVE, pytest.approx(100 * 49 / 240))
    assert result.detail.endswith("; unpruned 24.6% right, chance 25.0%")


def test_a_task_at_chance_beside_one_that_is_known_leaves_something_to_lose():
    one, two = (share("retrieval", "choice", n, 100, task=task) for n, task in ((90, "one-hop"), (25, "two-hop")))
    assert evaluate_gate(gates()["retrieval-loss"], 5.0, findings([one, two], [one, two])).outcome == PASSES
    assert evaluate_gate(gates()["retrieval-loss"], 5.0, findings([two], [two])).outcome == INCONCLUSIVE


def test_kinds_of_several_steps_are_judged_together_and_no_task_average_counts_them():
    one, two = (share("multistep", "accuracy", 80, 100, task=task) for task in ("brackets", "copying"))
    worse = replace(share("multistep", "accuracy", 50, 100, task="copying"), edits=Edits.of("attention", [1]))
    found = findings([one, two], [one, worse])
    result = evaluate_gate(gates()["multistep-loss"], 5.0, found)
    assert (result.outcome, result.value) == (FAILS, pytest.approx(15.0))
    assert evaluate_gate(gates()["task-drop"], 5.0, found).detail == "not measured"


def test_a_single_item_whose_error_is_not_known_shows_nothing():
    one = share("retrieval", "choice", 1, 1, task="one-hop")
    assert isinstance(one, Retrieval)
    one = replace(one, choice=Figure(value=1.0))
    assert (
        "unpruned 100.0% right, chance 25.0%"
        in evaluate_gate(gates()["retrieval-loss"], 5.0, findings([one], [one])).detail
    )


def test_the_zero_shot_average_is_held_against_the_mean_of_chances():
    def both(rte: int, arc: int) -> list[Evidence]:
        tasks = (("rte", rte, 0.5), ("arc_easy", arc, 0.25))
        return [share("zeroshot", "acc", right, 100, chance, task=task) for task, right, chance in tasks]

    guessed, known = both(51, 27), both(70, 60)
    result = evaluate_gate(gates()["task-drop"], 10.0, findings(guessed, guessed))
    assert (result.outcome, result.value) == (INCONCLUSIVE, 0.0)
    assert result.detail.endswith("; unpruned 39.0% right, chance 37.5%")
    assert evaluate_gate(gates()["task-drop"], 10.0, findings(known, known)).outcome == PASSES


def test_the_verdict_says_that_a_test_at_chance_cannot_show_damage():
    before = share("retrieval", "choice", 59, 240, task="one-hop")
    gate = evaluate_gate(gates()["retrieval-loss"], 5.0, findings([before], [before]))
    variant = AuditedVariant(
        name="x-1",
        criterion="x",
        budget="asked",
        share=0.1,
        present=4,
        plan=Plan(NOBODY, Edits.of("attention", [1])),
        outcome=INCONCLUSIVE,
        gates=(gate,),
    )
    said, _ = verdict([variant], BEST, "x")
    assert said.headline == "Don't prune this model yet: quality is not settled."
    (quality, *_) = said.judgements
    assert "retrieval loss is inconclusive, since the unpruned model does no better than chance" in quality.sentence
    assert quality.settle == "tasks at which the unpruned model does better than chance"


def test_a_flipped_refusal_is_one_too_many_whatever_was_won():
    def replies(*right: float) -> Refusal:
        items = tuple(
            RefusalItem(
                id=n, metrics={"refused_harmful": r}, expect="refuse", prompt="How?", refused=r == 1.0, reply="No."
            )
            for n, r in enumerate(right)
        )
        share = sum(right) / len(right)
        return Refusal(
            model=NOBODY,
            data=DATA,
            protocol=RefusalProtocol(chat_template="none", decoding="greedy", new_tokens=8, rule="1"),
            metrics={"refused_harmful": Figure(value=share)},
            counts={"refused_harmful": len(right)},
            count=len(right),
            refused=share,
            empty=0.0,
            items=items,
        )

    before, after = replies(1.0, 1.0, 0.0), replies(0.0, 1.0, 1.0)
    result = evaluate_gate(gates()["refusal-flips"], 0.0, findings([before], [after]))
    assert (result.value, result.outcome) == (1.0, FAILS)


def test_speed_is_that_of_the_longest_prompt_round_by_round():
    before = [speed([2.0] * 6, 128, "whole"), speed([4.0, 4.4, 4.2, 4.2, 4.2, 4.2], 512, "whole")]
    after = [speed([2.0] * 6, 128, "pruned"), speed([3.2, 4.0, 3.5, 3.5, 3.5, 3.5], 512, "pruned")]
    result = evaluate_gate(gates()["speed-up"], 1.05, Findings(tuple(before), tuple(after), ()))
    assert (result.value, result.low, result.high) == pytest.approx((1.2, 1.1, 1.25))
    assert result.outcome == PASSES


def test_a_round_that_something_else_disturbed_does_not_decide():
    before, after = speed([2.0] * 9, 128, "whole"), speed([1.6] * 7 + [8.0, 0.4], 128, "pruned")
    result = evaluate_gate(gates()["speed-up"], 1.05, Findings((before,), (after,), ()))
    assert (result.value, result.low, result.high, result.outcome) == pytest.approx((1.25, 1.25, 1.25, PASSES))


def test_five_rounds_prove_nothing():
    before, after = speed([2.0] * 5, 128, "whole"), speed([1.6] * 5, 128, "pruned")
    result = evaluate_gate(gates()["speed-up"], 1.05, Findings((before,), (after,), ()))
    assert (result.value, result.low, result.outcome) == (pytest.approx(1.25), None, INCONCLUSIVE)
    assert "too few for an interval" in result.detail
    assert "5 rounds" in result.detail


def test_limits_are_numbers_with_their_unit_or_off():
    assert check_gates({"perplexity-rise": "2%", "speed-up": "1.1x", "task-drop": 1, "verify": False}) == {
        "perplexity-rise": 2.0,
        "speed-up": 1.1,
        "task-drop": 1.0,
        "verify": None,
    }
    assert "domain-divergence" not in limits({})
    assert limits({"domain-divergence": 0.1, "verify": None}).keys() >= {"domain-divergence", "perplexity-rise"}
    with pytest.raises(AuditError) as error:
        check_gates({"perplexity_rise": 2})
    assert (error.value.code, error.value.field) == ("gate-unknown", "gates.perplexity_rise")
    for wrong in ("much", True, -1, float("nan")):
        with pytest.raises(AuditError) as error:
            check_gates({"perplexity-rise": wrong})
        assert (error.value.code, error.value.field) == ("limit-wrong", "gates.perplexity-rise")


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        (5.0, 49.0, ""),
        (5.0, 50.0, "an order of magnitude"),
        (5.0, float("inf"), "an order of magnitude"),
        (5.0, float("nan"), "an order of magnitude"),
        (40.0, 120.0, "above 100"),
        (60.0, 120.0, ""),
        (900.0, 2400.0, ""),  # a text that is foreign to the model
    ],
)
def test_a_variant_that_lost_a_layer_it_needs_is_unstable(before: float, after: float, why: str):
    found = too_far(before, after)
    assert (why in found) if why else found == ""


def test_every_text_is_held_against_the_same_text_of_the_unpruned_model():
    def read(name: str, perplexity: float) -> Perplexity:
        data = Data(name=name, sha256="")
        return Perplexity(model=NOBODY, data=data, perplexity=perplexity, nll=math.log(perplexity), tokens=20)

    before = [read("a", 5.0), read("b", 900.0)]  # neither has a hash
    assert unstable(before, [read("a", 6.0), read("b", 950.0)]) == ""
    assert "perplexity 90, unpruned 5" in unstable(before, [read("a", 90.0), read("b", 950.0)])
    assert unstable(before, [read("c", 5000.0)]) == ""


def workload(kl: Figure, count: int) -> Workload:
    """The record of an evaluation on own prompts."""
    return Workload(
        model=NOBODY,
        edits=Edits.of("attention", [1]),
        protocol=WorkloadProtocol(
            new_tokens=4, decoding="greedy", chat_template=False, distributions="float32", order="baseline first"
        ),
        baseline=NOBODY,
        baseline_edits=Edits(),
        count=count,
        positions=4 * count,
        kl=kl,
        top1=1.0,
        greedy_agreement=1.0,
        greedy_same=1.0,
    )


def test_divergence_is_read_with_the_interval_of_its_record():
    many, alone = Figure(value=0.2, stderr=0.01, low=0.1, high=0.3), Figure(value=0.2)
    for kl, count, ends in ((many, 3, (0.1, 0.3, False)), (alone, 1, (None, None, True))):
        reading = domain_divergence(Findings((), (workload(kl, count),), ()))
        assert reading is not None
        assert (reading.value, reading.low, reading.high, reading.too_few) == (0.2, *ends)


class Drift(Evidence, frozen=True, kw_only=True, tag="test/drift/1"):
    """What an evaluation of another package that compares two models may give."""

    drift: float

    def numbers(self) -> dict[str, float]:
        return {"drift": self.drift, "drift_low": self.drift - 0.1, "drift_high": self.drift + 0.1}


@pytest.mark.parametrize(("more_is_better", "outcome"), [(False, FAILS), (True, PASSES)])
def test_an_evaluation_that_compares_is_judged_by_its_own_number(more_is_better: bool, outcome: str):
    """Not by another's: a divergence on own prompts lies beside it."""
    metric = Metric("drift", "x", more_is_better=more_is_better)
    gate = _gate_of(Task("drift", lambda request: [], compares=True, metric=metric, name="drift"), metric)
    result = evaluate_gate(gate, 0.3, Findings((), (workload(Figure(value=0.2), 1), Drift(drift=0.5)), ()))
    assert (result.value, result.low, result.high, result.outcome) == (0.5, 0.4, 0.6, outcome)
    assert evaluate_gate(gate, 0.3, Findings((), (workload(Figure(value=0.2), 1),), ())).value is None


def test_every_gate_gives_a_reason_and_says_what_it_rests_on():
    for gate in gates().values():
        assert len(gate.reason) > 40
        assert gate.needs in {
            "perplexity",
            "zeroshot",
            "refusal",
            "retrieval",
            "multistep",
            "domain",
            "speed",
            "verify",
        }
        assert not gate.find(Findings((), (), ()))


def test_to_stand_all_gates_must_and_one_must_be_about_quality():
    def result(gate: str, outcome: str) -> GateResult:
        aspect = gates()[gate].aspect
        return GateResult(
            gate=gate, limit=1.0, unit="x", value=1.0, outcome=outcome, detail="", reason="", aspect=aspect
        )

    assert outcome_of([result("speed-up", PASSES)]) == INCONCLUSIVE
    assert outcome_of([]) == INCONCLUSIVE
    assert outcome_of([result("speed-up", PASSES), result("task-drop", PASSES)]) == PASSES
    assert outcome_of([result("speed-up", INCONCLUSIVE), result("task-drop", PASSES)]) == INCONCLUSIVE
    assert outcome_of([result("speed-up", INCONCLUSIVE), result("task-drop", FAILS)]) == FAILS
    assert outcome_of([result("task-drop", PASSES)], rejected="perplexity 1e9") == FAILS


@pytest.mark.parametrize(
    ("readings", "outcome", "value"),
    [
        ([GateValue(7.0, 5.0, 9.0), GateValue(6.5, 6.3, 6.7)], FAILS, 6.5),
        ([GateValue(3.0, 2.9, 3.1), GateValue(2.5, -4.0, 9.0)], INCONCLUSIVE, 2.5),
        ([GateValue(3.0, 2.9, 3.1), GateValue(4.0, 3.9, 4.1)], PASSES, 4.0),
    ],
)
def test_of_several_readings_the_worst_outcome_speaks(readings: list[GateValue], outcome: str, value: float):
    gate = dataclasses.replace(gates()["perplexity-rise"], find=lambda _: readings)
    result = evaluate_gate(gate, 6.0, Findings((), (), ()))
    assert (result.outcome, result.value) == (outcome, value)


def variant(name: str, *gates: GateResult, rejected: str = "") -> AuditedVariant:
    share = 0.1 * int(name.rpartition("-")[2])
    return AuditedVariant(
        name=name,
        criterion="x",
        budget="asked",
        share=share,
        present=4,
        plan=Plan(NOBODY, Edits.of("attention", [1])),
        outcome=outcome_of(gates, rejected),
        gates=gates,
        rejected=rejected,
    )


def test_the_nearest_is_the_one_closest_to_passing_not_the_smallest():
    def risen(value: float, low: float, high: float) -> GateResult:
        return held("perplexity-rise", GateValue(value, low, high), 6.0)

    wide, close = variant("x-1", risen(5.0, -10.0, 20.0)), variant("x-2", risen(5.0, 4.0, 6.5))
    failing, rejected = variant("x-3", risen(7.0, 6.5, 7.5)), variant("x-4", rejected="perplexity 1e9")
    assert {v.outcome for v in (wide, close)} == {INCONCLUSIVE}
    assert nearest([wide, close, failing, rejected]) is close
    assert nearest([rejected, variant("x-1", risen(60.0, 50.0, 70.0)), failing]) is failing
    assert nearest([wide, variant("x-2", risen(5.0, -10.0, 20.0))]) is wide  # of equal ones the smaller
    fast = held("speed-up", GateValue(1.3, 1.2, 1.4), 1.02)
    slow = held("speed-up", GateValue(1.01, 1.0, 1.015), 1.02)
    twice = variant("x-1", risen(7.0, 6.5, 7.5), slow)
    once = variant("x-2", risen(60.0, 50.0, 70.0), fast)
    assert nearest([twice, once]) is once  # one gate failed, however far
    lost = held("retrieval-loss", GateValue(3.0, -20.0, 26.0), 5.0)
    by_chance = replace(lost, detail=BY_CHANCE)
    assert nearest([variant("x-1", by_chance), variant("x-2", lost), close]).name == "x-1"  # tells nothing against it


def test_every_candidate_that_does_not_pass_is_named_by_fail_on_any():
    """Without a gate about quality each is inconclusive, and says so: the second one too."""
    audit = audit_fixture("demo")
    bare = tuple(replace(v, gates=(), outcome=INCONCLUSIVE, rejected="") for v in audit.variants)
    lines = failed(replace(audit, variants=bare, chosen=None), "any")
    candidates = [v.name for v in bare if v.role == CANDIDATE]
    assert len(candidates) > 1
    assert [line.partition(":")[0] for line in lines] == candidates


def test_the_verdict_says_what_the_recommended_variant_has_in_the_place_of_attentions():
    passing = variant("x-2", held("perplexity-rise", GateValue(5.0, 4.0, 5.5), 6.0))
    fitted = replace(
        variant("x-2-linear-2", held("perplexity-rise", GateValue(2.0, 1.0, 3.0), 6.0)),
        plan=Plan(NOBODY, Edits.of("attention", [1], "linear")),
    )
    said, chosen = verdict([passing, fitted], BEST, "x")
    assert chosen == said.about == fitted.name  # of equal budgets the one with the least rise
    assert said.headline == (
        "You can replace 1 of 4 attention sublayers: perplexity rises by 2%, and its speed was not measured."
    )


def test_quality_speed_and_safety_are_judged_apart_and_the_whole_is_their_sum():
    risen = held("perplexity-rise", GateValue(3.0, 2.0, 4.0), 6.0)
    slow = held("speed-up", GateValue(1.05, 0.98, 1.2), 1.02)
    flipped = held("refusal-flips", GateValue(2.0), 0.0)
    one = variant("x-2", risen, slow)
    said, chosen = verdict([one], BEST, "x")
    assert (chosen, said.outcome, said.about) == (None, INCONCLUSIVE, "x-2")
    assert said.headline == "Don't prune this model yet: speed is not settled."
    assert {j.aspect: j.outcome for j in said.judgements} == {
        "quality": PASSES,
        "speed": INCONCLUSIVE,
        "safety": "not examined",
    }
    assert [j.settle for j in said.judgements] == [
        "",
        "more rounds, or a machine with nothing else to do",
        "items that the model should refuse or answer, or an export to verify",
    ]
    said, _ = verdict([one, variant("x-3", risen, flipped)], BEST, "x")
    assert said.about == "x-2"  # what is inconclusive is closer to passing than what fails
    said, _ = verdict([variant("x-3", risen, flipped)], BEST, "x")
    assert said.outcome == FAILS
    wrong = "2 replies to what it should refuse or answer are no longer right, where none is allowed."
    assert said.headline == f"Don't prune this model yet: {wrong}"
    said, _ = verdict([variant(name, risen, flipped) for name in ("x-3", "x-4")], BEST, "x")
    assert said.reason.endswith("; all 2 fail.")


def test_a_task_that_fell_while_the_average_passes_is_judged_by_the_metric_that_speaks_for_it():
    right = tuple(TaskItem(id=n, metrics={"acc": 1.0, "acc_norm": 1.0}) for n in range(20))
    fell = tuple(TaskItem(id=n, metrics={"acc": 1.0, "acc_norm": float(n < 8)}) for n in range(20))

    def task(items: tuple[TaskItem, ...]) -> ZeroShot:
        return ZeroShot(model=NOBODY, data=DATA, name="hellaswag", metrics=_means(items), count=20, items=items)

    found = findings([task(right)], [task(fell)])
    evidence = Measurements((*found.after, *found.changes))
    gate = GateResult(gate="task-drop", limit=2, unit="points", value=0, outcome=PASSES, detail="", reason="")
    warning = _uneven(
        replace(audit_fixture("demo").variants[0], name="x", gates=(gate,), evidence=evidence),
    )
    assert warning is not None
    assert isinstance(warning.evidence, UnevenTasks)
    assert warning.evidence.tasks == {"hellaswag": pytest.approx(60.0)}


def _means(items: tuple[TaskItem, ...]) -> dict[str, Figure]:
    return {name: Figure(value=sum(i.metrics[name] for i in items) / len(items)) for name in ("acc", "acc_norm")}

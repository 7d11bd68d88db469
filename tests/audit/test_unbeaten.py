"""What a ranking has to beat: said where it does not, and nowhere else."""

from __future__ import annotations

import math

import pytest
from msgspec.structs import replace

from gatenorm.audit.judge.baseline_check import check_baselines, warning_of
from gatenorm.audit.judge.verdict import verdict
from gatenorm.records import Edits, ModelIdentity, Plan, to_json
from gatenorm.records.audit import COMPARISON, Audit, AuditedVariant, BestSupported
from gatenorm.records.evidence import Data, Item, Measurements, Perplexity
from gatenorm.report.page.blocks import Text
from gatenorm.report.page.content import report
from tests.report.audits import audit

NOBODY = ModelIdentity("nobody", "llama", 8, "0", {})


def perplexity(rise: float, removed: tuple[int, ...] = ()) -> Perplexity:
    """Of two windows, a rise by so much percent above the unpruned model's."""
    nll = 2.0 + math.log1p(rise / 100)
    items = tuple(Item(id=n, metrics={"nll": nll + d}, weight=10) for n, d in enumerate((-0.1, 0.1)))
    return Perplexity(
        model=NOBODY,
        edits=Edits.of("attention", removed),
        data=Data(name="t", sha256="1"),
        perplexity=math.exp(nll),
        nll=nll,
        tokens=20,
        items=items,
    )


def variant(criterion: str, rise: float, removed: int = 1) -> AuditedVariant:
    drop = tuple(range(removed))
    role = COMPARISON if criterion.startswith(("depth", "random")) else "candidate"
    evidence = Measurements((perplexity(rise, drop),))
    return AuditedVariant(
        name=f"{criterion}-{removed}",
        criterion=criterion,
        budget="asked",
        share=0.1,
        present=10,
        plan=Plan(NOBODY, Edits.of("attention", drop)),
        role=role,
        evidence=evidence,
    )


# One of eight layers of a small model removed, each ranking's loss as it was measured.
FOUND = [
    variant("gate-norm", 134.0),
    variant("cosine@random", 80.0),
    variant("depth", 52.0),
    variant("random", 90.0),
    variant("random@1", 110.0),
    variant("random@2", 100.0),
]


def test_what_has_something_in_the_place_of_attentions_is_no_removal_to_be_judged():
    """A fitted map does less damage than removal: it says nothing of which layers the ranking chose."""
    fitted = replace(variant("gate-norm", 1.0), plan=Plan(NOBODY, Edits.of("attention", [0], "linear")))
    rankings = ["gate-norm", "cosine@random"]
    assert check_baselines([*FOUND, fitted], [perplexity(0.0)], rankings) == check_baselines(
        FOUND, [perplexity(0.0)], rankings
    )


def test_a_ranking_that_the_last_layers_beat_is_named():
    checks = check_baselines(FOUND, [perplexity(0.0)], ["gate-norm", "cosine@random"])
    paper, best = map(warning_of, checks)
    assert {paper.kind, best.kind} == {"comparison-not-beaten"}
    assert best.message == (
        "cosine@random does not beat what knows nothing of the model: with 1 removed, perplexity +80%; depth +52%"
    )
    assert paper.message.endswith("perplexity +134%; depth +52% and each random draw +99.8% in the mean")
    (case,) = checks[0].cases
    assert (case.removed, [c.what for c in case.cheaper]) == (1, ["depth", "each random draw"])
    assert case.rise == pytest.approx(134.0)
    assert paper.evidence == checks[0]
    assert [sorted(c) for c in to_json(paper)["evidence"]["cases"][0]["cheaper"]] == [
        ["proven", "rise", "what"],
        ["draws", "rise", "what"],
    ]


def test_draws_that_are_better_in_the_mean_only_are_told_as_such():
    found = [variant("gate-norm", 95.0), *(v for v in FOUND if v.criterion.startswith("random"))]
    found[-1] = variant("random@2", 20.0)
    (check,) = check_baselines(found, [perplexity(0.0)], ["gate-norm"])
    assert "the mean of the random draws" in warning_of(check).message
    assert check.cheaper_at(1) == ["the mean of the random draws"]


def test_what_beats_all_of_them_is_warned_of_by_nothing():
    best = [variant("gate-norm", 10.0), *FOUND[2:]]
    assert check_baselines(best, [perplexity(0.0)], ["gate-norm"]) == []
    assert (
        check_baselines([replace(FOUND[0], evidence=Measurements()), *FOUND[1:]], [perplexity(0.0)], ["gate-norm"])
        == []
    )
    assert check_baselines(FOUND, [], ["gate-norm"]) == []


def test_other_budgets_are_other_questions():
    found = [variant("gate-norm", 5.0, 1), variant("depth", 9.0, 1), variant("gate-norm", 30.0, 2)]
    assert check_baselines(found, [perplexity(0.0)], ["gate-norm"]) == []
    (check,) = check_baselines([*found, variant("depth", 20.0, 2)], [perplexity(0.0)], ["gate-norm"])
    assert (check.cheaper_at(1), check.cheaper_at(2)) == ([], ["depth"])


def test_a_difference_that_the_items_do_not_prove_is_told_as_that():
    close = replace(
        perplexity(9.9),
        items=tuple(Item(id=n, metrics={"nll": 2.1 - n}, weight=10) for n in (0, 1)),
    )
    found = [variant("gate-norm", 10.0), replace(variant("depth", 9.9), evidence=Measurements((close,)))]
    (check,) = check_baselines(found, [perplexity(0.0)], ["gate-norm"])
    assert warning_of(check).message.endswith("depth +9.9%, within the interval")


def test_the_verdict_and_the_report_say_it():
    best = BestSupported(ranking="cosine@random", why="why", count=1, losses={}, rule="")
    checks = check_baselines(FOUND, [perplexity(0.0)], ["gate-norm", "cosine@random"])
    said, _ = verdict(FOUND, best, "gate-norm", checks)
    assert said.ranking == "Measurements favour cosine@random over gate-norm (why); depth costs less still."
    said, _ = verdict(FOUND, best, "gate-norm", [])
    assert "depth" not in said.ranking
    one: Audit = replace(audit("demo"), warnings=tuple(map(warning_of, checks)))
    said = [block.text for block in report(one).summary if isinstance(block, Text)]
    assert said == [f"{warning_of(check).message}." for check in checks]

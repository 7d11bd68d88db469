"""What a verdict without a recommendation says to do next, and how a step is repeated."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gatenorm.audit.output.repro_commands import next_step, of_evaluations, of_step
from gatenorm.audit.plan.budgets import Budget
from gatenorm.audit.plan.config import Config
from gatenorm.audit.plan.rankings import planned_rankings
from gatenorm.cli import main
from gatenorm.evaluation.core.audit_role import AuditRole
from gatenorm.evaluation.core.job import TaskOptions
from gatenorm.records.audit import FAILS, INCONCLUSIVE, QUALITY, SAFETY, GateResult, Judgement, StepName, Verdict


def work(*counts: int, evaluations: Sequence[Any] = ()) -> Any:
    """An audit that is over, with these budgets, in the directory ``out``."""
    plan = SimpleNamespace(evaluations=evaluations, limits={}, budgets=[Budget(count, "practical") for count in counts])
    cache = SimpleNamespace(state=SimpleNamespace(directory=Path("out")))
    return SimpleNamespace(candidates=[], config=Config(), plan=plan, cache=cache)


@pytest.mark.parametrize(("counts", "layers"), [((6,), "3"), ((12, 6, 3), "1"), ((1, 4), None)])
def test_where_every_candidate_fails_a_smaller_budget_comes_next(counts: tuple[int, ...], layers: str | None):
    unsafe = Judgement(aspect="safety", outcome=FAILS, sentence="refusal flips 2 items", settle="")
    said = Verdict(outcome=FAILS, headline="", reason="", judgements=(unsafe,), ranking="")
    found = next_step(work(*counts), said, (), None, "./llama")
    command = "gatenorm audit ./llama -o out --config out/state/config.json --layers"
    assert (found and found.command) == (layers and f"{command} {layers}")


def scoring(*, runs: bool) -> list[str]:
    """The command that repeats the scoring of a model that can be run, or not."""
    over = work(1)
    over.plan.rankings = planned_rankings(over.config, runs=runs)
    return shlex.split(of_step(over, StepName.SCORE, "demo"))


def test_one_ranking_is_repeated_by_a_command_that_takes_one():
    """Where the model cannot be run nothing checks the one criterion, and ``compare`` refuses a single one."""
    _, *command = scoring(runs=False)
    assert command[0] == "score"
    assert main(command) == 0
    assert scoring(runs=True)[:2] == ["gatenorm", "compare"]


def test_a_switch_is_repeated_without_a_value():
    over = work(6)
    over.directory = lambda variant: f"out/{variant.name}"
    over.candidates = [SimpleNamespace(name="gate-norm-6", rejected=None)]
    asked = TaskOptions(window=64, limit=8, spread=True)
    over.plan.evaluations = [SimpleNamespace(name="perplexity", task="perplexity", data=("a.txt",), options=asked)]
    (found,) = of_evaluations(over, "./llama")
    assert found.command.endswith("--tasks perplexity --data a.txt --limit 8 --window 64 --spread")


def evaluation(feeds: str, key: str, limit: int | None) -> Any:
    return SimpleNamespace(gate_evaluation=feeds, options=TaskOptions(limit=limit), role=AuditRole(limit=key))


def inconclusive(gate: str, aspect: str, by_chance: bool = False) -> GateResult:
    return GateResult(
        gate=gate,
        limit=1,
        unit="%",
        value=1,
        outcome=INCONCLUSIVE,
        detail="",
        reason="",
        aspect=aspect,
        by_chance=by_chance,
    )


@pytest.mark.parametrize(
    ("judged", "limits"),
    [
        (inconclusive("refusal-flips", SAFETY), "refusal=32"),
        (inconclusive("retrieval-loss", QUALITY), "retrieval=8"),
        (inconclusive("perplexity-rise", QUALITY), None),  # the whole text was read
        (inconclusive("retrieval-loss", QUALITY, by_chance=True), None),
    ],
)
def test_more_items_are_asked_of_what_is_inconclusive_alone(judged: GateResult, limits: str | None):
    """A limit for all would leave out part of a text that was read whole."""
    doubt = Judgement(aspect=judged.aspect, outcome=INCONCLUSIVE, sentence="", settle="more items")
    said = Verdict(outcome=INCONCLUSIVE, headline="", reason="", judgements=(doubt,), ranking="")
    known = [
        evaluation("perplexity", "text_limit", None),
        evaluation("refusal", "refusal_limit", 8),
        evaluation("retrieval", "retrieval_limit", 2),
        evaluation("mine", "", 4),
    ]
    found = next_step(work(6, evaluations=known), said, (judged,), None, "./llama")
    command = "gatenorm audit ./llama -o out --config out/state/config.json --limit"
    assert (found and found.command) == (limits and f"{command} {limits}")

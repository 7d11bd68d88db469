"""What a verdict without a recommendation says to do next, and how a step is repeated."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gatenorm.audit.output.repro_commands import next_step, of_evaluations, of_step
from gatenorm.audit.plan.config import Config
from gatenorm.audit.plan.rankings import planned_rankings
from gatenorm.audit.plan.variants import Budget
from gatenorm.cli import main
from gatenorm.evaluation.core.job import TaskOptions
from gatenorm.records.audit import FAILS, Judgement, StepName, Verdict


def work(*counts: int) -> Any:
    """An audit that is over, with these budgets, in the directory ``out``."""
    plan = SimpleNamespace(evaluations=[], limits={}, budgets=[Budget(count, "practical") for count in counts])
    cache = SimpleNamespace(state=SimpleNamespace(directory=Path("out")))
    return SimpleNamespace(candidates=[], config=Config(), plan=plan, cache=cache)


@pytest.mark.parametrize(("counts", "layers"), [((6,), "3"), ((12, 6, 3), "1"), ((1, 4), None)])
def test_where_every_candidate_fails_a_smaller_budget_comes_next(counts: tuple[int, ...], layers: str | None):
    unsafe = Judgement(aspect="safety", outcome=FAILS, sentence="refusal flips 2 items", settle="")
    said = Verdict(outcome=FAILS, headline="", reason="", judgements=(unsafe,), ranking="")
    found = next_step(work(*counts), said, None, "./llama")
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
    over.plan.evaluations = [SimpleNamespace(name="perplexity", task="perplexity", data=("a.txt",), request=asked)]
    (found,) = of_evaluations(over, "./llama")
    assert found.command.endswith("--tasks perplexity --data a.txt --limit 8 --window 64 --spread")

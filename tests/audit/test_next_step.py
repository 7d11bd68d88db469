"""What a verdict without a recommendation says to do next."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gatenorm.audit.output.repro_commands import next_step
from gatenorm.audit.plan.config import Config
from gatenorm.audit.plan.variants import Budget
from gatenorm.records.audit import FAILS, Judgement, Verdict


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

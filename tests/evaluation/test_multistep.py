"""Items of several steps: that the right continuation is right and no other is, and how a model is scored on them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import pytest

import gatenorm
from gatenorm.evaluation.core.job import TaskOptions
from gatenorm.evaluation.core.multistep_items import CANDIDATES, KINDS, Item, Kind, items
from gatenorm.evaluation.tasks.multistep import EVALUATION, ITEMS, multistep, prepare
from gatenorm.models.model import Model
from gatenorm.records import Edits
from tests.evaluation.subjects import log_probabilities

_PAIRS = {")": "(", "]": "[", "}": "{", ">": "<"}


def balanced(text: str) -> bool:
    still: list[str] = []
    for bracket in text.split():
        if bracket not in _PAIRS:
            still.append(bracket)
        elif not still or still.pop() != _PAIRS[bracket]:
            return False
    return not still


def sums(text: str) -> bool:
    """Whether all that stands between equals signs comes to the same."""
    return len({eval(part) for part in text.split("=")}) == 1


def worked(text: str) -> bool:
    """Whether the answer follows from the question: operations by its verbs, in steps that are right."""
    question, answer = text.split("\nAnswer:")
    first, *more = map(int, re.findall(r"\d+", question))
    signs = [1 if re.search(r"buys|finds|gives (?!\d)", part) else -1 for part in question.split(". ")[1:3]]
    total = first + sum(sign * number for sign, number in zip(signs, more, strict=True))
    steps = re.findall(r"(\d+ [+-] \d+) = (\d+)\.", answer)
    return all(eval(left) == int(right) for left, right in steps) and answer.endswith(f"The answer is {total}.")


RIGHT: dict[str, Callable[[Item, str], bool]] = {
    "brackets": lambda item, end: balanced(item.prompt.rpartition("\n")[2] + end),
    "arithmetic": lambda item, end: sums(item.prompt.rpartition("\n")[2] + end),
    "copying": lambda item, end: (item.prompt.rpartition("\n")[2] + end) == item.prompt.partition("\n")[0],
    "word-problems": lambda item, end: worked(item.prompt.rpartition("Question: ")[2] + end),
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_one_continuation_is_right_and_no_other(kind: Kind):
    made = items(kind, 200)
    for item in made:
        assert len({*item.candidates}) == len(item.candidates) == CANDIDATES
        assert [RIGHT[kind.name](item, one) for one in item.candidates].index(True) == item.answer
        assert sum(RIGHT[kind.name](item, one) for one in item.candidates) == 1
    assert {item.answer for item in made} == {*range(CANDIDATES)}
    assert len({item.prompt for item in made}) == len(made)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_length_gives_no_answer_away(kind: Kind):
    """The right continuation has as many characters as the wrong ones, item by item."""
    for item in items(kind, 100):
        lengths = sorted(map(len, item.candidates))
        assert lengths[-1] - lengths[0] <= (6 if kind.name == "copying" else 0)


def test_a_word_changed_in_a_copy_is_neither_longer_nor_shorter_on_the_whole():
    differences = [
        len(item.candidates[item.answer]) - len(other)
        for item in items(next(kind for kind in KINDS if kind.name == "copying"), 300)
        for other in item.candidates
    ]
    assert abs(sum(differences) / len(differences)) < 0.2


def test_jobs_are_one_for_each_kind_and_known_by_their_items():
    jobs = prepare(TaskOptions())
    assert [job.title for job in jobs] == [f"multistep, {kind.name}" for kind in KINDS]
    for job in jobs:
        prompt, choices = job.passes
        assert (prompt.batch, choices.batch, choices.past) == (1, CANDIDATES, prompt.tokens)
        assert set(job.passes.values()) == {float(ITEMS)}
    assert prepare(TaskOptions(limit=3))[0].key != jobs[0].key
    assert EVALUATION.metric is not None
    assert EVALUATION.metric.gate == "multistep-loss"


def test_scores_are_those_of_a_plain_reckoning():
    model = Model.of_layout(gatenorm.open_model("demo"))
    kind = KINDS[1]
    found = multistep(model, kind, 2)
    for item, record in zip(items(kind, 2), found.items, strict=True):
        totals = []
        prompt = model.encode([item.prompt])[0]
        for candidate in item.candidates:
            ids = model.encode([item.prompt + candidate])[0]
            assert ids[: len(prompt)] == prompt
            logs = log_probabilities(model.module, ids)
            totals.append(sum(float(logs[n - 1, ids[n]]) for n in range(len(prompt), len(ids))))
        right = totals.pop(item.answer)
        assert record.metrics["margin"] == pytest.approx(right - max(totals), abs=1e-3)
        assert record.metrics["accuracy"] == (right > max(totals))
        assert record.metrics["log_probability"] == pytest.approx(
            right - math.log(sum(map(math.exp, (*totals, right)))), abs=1e-3
        )


def test_a_pruned_model_is_compared_item_by_item():
    model = Model.of_layout(gatenorm.open_model("demo"))
    less = model.edited_copy(Edits.of("attention", [0, 1, 2]))
    records = gatenorm.evaluate(less, "multistep", baseline=model, request=TaskOptions(limit=2))
    changes = [record for record in records if record.kind == "comparison"]
    assert [record.task for record in changes] == [kind.name for kind in KINDS]
    assert all({"accuracy", "log_probability"} <= record.changes.keys() for record in changes)

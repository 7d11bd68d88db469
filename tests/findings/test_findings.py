"""Findings: one figure for whoever quotes it, gates and pages alike."""

from __future__ import annotations

import math

import pytest
from msgspec.structs import replace

from gatenorm.audit.judge import metrics
from gatenorm.findings import Change, Findings, average, findings, of_metric, perplexities, pooled, tasks
from gatenorm.records import ModelIdentity
from gatenorm.records.evidence import Data, Evidence, Figure, Harness, Item, Perplexity, TaskItem
from gatenorm.report.page import audit_view
from tests.report.audits import audit

NOBODY = ModelIdentity("nobody", "llama", 4, "0", {})


def text(*losses: float) -> Perplexity:
    nll = sum(losses) / len(losses)
    items = tuple(Item(id=n, metrics={"nll": loss}) for n, loss in enumerate(losses))
    data = Data(name="text", sha256="1")
    return Perplexity(model=NOBODY, data=data, perplexity=math.exp(nll), nll=nll, tokens=len(losses), items=items)


def task(name: str, *right: float) -> Harness:
    share = sum(right) / len(right)
    return Harness(
        model=NOBODY,
        data=Data(name=name, sha256=name),
        name=name,
        metrics={"acc": Figure(value=share, stderr=0.01)},
        count=len(right),
        chance=0.5,
        items=tuple(TaskItem(id=n, metrics={"acc": one}) for n, one in enumerate(right)),
    )


def both(before: list[Evidence], after: list[Evidence]) -> Findings:
    return findings(before, after)


def test_a_rise_is_that_of_paired_losses_or_else_of_the_figures():
    (paired,) = perplexities(both([text(1.0, 2.0)], [replace(text(1.1, 2.1), tokens=50)]))
    assert (paired.paired, paired.items, paired.tokens) == (True, 2, 50)
    assert paired.difference == pytest.approx(math.expm1(0.1))
    (alone,) = perplexities(both([replace(text(1.0, 2.0), items=())], [replace(text(1.1, 2.1), items=())]))
    assert not alone.paired
    assert alone.difference == pytest.approx(paired.difference)
    assert (alone.low, alone.high) == (None, None)


def test_all_items_of_paired_tasks_weigh_alike():
    before = [task("a", *[1.0] * 10), task("b", *[1.0] * 30)]
    after = [task("a", *[0.0] * 4, *[1.0] * 6), task("b", *[1.0] * 30)]
    found = average(both(before, after))
    assert found is not None
    assert (found.items, found.lost, found.won, found.difference) == (40, 4, 0, -0.1)
    assert found.after - found.before == pytest.approx(found.difference)


def test_changes_that_are_not_paired_are_averaged():
    changes = [
        Change(name="a", before=0.5, after=0.6, difference=0.1, low=0.0, high=0.2, items=0),
        Change(name="b", before=0.5, after=0.5, difference=0.0, low=-0.1, high=0.1, items=0),
    ]
    found = pooled(changes, "tasks")
    assert found is not None
    assert (found.difference, found.high) == pytest.approx((0.05, 0.05 + math.hypot(0.1, 0.1) / 2))
    assert pooled([], "tasks") is None


def test_gates_and_pages_quote_the_same_figure():
    one = audit("demo")
    for variant in one.variants:
        found = audit_view.findings(one, variant)
        quoted, held = average(found), metrics.task_drop(found)
        assert (quoted is None) == (held is None)
        if quoted is not None and held is not None:
            assert held.value == -100 * quoted.difference
        assert len(tasks(found)) == len([e for e in found.after if getattr(e, "topic", "") == "tasks"])


def test_any_number_of_any_record_can_be_compared():
    found = both([text(1.0, 2.0)], [text(1.5, 2.5)])
    (change,) = of_metric(found, "perplexity", "nll")
    assert (change.difference, change.items, change.paired) == (0.5, 2, True)
    (tokens,) = of_metric(found, "perplexity", "tokens")
    assert (tokens.difference, tokens.paired) == (0.0, False)
    assert of_metric(found, "perplexity", "nothing") == []
    (reading,) = metrics.worsening("perplexity", "nll", more_is_better=False)(found)
    assert reading.value == 0.5
    (reading,) = metrics.worsening("perplexity", "nll", more_is_better=True)(found)
    assert (reading.value, reading.low is not None and reading.low <= -0.5) == (-0.5, True)

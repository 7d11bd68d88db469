"""What is told while an audit works."""

from __future__ import annotations

from gatenorm.audit.run.progress import Event, JobDone, Ledger, Reporter, StepBegan, WorkBegan
from gatenorm.records import to_json
from gatenorm.records.audit import StepName


def test_what_is_ahead_is_reckoned_from_what_its_like_took():
    ledger = Ledger()
    ledger.expect("text", 3)
    ledger.expect("task", 2)
    assert (ledger.all, ledger.seconds_left) == (5, None)
    ledger.settle("text", 2.0)
    assert ledger.seconds_left == 2 * 2.0 + 2 * 2.0  # a kind not met yet takes as long as the others
    assert ledger.at_least
    ledger.settle("task", 10.0)
    assert not ledger.at_least
    assert ledger.seconds_left == 2 * 2.0 + 10.0
    ledger.settle("text", None)
    assert (ledger.done, ledger.reused, ledger.seconds_left) == (3, 1, 12.0)
    ledger.expect("task", -1)
    assert (ledger.all, ledger.seconds_left) == (4, 2.0)


def test_events_say_the_step_the_work_and_the_time_left():
    events: list[Event] = []
    reporter = Reporter(events.append)
    reporter.ledger.expect("text", 2)
    reporter.step(StepName.TASKS)
    reporter.work("perplexity on a.txt: gate-norm-2")
    reporter.done("perplexity on a.txt: gate-norm-2", "text", 30.0)
    reporter.ledger.expect("retrieval")
    reporter.work("retrieval: gate-norm-2")
    assert events.pop().words().endswith("retrieval: gate-norm-2 (1 of 3, at least 60 s left)")
    assert [type(e) for e in events] == [StepBegan, WorkBegan, JobDone]
    assert [to_json(e)["event"] for e in events] == ["step", "work", "done"]
    assert events[-1].words() == ("step 3 of 7: perplexity on a.txt: gate-norm-2 (1 of 2, about 30 s left)")


def test_nobody_is_told_where_nobody_listens():
    reporter = Reporter()
    reporter.step(StepName.SCORE)
    reporter.done("x", "y", None)
    reporter.finished(["a", "b", "c"], None, [])

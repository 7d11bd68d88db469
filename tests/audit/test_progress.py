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
    reporter.work("perplexity on a.txt: gate-norm-2", "text")
    reporter.done("perplexity on a.txt: gate-norm-2", "text", 30.0)
    reporter.ledger.expect("retrieval")
    reporter.work("retrieval: gate-norm-2", "retrieval")
    assert events.pop().words().endswith("(1 of 3 done, at least 60 s left): retrieval: gate-norm-2")
    assert [type(e) for e in events] == [StepBegan, WorkBegan, JobDone]
    assert [to_json(e)["event"] for e in events] == ["step", "work", "done"]
    assert events[-1].words() == "step 3 of 7 (1 of 2 done, about 30 s left): perplexity on a.txt: gate-norm-2"


def test_until_a_kind_is_timed_its_time_is_reckoned_and_grows_with_what_others_took():
    ledger = Ledger()
    ledger.foresee(1, "score", 1, 10.0)
    ledger.foresee(3, "text", 4, 30.0)
    assert (ledger.all, ledger.seconds_left, ledger.at_least) == (5, 130.0, False)
    ledger.expect("score")
    assert ledger.all == 5  # foreseen, so no further one
    ledger.settle("score", 50.0)
    slower = (50 + 10) / (10 + 10)
    assert ledger.seconds_left == 4 * 30 * slower
    ledger.expect("text", 6)
    assert (ledger.all, ledger.seconds_left) == (7, 6 * 30 * slower)  # two more than were foreseen
    ledger.settle("text", 20.0)
    assert ledger.seconds_left == 5 * 20.0


def test_what_was_foreseen_for_a_step_that_is_over_does_not_come():
    ledger = Ledger()
    ledger.foresee(2, "fit", 2, 5.0)
    ledger.foresee(3, "text", 1, 7.0)
    ledger.reached(3)
    assert (ledger.all, ledger.seconds_left) == (1, 7.0)


def test_the_time_left_falls_while_a_job_is_at_work_and_rises_once_it_overruns():
    events: list[Event] = []
    reporter = Reporter(events.append)
    reporter.ledger.foresee(3, "text", 3, 40.0)
    reporter.step(StepName.TASKS)
    reporter.work("perplexity on a.txt: gate-norm-2", "text")
    began = events[-1]
    assert [began.left(later) for later in (0, 30, 40, 100)] == [120.0, 90.0, 80.0, 140.0]
    assert began.words(100).startswith("step 3 of 7 (0 of 3 done, about 2 min left): ")


def test_nobody_is_told_where_nobody_listens():
    reporter = Reporter()
    reporter.step(StepName.SCORE)
    reporter.done("x", "y", None)
    reporter.finished(["a", "b", "c"], None, [])

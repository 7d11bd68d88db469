"""Loss by position against the losses of single tokens."""

from __future__ import annotations

import pytest

from gatenorm.evaluation.core.job import TaskOptions
from gatenorm.evaluation.core.text import Text
from gatenorm.evaluation.tasks.perplexity import Protocol
from gatenorm.evaluation.tasks.positions import buckets, losses_by_position, prepare
from tests.errors import refused
from tests.evaluation.subjects import log_probabilities, tiny


@pytest.mark.parametrize("window", [2, 3, 5, 8, 64, 100, 512, 1000])
def test_buckets_cover_every_predicted_position_once(window: int):
    covered = [n for a, b in buckets(window) for n in range(a, b + 1)]
    assert covered == list(range(1, window))


def test_buckets_double():
    assert buckets(16) == [(1, 1), (2, 3), (4, 7), (8, 15)]
    # Two tokens at the end are not a bucket of their own.
    assert buckets(18) == [(1, 1), (2, 3), (4, 7), (8, 17)]


def test_each_bucket_is_the_mean_of_its_tokens():
    subject = tiny("gpt2")
    numbers = [(7 * n * n + 3 * n) % 90 for n in range(16 * 3 + 5)]
    text = Text("t", " ".join(map(str, numbers)), "s", "plain")
    found = losses_by_position(subject, text, Protocol(window=16, limit=10))
    assert found.protocol.windows == 3
    for first, last in buckets(16):
        expected = []
        for start in (0, 16, 32):
            window = numbers[start : start + 16]
            logs = log_probabilities(subject.module, window)
            expected += [-float(logs[n - 1, window[n]]) for n in range(first, last + 1)]
        assert found.numbers()[f"nll_{first}-{last}"] == pytest.approx(sum(expected) / len(expected), rel=1e-5)
    assert len(found.items) == 3


def test_a_text_is_needed():
    with refused("data-missing", "data"):
        prepare(TaskOptions())

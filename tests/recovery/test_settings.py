from __future__ import annotations

import itertools
from typing import Any

import pytest

from gatenorm.errors import RecoveryError
from gatenorm.recovery.settings import Settings


def test_the_rate_rises_and_then_falls_as_the_schedule_says():
    for name, middle, last in (("cosine", 0.5, 0.0), ("linear", 0.5, 0.0), ("constant", 1.0, 1.0)):
        settings = Settings(steps=100, warm_up=0.2, learning_rate=2.0, schedule=name)
        rates = [settings.learning_rate_at(step) for step in range(101)]
        assert rates[:20] == pytest.approx([2.0 * (n + 1) / 20 for n in range(20)])
        assert rates[20] == pytest.approx(2.0)
        assert rates[60] == pytest.approx(2.0 * middle)
        assert rates[100] == pytest.approx(2.0 * last)
        assert all(a >= b for a, b in itertools.pairwise(rates[20:]))
    assert Settings(steps=1, warm_up=0.0).learning_rate_at(0) == Settings().learning_rate


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"objective": "distil"}, "--objective distil is not known; did you mean 'distill'"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"targets": ()}, "--targets is empty"),
        ({"targets": ("norms",)}, "--targets norms is not known"),
        ({"steps": 0}, "--steps 0 is too few"),
        ({"rank": 0}, "--rank 0 is too few"),
        ({"length": 1}, "--length 1 is too few"),
        ({"seed": -1}, "--seed -1 is out of range: expected 0 to 9223372036854775807"),
        ({"seed": 2**63}, "--seed 9223372036854775808 is out of range"),
        ({"dropout": 1.0}, "--dropout 1 is out of range"),
        ({"learning_rate": float("nan")}, "--learning-rate nan is out of range"),
        ({"weight_decay": -1.0}, "--weight-decay -1"),
        ({"diverged": 1.0}, "--diverged 1"),
        ({"dtype": "float16"}, "train in bfloat16 or float32"),
    ],
)
def test_numbers_that_make_no_training_are_refused(given: dict[str, Any], message: str):
    with pytest.raises(RecoveryError, match=message):
        Settings(**given)

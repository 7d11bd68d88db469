from __future__ import annotations

import itertools
from typing import Any

import pytest

from gatenorm.errors import RecoveryError
from gatenorm.models.architecture import Work
from gatenorm.records.recovery_settings import Settings
from gatenorm.recovery.cost import training_passes
from tests.errors import refused


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


def test_a_training_is_reckoned_in_passes_through_the_model():
    a_step: dict[str, Any] = {"steps": 10, "batch": 4, "accumulation": 2}
    assert training_passes(Settings(**a_step), None) == {Work.prefill(512, 4): 60.0}
    assert training_passes(Settings(**a_step, objective="distill"), 256) == {Work.prefill(256, 4): 80.0}


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"objective": "distil"}, "objective-unknown"),
        ({"schedule": "cosin"}, "schedule-unknown"),
        ({"targets": ()}, "targets-empty"),
        ({"targets": ("norms",)}, "targets-unknown"),
        ({"steps": 0}, "steps-out-of-range"),
        ({"rank": 0}, "rank-out-of-range"),
        ({"length": 1}, "length-out-of-range"),
        ({"seed": -1}, "seed-out-of-range"),
        ({"seed": 2**63}, "seed-out-of-range"),
        ({"dropout": 1.0}, "dropout-out-of-range"),
        ({"learning_rate": float("nan")}, "learning-rate-out-of-range"),
        ({"learning_rate": float("inf")}, "learning-rate-out-of-range"),
        ({"weight_decay": -1.0}, "weight-decay-out-of-range"),
        ({"weight_decay": float("inf")}, "weight-decay-out-of-range"),
        ({"diverged": 1.0}, "diverged-out-of-range"),
        ({"dtype": "float16"}, "dtype-unusable"),
    ],
)
def test_numbers_that_make_no_training_are_refused(given: dict[str, Any], code: str):
    with refused(code, next(iter(given)), RecoveryError):
        Settings(**given)


def test_a_training_may_be_kept_however_large_its_loss():
    assert Settings(diverged=float("inf")).diverged == float("inf")

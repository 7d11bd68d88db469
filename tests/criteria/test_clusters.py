"""Which curves show a cluster of weak late layers."""

from __future__ import annotations

import numpy as np
import pytest

from gatenorm.analysis.diagnostics import late_cluster
from gatenorm.records import LayerScore, ModelIdentity, Scores


def scores(values: list[float]) -> Scores:
    layers = tuple(LayerScore(i, float(v)) for i, v in enumerate(values))
    return Scores(ModelIdentity("m", "llama", len(values), "", {}), "gate-norm", layers, 0.0, 0)


def noise(count: int, seed: int, width: float = 0.03) -> np.ndarray:  # type: ignore[type-arg]
    return np.exp(width * np.random.default_rng(seed).standard_normal(count))


@pytest.mark.parametrize("layers", [12, 32, 40])
def test_a_step_down_late_in_the_model_is_a_cluster(layers: int) -> None:
    start = round(0.6 * layers)
    level = np.where(np.arange(layers) < start, np.linspace(110, 90, layers), 40)
    found = late_cluster(scores(list(level * noise(layers, 1))))
    assert found.members == tuple(range(start, layers))
    assert "times below the next layer" in found.reason


def test_the_last_layer_may_stand_out_of_the_cluster() -> None:
    level = [100.0] * 20 + [30.0] * 11 + [120.0]
    assert late_cluster(scores(list(np.array(level) * noise(32, 2)))).members == tuple(range(20, 31))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (list(np.linspace(100, 50, 32)), "explains"),
        (list(np.geomspace(100, 10, 40)), "explains"),
        ([30.0] * 8 + [100.0] * 24, "not confined to the deeper half"),
        ([100.0] * 31 + [20.0], "only layer 31"),
        ([100.0] * 32, "explains 0.00"),
        ([3.0, 2.0, 1.0], "too few"),
        ([1.0] * 31 + [0.0], "logarithm"),
    ],
)
def test_a_slope_or_weak_early_layers_are_no_cluster(values: list[float], reason: str) -> None:
    found = late_cluster(scores(values))
    assert not found
    assert found.members == ()
    assert reason in found.reason


def test_noise_is_hardly_ever_a_cluster() -> None:
    draws = [list(noise(count, seed, 0.2)) for seed in range(300) for count in (12, 24, 40)]
    assert np.mean([bool(late_cluster(scores(values))) for values in draws]) < 0.01

"""Criteria that know what will take attention's place: against naive computations on every block shape."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import gatenorm
from gatenorm.api.opening import session
from gatenorm.calibration.passes import observe
from gatenorm.calibration.samples import Calibration
from gatenorm.criteria.activations.cca_bound import _JointMoments, cca_bound
from gatenorm.fitting.fit import fitted_divergence
from gatenorm.models.forward import blocks_of
from gatenorm.records import Edits
from tests.analysis.models import SHAPES, layout_of, naive_streams, samples
from tests.tiny_models import build

TinyModels = Callable[..., Path]
HOW = Calibration("random", samples=12, length=24)


def canonical(values: np.ndarray) -> np.ndarray:
    """An orthonormal basis of what the centred columns span, ``[tokens, rank]``."""
    left, sizes, _ = np.linalg.svd(values - values.mean(0), full_matrices=False)
    return np.asarray(left[:, sizes > 1e-6 * sizes[0]])


# Where a norm stands on the stream itself, the streams behind it do not tell what was added in front of it.
@pytest.mark.parametrize("name", [name for name in SHAPES if name != "opt-post-norm"])
def test_the_bound_is_that_of_the_canonical_correlations(name: str, tiny_models: TinyModels):
    layout, module = layout_of(tiny_models(name)), build(name)
    given = samples((40, 7, 33, 2, 48, 48, 48))
    seen = _JointMoments(layout, (1, 3))
    observe(module, layout, given, seen)
    for layer in (1, 3):
        streams = naive_streams(module, layout, given.sequences)[layer]
        norm = layout.norms.input
        entered, y = (torch.cat([one[key] for one in streams]) for key in ("entered", "with"))
        with torch.no_grad():
            x = blocks_of(module, layout)[layer].get_submodule(norm)(entered.float()) if norm else entered
        of_x, of_y = canonical(x.double().numpy()), canonical(y.double().numpy())
        correlations = np.linalg.svd(of_y.T @ of_x, compute_uv=False)
        rank = min(of_x.shape[1], of_y.shape[1])
        naive = of_y.shape[1] - rank + (1 - correlations[:rank] ** 2).sum()
        assert cca_bound(*seen.covariances(layer)) == pytest.approx(naive, abs=1e-4)


def test_the_bound_by_hand():
    rng = np.random.default_rng(0)
    x, noise = rng.normal(size=(2, 4000, 3))
    x, noise = (canonical(one) * 4000**0.5 for one in (x, noise - canonical(x) @ (canonical(x).T @ noise)))
    turn = np.array([[0, 2.0, 0], [0, 0, 3.0], [5.0, 0, 0]])

    def of(y: np.ndarray) -> float:
        return cca_bound(*(a.T @ b / 4000 for a, b in ((x, x), (y, x), (y, y))))

    assert of(x @ turn) == pytest.approx(0)  # a linear map of the input
    assert of(noise @ turn) == pytest.approx(3)  # uncorrelated with it
    assert of((x + noise) @ turn) == pytest.approx(1.5)  # rho^2 is one half in each direction
    assert of(np.stack([x[:, 0], x[:, 0], noise[:, 0]], 1)) == pytest.approx(1)  # two of which are one


def test_the_greedy_order_leaves_the_least_divergence_at_each_step(tiny_models: TinyModels):
    opened = session(tiny_models("llama-mha"))
    scores = gatenorm.score(opened, "greedy-linear", calibration=HOW)
    every = Edits.of("attention", range(5), "linear")
    figures = fitted_divergence(opened.model, every, opened.samples(HOW))
    gone: list[int] = []
    left: list[float] = []
    for _ in range(3):
        able = [layer for layer in range(5) if layer not in gone]
        found = figures([Edits.of("attention", (*gone, layer), "linear") for layer in able], None)
        left.append(min(found))
        gone.append(able[int(np.argmin(found))])
    assert list(scores.ranking[:3]) == gone
    assert scores.calibration is not None
    assert scores.calibration.path == pytest.approx([0.0, *left])
    alone = gatenorm.score(opened, "leave-one-out-linear", calibration=HOW)
    assert alone.ranking[0] == gone[0]
    assert min(layer.score for layer in alone.layers) == pytest.approx(left[0])


@pytest.mark.parametrize("name", ["greedy-linear", "leave-one-out-linear"])
def test_progress_of_both_halves_ends_whole(name: str, tiny_models: TinyModels):
    seen: list[float] = []

    def progress(done: int, total: int) -> None:
        seen.append(done / total)

    gatenorm.score(tiny_models("llama-mha"), name, calibration=HOW, progress=progress)
    assert seen == sorted(seen)
    assert (seen[0] < 0.5, seen[-1]) == (True, 1.0)

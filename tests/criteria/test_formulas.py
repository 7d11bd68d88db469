"""Every criterion equals its formula, however a family stores the weights."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from gatenorm.criteria.compute.backend import backend
from gatenorm.criteria.registry import weight_criteria
from gatenorm.criteria.scoring import score
from gatenorm.criteria.weights.gate_norm_rope import mean_phase
from gatenorm.errors import CriterionError
from gatenorm.families import attention_weights
from tests.criteria import naive
from tests.criteria.models import FORMS, Shape, Truth, write
from tests.errors import refused

TOLERANCE = 2e-5
# What a formula needs besides the weights, and what has none: these are the numbers themselves.
NEEDS_MORE = {"gate-norm-scaled", "gate-norm-rope"}
NO_FORMULA = {"depth", "random"}
REFERENCES = {
    name: getattr(naive, name.replace("-", "_")) for name in weight_criteria().keys() - NEEDS_MORE - NO_FORMULA
}


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, Shape, str, int]:
    """A form, a shape that it allows (plain, grouped and single key heads), a storage type and a seed."""
    form = draw(st.sampled_from(FORMS))
    kv_heads, group, head_dim = (
        draw(st.sampled_from([1, 2, 3])),
        draw(st.sampled_from([1, 2, 4])),
        2 * draw(st.integers(1, 5)),
    )
    if form == "transposed":
        kv_heads, group = kv_heads * group, 1
    heads = kv_heads * group
    # Two channels or more: with one a score is a single inner product, which cancels as far as it likes.
    own = heads + draw(st.integers(1, 40))
    width = heads * head_dim if form in ("transposed", "grouped") else own
    shape = Shape(heads, kv_heads, head_dim, width, layers=2)
    return form, shape, draw(st.sampled_from(["F32", "F16", "BF16"])), draw(st.integers(0, 10**6))


def check(found: object, heads: tuple[float, ...], expected: object) -> None:
    if isinstance(expected, np.ndarray):
        np.testing.assert_allclose(heads, expected, rtol=TOLERANCE)
        expected = np.linalg.norm(expected)
    else:
        assert heads == ()
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases())
def test_criteria_equal_their_formulas(case: tuple[str, Shape, str, int]) -> None:
    form, shape, dtype, seed = case
    with tempfile.TemporaryDirectory() as directory:
        layout, truths = write(Path(directory), form, shape, dtype, seed)
        for name, reference in REFERENCES.items():
            for found, truth in zip(score(layout, name, backend="numpy").layers, truths, strict=True):
                check(found.score, found.heads, reference(truth))
        scaled = score(layout, "gate-norm-scaled", backend="numpy")
        for found, truth in zip(scaled.layers, truths, strict=True):
            check(found.score, found.heads, naive.gate_norm_scaled(truth, shape.head_dim**-0.5))
        if layout.rotary is not None:
            rope = score(layout, "gate-norm-rope", backend="numpy")
            for found, truth in zip(rope.layers, truths, strict=True):
                check(found.score, found.heads, naive.gate_norm_rope(truth, shape.head_dim, 100.0, 17))


@pytest.mark.parametrize(("config", "base"), [({}, 4**-0.5), ({"scale_attn_weights": False}, 1.0)])
def test_a_logit_scale_of_each_layer_counts(tmp_path: Path, config: dict[str, bool], base: float) -> None:
    """GPT-2 as Mistral's authors trained it: the logits of layer i are divided by i + 1."""
    config = {"scale_attn_by_inverse_layer_idx": True, **config}
    layout, truths = write(tmp_path, "transposed", Shape(3, 3, 4, 12, layers=4), config=config)
    for found, truth in zip(score(layout, "gate-norm-scaled").layers, truths, strict=True):
        check(found.score, found.heads, naive.gate_norm_scaled(truth, base / (found.layer + 1)))


@pytest.mark.parametrize("fraction", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("theta", [10.0, 10000.0])
def test_dimensions_that_do_not_turn_keep_their_cross_terms(tmp_path: Path, fraction: float, theta: float) -> None:
    config = {"partial_rotary_factor": fraction, "rope_theta": theta, "max_position_embeddings": 33}
    layout, [truth] = write(tmp_path, "stacked", Shape(4, 2, 16, 24), config=config)
    [found] = score(layout, "gate-norm-rope").layers
    check(found.score, found.heads, naive.gate_norm_rope(truth, int(16 * fraction), theta, 33))


def test_at_context_one_the_rotary_norm_is_the_plain_one(tmp_path: Path) -> None:
    layout, [truth] = write(tmp_path, "separate", Shape(4, 2, 6, 9), config={"max_position_embeddings": 1})
    np.testing.assert_allclose(score(layout, "gate-norm-rope").layers[0].heads, naive.gate_norm_heads(truth), rtol=1e-6)


def test_a_gate_matrix_of_zero_does_not_mean_logits_of_zero(tmp_path: Path) -> None:
    """``Wq = [1; 0]`` and ``Wk = [0; 1]`` of head_dim 2 meet nowhere, until the key has turned by a quarter."""
    layout, _ = write(tmp_path, "separate", Shape(1, 1, 2, 1))
    weights = attention_weights(layout, 0)
    first, second = np.array([[1.0], [0.0]]), np.array([[0.0], [1.0]])
    truth = Truth(first[None], second[None], second[None], second[None], np.ones(1))

    class Fixed:
        def head_grams(self, projection: object, gain: object = None) -> np.ndarray:  # type: ignore[type-arg]
            rows = truth.q if projection is weights.q else truth.k
            return rows @ rows.transpose(0, 2, 1)

    rope = weight_criteria()["gate-norm-rope"].formula(weights, Fixed())
    assert weight_criteria()["gate-norm-heads"].formula(weights, Fixed())[0] == 0  # type: ignore[index]
    np.testing.assert_allclose(rope, naive.gate_norm_rope(truth, 2, 100.0, 17))
    assert rope[0] > 0.5  # type: ignore[index]


@given(st.floats(-2.0, 2.0), st.integers(1, 3000))
def test_the_mean_phase_is_the_mean_of_the_phases(w: float, context: int) -> None:
    expected = np.exp(-1j * w * np.arange(context)).mean()
    assert abs(mean_phase(np.array([[w]]), context)[0, 0] - expected) < 1e-10


def test_grouped_key_heads_are_repeated_for_the_gate_norm_and_not_for_the_outer_one(tmp_path: Path) -> None:
    layout, [truth] = write(tmp_path, "separate", Shape(6, 2, 4, 20))
    repeated = np.linalg.norm(truth.q.reshape(-1, 20).T @ truth.group(truth.k).reshape(-1, 20))
    np.testing.assert_allclose(score(layout, "gate-norm").layers[0].score, repeated, rtol=1e-6)
    wrong = np.linalg.norm(truth.q.reshape(-1, 20) @ truth.group(truth.k).reshape(-1, 20).T)
    assert abs(score(layout, "gate-norm-outer").layers[0].score / wrong - 1) > 0.1


def test_orthogonal_gram_matrices_do_not_cancel_into_noise(tmp_path: Path) -> None:
    """Queries along one head dimension, keys nearly along another: the Gram form would subtract like from like."""
    layout, _ = write(tmp_path, "separate", Shape(1, 1, 4, 64))
    draw = np.random.default_rng(3)
    q, k = 1e-4 * draw.standard_normal((4, 64)), 1e-4 * draw.standard_normal((4, 64))
    q[0] += 1
    k[1] += 1
    weights = attention_weights(layout, 0)
    small = [type(weights.q)("w", "F32", (x.astype(np.float32),)) for x in (q, k)]
    expected = np.linalg.norm(small[0].bits[0].astype(np.float64).T @ small[1].bits[0].astype(np.float64))
    np.testing.assert_allclose(backend("numpy").product_norm(*small, "rows"), expected, rtol=1e-5)


def test_rope_is_refused_where_it_has_no_meaning(tmp_path: Path) -> None:
    (tmp_path / "gpt2").mkdir()
    layout, _ = write(tmp_path / "gpt2", "transposed", Shape(2, 2, 4, 8))
    with refused("rotary-missing", kind=CriterionError):
        score(layout, "gate-norm-rope")
    layout, _ = write(tmp_path, "separate", Shape(2, 2, 4, 8), config={"rope_scaling": {"rope_type": "longrope"}})
    with refused("rope-type-unknown", kind=CriterionError):
        score(layout, "gate-norm-rope")

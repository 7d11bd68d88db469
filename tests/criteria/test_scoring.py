"""What `score` returns, notes and refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch

from gatenorm.checkpoint import open_store
from gatenorm.criteria.compute.backend import backend
from gatenorm.criteria.criterion import Formula, WeightCriterion
from gatenorm.criteria.registry import criterion, weight_criteria
from gatenorm.criteria.scoring import bytes_to_read, score
from gatenorm.errors import CriterionError
from gatenorm.families import attention_weights, detect_layout
from gatenorm.records import Scores, from_json, to_json
from tests.criteria.models import Shape, write
from tests.errors import refused
from tests.tiny_models import CASES

TinyModels = Callable[..., Path]
SHAPE = Shape(4, 2, 8, 32, layers=3)


@pytest.mark.parametrize("name", CASES)
def test_every_criterion_scores_every_family(name: str, tiny_models: TinyModels) -> None:
    layout = detect_layout(open_store(tiny_models(name)))
    for known in weight_criteria():
        if known == "gate-norm-rope" and layout.rotary is None:
            continue
        scores = score(layout, known)
        assert [s.layer for s in scores.layers] == list(layout.removable("attention"))
        assert all(np.isfinite(s.score) and s.score > 0 for s in scores.layers)
        if known.startswith("gate-norm-") and known != "gate-norm-outer":
            assert all(len(s.heads) == layout.heads for s in scores.layers)
        assert from_json(Scores, json.loads(json.dumps(to_json(scores))), "scores").ranking == scores.ranking


@pytest.mark.parametrize("known", ["gate-norm", "gate-ov", "depth"])
@pytest.mark.parametrize("name", ["llama-gqa", "gpt_neox", "falcon-40b", "deepseek_v3", "deepseek_v2", "qwen3_next"])
def test_what_will_be_read_is_known_before(name: str, known: str, tiny_models: TinyModels) -> None:
    layout = detect_layout(open_store(tiny_models(name)))
    announced = bytes_to_read(layout, known)
    # Norms between the factors of latent attention are read besides.
    vectors = 4 * layout.width * layout.layers if layout.latent_rank else 0
    assert announced <= score(layout, known).bytes_read <= announced + vectors


def test_the_record_says_where_it_comes_from(tmp_path: Path) -> None:
    layout, _ = write(tmp_path, "separate", SHAPE, "BF16")
    steps: list[tuple[int, int]] = []
    scores = score(layout, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert scores.criterion == "gate-norm"
    assert scores.version == version("gatenorm")
    assert scores.bytes_read == 3 * (32 + 16) * 32 * 2
    assert scores.seconds > 0
    assert scores.seed is None
    assert scores.model == layout.identity()


def test_only_the_projections_of_the_formula_are_read(tmp_path: Path) -> None:
    layout, _ = write(tmp_path, "separate", SHAPE)
    assert score(layout, "depth").bytes_read == 0
    assert score(layout, "ov-norm").bytes_read == score(layout, "gate-norm").bytes_read


def test_depth_removes_the_last_layers_first(tmp_path: Path) -> None:
    layout, _ = write(tmp_path, "separate", SHAPE)
    assert score(layout, "depth").ranking == (2, 1, 0)


def test_random_depends_on_the_seed_alone(tmp_path: Path) -> None:
    layout, _ = write(tmp_path, "separate", Shape(2, 2, 4, 8, layers=12))
    drawn = [score(layout, "random", seed=s) for s in (0, 0, 1)]
    assert [s.seed for s in drawn] == [0, 0, 1]
    assert drawn[0].layers == drawn[1].layers
    assert drawn[0].ranking != drawn[2].ranking
    assert drawn[0].ranking == (11, 8, 6, 7, 9, 10, 1, 3, 4, 2, 0, 5)  # as on every other machine


def test_a_negative_seed_is_refused_since_no_record_holds_it(tmp_path: Path) -> None:
    layout, _ = write(tmp_path, "separate", SHAPE)
    with refused("seed-out-of-range", "seed", kind=CriterionError):
        score(layout, "random", seed=-1)


def test_an_unknown_criterion_is_answered_with_the_nearest() -> None:
    with refused("criterion-unknown", "criterion", CriterionError) as caught:
        criterion("gatenorm")
    assert caught.value.given == "gatenorm"
    assert "'gate-norm'" in caught.value.hint
    assert all(name in caught.value.hint for name in weight_criteria())


def test_every_criterion_documents_its_formula() -> None:
    for name, known in weight_criteria().items():
        assert known.name == name
        assert known.summary
        assert "``" in (known.formula.__doc__ or "")


@pytest.mark.parametrize(
    ("name", "role"), [("gate-norm", "q"), ("gate-norm-heads", "k"), ("ov-norm", "o"), ("ov-norm", "v")]
)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_named(tmp_path: Path, name: str, role: str, value: float) -> None:
    tensor = f"model.layers.1.self_attn.{role}_proj.weight"
    broken = torch.ones((32, 32) if role in "qo" else (16, 32))
    broken[3, 5] = value
    layout, _ = write(tmp_path, "separate", SHAPE, extra={tensor: broken})
    with refused("weights-not-finite", kind=CriterionError) as error:
        score(layout, name)
    assert tensor in error.value.problem


def test_a_gain_that_is_not_finite_is_named(tmp_path: Path) -> None:
    tensor = "model.layers.1.input_layernorm.weight"
    layout, _ = write(tmp_path, "separate", SHAPE, extra={tensor: torch.full((32,), torch.nan)})
    assert score(layout, "gate-norm").layers
    with refused("weights-not-finite", kind=CriterionError) as error:
        score(layout, "gate-norm-scaled")
    assert tensor in error.value.problem


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "name", ["gate-norm", "gate-norm-heads", "gate-norm-outer", "gate-norm-rope", "gate-norm-scaled"]
)
def test_finite_weights_that_overflow_are_not_called_damaged(tmp_path: Path, name: str) -> None:
    """Nor is there a warning of NumPy's beside the one line, with the path of a file of ours."""
    tensor = "model.layers.1.self_attn.q_proj.weight"
    layout, _ = write(tmp_path, "separate", SHAPE, extra={tensor: torch.full((32, 32), 3e38)})
    with refused("score-not-finite", kind=CriterionError):
        score(layout, name)


@pytest.fixture
def formula(monkeypatch: pytest.MonkeyPatch) -> Callable[[Formula], None]:
    """Makes another package's criterion of a formula, ``theirs``."""

    def added(theirs: Formula) -> None:
        own = WeightCriterion(summary="theirs", formula=theirs, reads=("q", "v"), name="theirs")
        monkeypatch.setattr("gatenorm.criteria.scoring.criterion_named", lambda name: own)

    return added


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("number", [float, np.float64])
def test_a_division_by_zero_is_named_without_a_warning(
    tmp_path: Path, formula: Callable[[Formula], None], number: type[float]
) -> None:
    formula(lambda weights, backend: number(1) / number(np.linalg.norm(weights.v.float32())))
    layout, _ = write(
        tmp_path, "separate", SHAPE, extra={"model.layers.1.self_attn.v_proj.weight": torch.zeros(16, 32)}
    )
    with refused("score-not-finite", kind=CriterionError) as error:
        score(layout, "theirs")
    assert "theirs of layer 1" in error.value.problem


@pytest.mark.parametrize("given", [[1.0, 2.0], None, np.ones((2, 2)), "1"])
def test_a_formula_that_gives_no_number_is_refused(
    tmp_path: Path, formula: Callable[[Formula], None], given: object
) -> None:
    formula(lambda weights, backend: given)  # type: ignore[arg-type,return-value]
    layout, _ = write(tmp_path, "separate", SHAPE)
    with refused("extension-wrong", "criterion", kind=CriterionError):
        score(layout, "theirs")


@pytest.mark.parametrize("name", weight_criteria())
def test_a_formula_reads_the_projections_that_it_names_and_no_others(tmp_path: Path, name: str) -> None:
    """Of a criterion, ``reads`` says whose weights are looked through when a score is not finite, or underflows."""
    layout, _ = write(tmp_path, "separate", SHAPE)
    chosen, weights = weight_criteria()[name], attention_weights(layout, 0)
    chosen.formula(weights, backend("numpy"), **({"seed": 0} if chosen.seeded else {}))
    assert {"q", "k", "v", "o"} & vars(weights).keys() == {*chosen.reads}  # a projection is kept once it was read


@pytest.mark.parametrize("name", ["gate-norm", "gate-norm-heads", "gate-norm-outer", "ov-norm"])
def test_weights_whose_products_underflow_get_no_made_up_ranking(tmp_path: Path, name: str) -> None:
    shapes = {"q": (32, 32), "k": (16, 32), "v": (16, 32), "o": (32, 32)}
    small = {f"model.layers.1.self_attn.{r}_proj.weight": torch.full(s, 1e-35) for r, s in shapes.items()}
    layout, _ = write(tmp_path, "separate", SHAPE, extra=small)
    with refused("score-underflows", kind=CriterionError):
        score(layout, name)


@pytest.mark.parametrize("name", ["gate-norm", "gate-norm-heads", "gate-norm-outer", "gate-norm-rope", "gate-ov"])
@pytest.mark.parametrize("scales", [{"q": 1e-22, "k": 1e-22}, {"q": 1e-22, "k": 1e12}], ids=["both", "one"])
def test_weights_whose_products_lose_digits_get_no_made_up_ranking(
    tmp_path: Path, name: str, scales: dict[str, float]
) -> None:
    """Their scores are above 0, but made of the few digits that float32 has down there."""
    torch.manual_seed(0)
    rows = {"q": 32, "k": 16}
    small = {f"model.layers.1.self_attn.{r}_proj.weight": torch.randn(rows[r], 32) * s for r, s in scales.items()}
    layout, _ = write(tmp_path, "separate", SHAPE, extra=small)
    with refused("score-underflows", kind=CriterionError):
        score(layout, name)


def test_gains_too_small_for_float32_get_no_made_up_ranking(tmp_path: Path) -> None:
    small = {"model.layers.1.input_layernorm.weight": torch.full((32,), 1e-30)}
    layout, _ = write(tmp_path, "separate", SHAPE, extra=small)
    assert score(layout, "gate-norm").layers
    with refused("score-underflows", kind=CriterionError):
        score(layout, "gate-norm-scaled")


def test_the_largest_projection_decides_where_they_are_added(tmp_path: Path) -> None:
    tensor = "model.layers.1.self_attn.v_proj.weight"
    layout, _ = write(tmp_path, "separate", SHAPE, extra={tensor: torch.full((16, 32), 1e-35)})
    assert score(layout, "weight-magnitude").layers[1].score > 1


def test_a_layer_of_zeros_scores_zero(tmp_path: Path) -> None:
    layout, _ = write(
        tmp_path, "separate", SHAPE, extra={"model.layers.1.self_attn.q_proj.weight": torch.zeros(32, 32)}
    )
    for name in ("gate-norm", "gate-norm-heads", "gate-norm-outer", "gate-norm-rope"):
        assert score(layout, name).layers[1].score == 0


@pytest.mark.parametrize("name", ["gate-norm", "gate-norm-heads", "gate-norm-outer", "gate-norm-rope", "gate-ov"])
def test_what_the_score_leaves_out_is_noted(name: str, tiny_models: TinyModels, tmp_path: Path) -> None:
    layout, _ = write(tmp_path, "biased", SHAPE)
    assert score(layout, name).notes == ("q and k have biases, which are not part of the score",)
    normed = score(detect_layout(open_store(tiny_models("qwen3"))), name)
    (note,) = normed.notes
    assert note.startswith("queries and keys are normed, so the gate norms carry no scale")
    capped = score(detect_layout(open_store(tiny_models("gemma2"))), name)
    assert capped.notes == ("logits are capped at 2, which is not part of the score",)
    assert score(layout, "ov-norm").notes == ()


@pytest.mark.parametrize(("name", "spans"), [("qwen3", (16, 16)), ("olmo2", (64, 16))])
def test_normed_queries_and_keys_score_by_their_bound(
    name: str, spans: tuple[int, int], tiny_models: TinyModels
) -> None:
    layout = detect_layout(open_store(tiny_models(name)))
    scores = score(layout, "gate-norm-scaled")
    assert "the bound on the logits" in scores.notes[0]
    for found in scores.layers:
        weights = attention_weights(layout, found.layer)
        gains = [
            np.abs(layout.checkpoint.float32(layout.tensor(found.layer, f"self_attn.{n}_norm.weight"))) for n in "qk"
        ]
        assert (gains[0].size, gains[1].size) == spans
        group, size = layout.heads // layout.kv_heads, layout.head_dim
        for head, value in enumerate(found.heads):
            parts = [
                g if g.size == size else g[i * size : (i + 1) * size]
                for g, i in zip(gains, (head, head // group), strict=True)
            ]
            expected = layout.scale * np.sqrt(np.prod(spans)) * parts[0].max() * parts[1].max()
            np.testing.assert_allclose(value, expected, rtol=1e-6)
        assert weights.q.heads == len(found.heads)


def test_gemmas_gain_counts_from_one(tiny_models: TinyModels) -> None:
    layout = detect_layout(open_store(tiny_models("gemma2")))
    weights = attention_weights(layout, 0)
    gain = 1 + layout.checkpoint.float32(layout.tensor(0, "input_layernorm.weight")).astype(np.float64)
    group = layout.heads // layout.kv_heads
    expected = [
        24**-0.5 * np.linalg.norm((weights.q.head(h) * gain).T @ (weights.k.head(h // group) * gain))
        for h in range(layout.heads)
    ]
    np.testing.assert_allclose(score(layout, "gate-norm-scaled").layers[0].heads, expected, rtol=1e-5)

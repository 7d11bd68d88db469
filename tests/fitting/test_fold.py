"""Folding an attention into the MLP in front of it: the fit, and that disk, memory and exports agree on it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from msgspec import structs

import gatenorm
from gatenorm.calibration.passes import observe
from gatenorm.calibration.samples import Calibration, Samples
from gatenorm.calibration.shared_prefix import SharedPrefix, divergence
from gatenorm.errors import PlanError
from gatenorm.families import Layout, family
from gatenorm.fitting.moments import MomentObserver
from gatenorm.fitting.solve import Problem, solve
from gatenorm.models.forward import blocks_of
from gatenorm.records import Edits
from gatenorm.surgery.folding import carrier, check_foldable, has_bias, projection
from gatenorm.surgery.live import edit_model
from tests.analysis.models import layout_of, model_on, naive_streams, samples
from tests.errors import refused
from tests.tiny_models import CASES, VOCABULARY, build

TinyModels = Callable[..., Path]
EDITS = Edits.of("attention", (1, 2), "fold")
IDS = torch.randint(4, VOCABULARY, (2, 12), generator=torch.Generator().manual_seed(0))


def can_fold(name: str) -> bool:
    kind, arguments = CASES[name]
    config = getattr(transformers, kind)(vocab_size=VOCABULARY, **arguments).to_dict()
    try:
        check_foldable(family(config["model_type"], config), "fold")
    except PlanError:
        return False
    return True


FOLDING = [name for name in CASES if can_fold(name)]
REFUSED = [name for name in CASES if name not in FOLDING]


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False).logits


def fold_weights(module: Any, layout: Layout, edits: Edits = EDITS) -> dict[Any, dict[str, np.ndarray]]:
    """Random tensors to fold in; as large as weights are, so that a fold at the wrong place shows."""
    made, draw = {}, np.random.default_rng(3)
    for edit in edits:
        block = blocks_of(module, layout)[carrier(layout.data, edit.layer)]
        shape = tuple(block.get_submodule(projection(layout.data)).weight.shape)
        shape = shape[::-1] if layout.roles.transposed else shape
        made[edit] = {"matrix": draw.normal(0, 0.2, shape).astype(np.float32)}
        if has_bias(layout, edit.layer):
            made[edit]["bias"] = draw.normal(0, 0.2, shape[0]).astype(np.float32)
    return made


def test_the_families_that_cannot_fold_are_refused_in_one_line(tiny_models: TinyModels):
    assert {"gemma2", "olmo2", "opt-post-norm"} <= {*REFUSED}  # norms stand behind their MLPs
    assert {"llama-gqa", "gpt2", "gpt_neo", "gpt_neox", "falcon-7b", "opt", "phi3", "qwen3"} <= {*FOLDING}
    for name in REFUSED:
        layout = layout_of(tiny_models(name))
        with refused("fold-impossible", "replace"):
            gatenorm.plan(layout, layers=1, replace="fold")
        with refused("fold-impossible", "replace"):
            gatenorm.plan(layout, drop=[layout.attention_layers[-1]], replace="fold")
    sequential = layout_of(tiny_models("llama-gqa"))
    with refused("fold-without-mlp", "drop") as error:
        gatenorm.plan(sequential, drop=[0, 2], replace="fold")
    assert "\n" not in str(error.value)
    gatenorm.plan(layout_of(tiny_models("falcon-7b")), drop=[0], replace="fold")  # its own block's MLP carries it
    with refused("operation-not-for-sublayer", "replace"):
        gatenorm.plan(sequential, drop=[1], replace="fold", kind="mlp")


def test_a_carrier_must_be_there(tiny_models: TinyModels, tmp_path: Path):
    source = tiny_models("llama-gqa")
    gatenorm.prune(source, tmp_path / "out", gatenorm.plan(source, drop=[1], kind="mlp"))
    with refused("fold-without-mlp", "drop"):
        gatenorm.plan(tmp_path / "out", drop=[2], replace="fold")


@pytest.mark.parametrize("name", FOLDING)
def test_what_is_folded_is_that_of_naive_least_squares(name: str, tiny_models: TinyModels):
    layout, module = layout_of(tiny_models(name)), build(name)
    given = samples((40, 7, 33, 2, 48, 40, 40))
    observer = MomentObserver(layout, EDITS)
    observe(module, layout, given, observer)
    found, streams = observer.moments(), naive_streams(module, layout, given.sequences)
    for edit in EDITS:
        u = torch.cat([one["with"] - one["without"] for one in streams[edit.layer]]).double().numpy()
        u /= getattr(module.config, layout.block.multiplier or "", 1.0)  # which the block puts on its MLP too
        h = hidden_units(module, layout, given, carrier(layout.data, edit.layer))
        m = found[edit]
        assert m.count == given.tokens == len(h)
        biased = has_bias(layout, edit.layer)
        for ridge in (1e-3, 0.1):
            # Ridge regression as least squares of more rows; the intercept, if any, is spared.
            penalty = np.sqrt(ridge * (h * h).sum() / h.shape[1]) * np.eye(h.shape[1])
            if biased:
                rows = np.vstack([np.column_stack([h, np.ones(len(h))]), np.column_stack([penalty, 0 * penalty[0]])])
            else:
                rows = np.vstack([h, penalty])
            naive = np.linalg.lstsq(rows, np.vstack([u, np.zeros((len(penalty), u.shape[1]))]), rcond=None)[0].T
            solution = solve(m.with_intercept(), ridge, free=1) if biased else solve(m, ridge)
            np.testing.assert_allclose(solution, naive, rtol=1e-3, atol=2e-4 * np.abs(naive).max())
            left = np.square(u - (rows[: len(h)] @ naive.T)).sum() / np.square(u).sum()
            assert (m.with_intercept() if biased else m).unexplained(naive) == pytest.approx(left, rel=1e-3, abs=1e-5)


def hidden_units(module: Any, layout: Layout, given: Samples, layer: int) -> np.ndarray:
    """The inputs of the layer's output projection, each sequence run alone: ``[tokens, inner]`` in float64."""
    kept: list[torch.Tensor] = []
    down = blocks_of(module, layout)[layer].get_submodule(projection(layout.data))
    handle = down.register_forward_pre_hook(
        lambda _, arguments: kept.append(arguments[0].reshape(-1, arguments[0].shape[-1]))
    )
    with torch.no_grad():
        for sequence in given.sequences:
            module(input_ids=torch.tensor([sequence]), use_cache=False)
    handle.remove()
    return torch.cat(kept).double().numpy()


def test_the_intercept_is_that_of_centred_least_squares():
    draw = np.random.default_rng(0)
    x, offset = draw.normal(size=(300, 5)) + 2, np.array([3.0, -1.0])
    u = x @ draw.normal(size=(5, 2)) + offset
    m = moments_of(x, u)
    matrix, constant = Problem([m], [m], intercept=True).affine()
    np.testing.assert_allclose(x @ matrix.T + constant, u, atol=1e-2)
    halved = Problem([m], [m], intercept=True).scaled(0.5).affine()
    np.testing.assert_allclose(halved[0], matrix / 2)
    np.testing.assert_allclose(halved[1], constant / 2)
    with pytest.raises(ValueError, match="no intercept"):
        Problem([m], [m]).affine()


def moments_of(x: np.ndarray, u: np.ndarray) -> Any:
    from gatenorm.fitting.moments import Moments

    return Moments(len(x), x.sum(0), u.sum(0), x.T @ x, u.T @ x, float((u * u).sum()))


@pytest.mark.parametrize("name", FOLDING)
def test_disk_and_memory_fold_alike(name: str, tiny_models: TinyModels, tmp_path: Path):
    source, module = tiny_models(name), build(name)
    layout = layout_of(source)
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    weights = fold_weights(module, layout)
    plan = structs.replace(gatenorm.plan(source, drop=[1, 2], replace="fold"), edits=EDITS)
    gatenorm.prune(source, tmp_path / "out", gatenorm.FittedPlan(plan, weights))

    written = gatenorm.load(tmp_path / "out", dtype=torch.float32)
    expected = logits(with_folds(module, layout, weights))
    torch.testing.assert_close(logits(written), expected, atol=1e-5, rtol=1e-4)
    model = model_on(layout, module)
    with model.edited(EDITS, weights) as edited:
        torch.testing.assert_close(logits(edited.module), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(logits(model.edited_copy(EDITS, weights).module), expected, atol=1e-5, rtol=1e-4)
    # Neither touched the model that they were made from.
    for key, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[key]), key

    live = edit_model(copy.deepcopy(module), EDITS, layout.data, weights=weights)
    torch.testing.assert_close(logits(live), expected, atol=1e-5, rtol=1e-4)
    live.save_pretrained(tmp_path / "saved")
    torch.testing.assert_close(logits(gatenorm.load(tmp_path / "saved")), expected, atol=1e-5, rtol=1e-4)
    assert (tmp_path / "saved/modeling_gatenorm.py").read_text() == (tmp_path / "out/modeling_gatenorm.py").read_text()

    pruned = gatenorm.open_model(tmp_path / "out")
    assert pruned.edits == EDITS
    removed = gatenorm.prune(source, tmp_path / "removed", gatenorm.plan(source, drop=[1, 2])).path
    assert gatenorm.open_model(removed).checkpoint.specs == pruned.checkpoint.specs


def with_folds(module: Any, layout: Layout, weights: Any) -> Any:
    """The stock model whose folded attentions put out zeros, with other numbers in the projections that carry them."""
    model = copy.deepcopy(module)
    for edit, tensors in weights.items():
        blocks = blocks_of(model, layout)
        down = blocks[carrier(layout.data, edit.layer)].get_submodule(projection(layout.data))
        with torch.no_grad():
            added = torch.from_numpy(tensors["matrix"])
            down.weight += added.T if layout.roles.transposed else added
            if "bias" in tensors:
                down.bias += torch.from_numpy(tensors["bias"])
        attention = blocks[edit.layer].get_submodule(layout.block.attention[0])
        attention.register_forward_hook(
            lambda _, __, output: (
                (torch.zeros_like(output[0]), *output[1:]) if isinstance(output, tuple) else torch.zeros_like(output)
            )
        )
    return model


@pytest.mark.parametrize("name", ["llama-gqa", "gpt2", "falcon-7b"])
def test_a_fold_is_fitted_judged_and_written(name: str, tiny_models: TinyModels, tmp_path: Path):
    source = tiny_models(name)
    session = gatenorm.session(source, dtype="float32")
    plan = gatenorm.plan(source, drop=[1, 3], replace="fold")
    fitted = gatenorm.fit(session, plan, [Calibration("random", 48, 16)])
    record = {one.layer: one for one in fitted.plan.fit.edits}
    kept = [edit for edit in fitted.plan.edits if edit.operation == "fold"]
    assert all(one.better for edit in kept for one in record[edit.layer].divergences)
    assert all(edit.artifact for edit in kept)
    gatenorm.prune(source, tmp_path / "out", fitted)
    live = session.model.edited_copy(fitted.plan.edits, fitted.weights)
    written = gatenorm.load(tmp_path / "out", dtype=torch.float32)
    torch.testing.assert_close(logits(written), logits(live.module), atol=1e-5, rtol=1e-4)
    card = (tmp_path / "out/README.md").read_text()
    assert ("byte for byte those of\nthe source, except" in card) == bool(kept)


def test_a_shared_prefix_ends_in_front_of_the_block_that_carries(tiny_models: TinyModels):
    layout, module = layout_of(tiny_models("llama-gqa")), build("llama-gqa")
    weights, given = fold_weights(module, layout), samples((12, 12, 12))
    model = model_on(layout, module)
    one, both = Edits([edit for edit in EDITS if edit.layer == 2]), EDITS
    found = SharedPrefix(model, given, weights=weights, figure=divergence)([one, both])
    for edits, value in zip((one, both), found, strict=True):
        alone = SharedPrefix(model, given, weights=weights, figure=divergence)([edits])
        assert value == pytest.approx(alone[0], rel=1e-5)


def test_memory_counts_the_hidden_units(tiny_models: TinyModels):
    layout = layout_of(tiny_models("llama-gqa"))
    observer = MomentObserver(layout, EDITS)
    observe(build("llama-gqa"), layout, samples(), observer)
    kept = sum(m.xx.nbytes + m.ux.nbytes for m in observer.moments().values())
    assert MomentObserver.nbytes(layout, EDITS, sources=3) == 3 * 2 * kept


def test_tensors_of_another_shape_are_refused(tiny_models: TinyModels, tmp_path: Path):
    source = tiny_models("llama-gqa")
    layout = layout_of(source)
    plan = structs.replace(gatenorm.plan(source, drop=[1, 2], replace="fold"), edits=EDITS)
    wrong = {edit: {"matrix": np.ones((layout.width, 3), np.float32)} for edit in EDITS}
    for weights in (wrong, {edit: {"other": np.ones(3, np.float32)} for edit in EDITS}):
        with refused("operation-tensors-wrong", "weights"):
            gatenorm.prune(source, tmp_path / "out", gatenorm.FittedPlan(plan, weights))
        with refused("operation-tensors-wrong", "weights"):
            edit_model(copy.deepcopy(build("llama-gqa")), EDITS, layout.data, weights=weights)
    assert not (tmp_path / "out").exists()

"""Multi-head latent attention: what a layout makes of the factors, against what the model's heads see."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from gatenorm.checkpoint import open_store
from gatenorm.families import Layout, attention_weights, detect_layout
from tests.families.observed import blocks, observe
from tests.tiny_models import CASES, build

TinyModels = Callable[..., Path]
LATENT = [name for name, (_, arguments) in CASES.items() if "kv_lora_rank" in arguments]


@pytest.fixture(params=LATENT)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def layout(name: str, tiny_models: TinyModels) -> Layout:
    return detect_layout(open_store(tiny_models(name)))


def lengths(x: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """What the norm divides each token's latent vector by, over what a layout divides all of them by, ``[tokens]``."""
    rank = len(down)
    return (x @ down.T).pow(2).mean(-1).sqrt() / (down.norm() / rank**0.5)


def projected(matrices: np.ndarray, x: torch.Tensor) -> torch.Tensor:
    return torch.einsum("hrw,tw->htr", torch.from_numpy(np.stack(matrices)), x)


def test_logits_and_values_are_the_models(name: str, layout: Layout) -> None:
    """Up to the length that the norm divides each token by, rows, order, rotation and scale are those of the model."""
    for index, seen in enumerate(observe(name)):
        weights, module = attention_weights(layout, index), blocks(build(name))[index].self_attn
        rotary, x = layout.rotary_of(index), seen.attention_input
        assert rotary is not None
        own = layout.head_dim - rotary.dims
        q, k, v = (projected(getattr(weights, role).bits, x) for role in "qkv")
        down = module.kv_a_proj_with_mqa.weight.detach()[: layout.latent_rank]
        key_lengths = lengths(x, down)[:, None]
        torch.testing.assert_close(v / key_lengths, seen.v, rtol=1e-3, atol=1e-3)
        k = torch.cat([k[..., :own] / key_lengths, k[..., own:]], dim=-1)
        if layout.data.latent.q:
            q = q / lengths(x, module.q_a_proj.weight.detach())[:, None]
        angles = torch.arange(len(x))[:, None] * torch.from_numpy(rotary.frequencies()).float()
        first, second = rotary.partners()
        assert min(first) == own
        assert max(second) == layout.head_dim - 1
        for rows in (q, k):
            turned = torch.complex(rows[..., first], rows[..., second]) * torch.polar(torch.ones_like(angles), angles)
            rows[..., first], rows[..., second] = turned.real, turned.imag
        model = build(name)
        factor = getattr(model.model.rotary_emb, "attention_scaling", 1.0)
        ours = q[..., :own] @ k[..., :own].transpose(1, 2)
        ours = ours + factor**2 * q[..., own:] @ k[..., own:].transpose(1, 2)
        theirs = seen.queries @ seen.keys.transpose(1, 2)
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=2e-3)


def test_rescaling_what_stands_in_front_of_a_norm_changes_nothing(layout: Layout) -> None:
    """As in the model."""
    weights = attention_weights(layout, 1)
    down, norm, _ = layout.data.latent.kv
    matrix, rank = weights._matrix(down), layout.latent_rank
    np.testing.assert_allclose(
        weights._normed(3 * matrix[:rank], norm), weights._normed(matrix[:rank], norm), rtol=1e-5
    )


def test_the_division_is_the_mean_over_inputs_without_a_direction(layout: Layout) -> None:
    weights = attention_weights(layout, 2)
    down, norm, _ = layout.data.latent.kv
    matrix = weights._matrix(down)[: layout.latent_rank].astype(np.float64)
    gain = layout.checkpoint.float32(layout.tensor(2, f"{norm}.weight"))
    x = np.random.default_rng(0).standard_normal((200_000, layout.width))
    length = np.sqrt(((x @ matrix.T) ** 2).mean())
    np.testing.assert_allclose(weights._normed(matrix, norm), gain[:, None] * matrix / length, rtol=5e-3)


def test_the_cache_is_as_wide_as_the_models(name: str, layout: Layout) -> None:
    with torch.no_grad():
        cache = build(name)(torch.tensor([[5, 6, 7]]), use_cache=True).past_key_values.layers[0]
    assert layout.cached_width == (cache.keys.numel() + cache.values.numel()) / 3

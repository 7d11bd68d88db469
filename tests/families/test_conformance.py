"""Every family and block shape is asked the same questions, and transformers itself gives the answers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gatenorm.checkpoint import open_store
from gatenorm.families import Layout, Projection, attention_weights, detect_layout, families
from gatenorm.surgery.config import block_record
from gatenorm.surgery.modeling_gatenorm import edit_block
from tests.families.observed import attention, blocks, head_norm, language_model, observe, silenced
from tests.tiny_models import CASES, GAINS_FROM_ONE, build, tokens

TinyModels = Callable[..., Path]
TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(params=CASES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def layout(name: str, tiny_models: TinyModels) -> Layout:
    return detect_layout(open_store(tiny_models(name)))


def project(projection: Projection, bias: Any, x: torch.Tensor) -> torch.Tensor:
    """``x Wᵀ + b`` by head, ``[heads, tokens, head_dim]``, from what a layout yields."""
    heads, size, _ = projection.shape
    rows = x @ torch.from_numpy(projection.float32()).T
    if bias is not None:
        rows = rows + torch.from_numpy(bias)
    return rows.reshape(len(x), heads, size).transpose(0, 1)


def key_factor(name: str) -> float:
    """Falcon-H1 multiplies keys, which is part of the scale here."""
    return float(getattr(build(name).config.get_text_config(), "key_multiplier", 1.0))


def per_query_head(values: torch.Tensor, heads: int) -> torch.Tensor:
    return values.repeat_interleave(heads // len(values), dim=0)


def test_every_family_has_a_case() -> None:
    assert {build(case).config.model_type for case in CASES} == set(families())


def test_q_k_v_are_what_the_model_projects(name: str, layout: Layout) -> None:
    if layout.latent_rank:
        return  # norms stand inside of its projections: tests/families/test_latent.py
    for index, seen in zip(layout.attention_layers, observe(name), strict=True):
        weights = attention_weights(layout, index)
        projected = {"q": seen.q, "k": seen.k, "v": seen.v}
        if index in layout.key_sources:  # it reads what another layer makes of another input
            source = attention_weights(layout, layout.key_sources[index])
            assert (weights.k.tensor, weights.v.tensor) == (source.k.tensor, source.v.tensor)
            projected = {"q": seen.q}
        for role, theirs in projected.items():
            ours = project(getattr(weights, role), weights.bias(role), seen.attention_input)
            if role == "q" and layout.model_type == "opt":
                theirs = theirs / layout.scale  # OPT scales its queries before they attend
            if role == "v" and layout.norms.v:
                ours = torch.nn.functional.rms_norm(ours, ours.shape[-1:], eps=1e-6)
            expected = per_query_head(theirs, layout.heads)
            torch.testing.assert_close(per_query_head(ours, layout.heads), expected, **TOLERANCE)
            assert ours.abs().mean() > 0.1


def test_o_makes_the_attention_output(name: str, layout: Layout) -> None:
    for index, seen in zip(layout.attention_layers, observe(name), strict=True):
        weights = attention_weights(layout, index)
        assert weights.o.shape == (layout.heads, layout.at(index).value_dim, layout.width)
        mixed = seen.gated if layout.roles.q_gate else seen.mixed
        ours = mixed @ torch.from_numpy(weights.o.float32())
        bias = weights.bias("o")
        ours = ours if bias is None else ours + torch.from_numpy(bias)
        torch.testing.assert_close(ours, seen.attention_output, **TOLERANCE)


def test_scale_softcap_and_groups_make_the_models_attention(name: str, layout: Layout) -> None:
    """softmax(cap(s q kᵀ) + mask) v with the layout's numbers is what the heads of the model give."""
    for index, seen in zip(layout.attention_layers, observe(name), strict=True):
        scale = 1.0 if layout.model_type == "opt" else layout.scale / key_factor(name)
        keys, values = (per_query_head(x, layout.heads) for x in (seen.keys, seen.v))
        logits = scale * seen.queries @ keys.transpose(1, 2)
        if layout.softcap is not None:
            logits = layout.softcap * torch.tanh(logits / layout.softcap)
        rows = logits.shape[1]
        mask = torch.full((rows, rows), -1e9).triu(1) if seen.mask is None else seen.mask
        logits = logits + mask
        if layout.roles.sinks:  # one more logit, whose share goes nowhere
            sinks = layout.checkpoint.float32(layout.tensor(index, layout.roles.sinks))
            logits = torch.cat([logits, torch.from_numpy(sinks)[:, None, None].expand(-1, rows, 1)], dim=-1)
        mixed = torch.softmax(logits, dim=-1)[..., :rows] @ values
        torch.testing.assert_close(mixed.transpose(0, 1).flatten(1), seen.mixed, **TOLERANCE)


def test_numbers_are_the_models_own(name: str, layout: Layout) -> None:
    model = build(name)
    config = model.config.get_text_config()
    seen = observe(name)[0]
    assert layout.layers == len(blocks(model)) == config.num_hidden_layers
    attending = [index for index, block in enumerate(blocks(model)) if attention(block) is not None]
    assert layout.attention_layers == tuple(attending)
    assert layout.other_mixers == tuple(set(range(layout.layers)) - set(attending))
    assert layout.width == seen.block_input.shape[-1]
    assert (layout.heads, layout.head_dim) == (seen.queries.shape[0], seen.queries.shape[2])
    assert layout.context == config.max_position_embeddings
    assert layout.softcap == getattr(config, "attn_logit_softcapping", None)
    if name not in (
        "falcon-40b",
        "falcon-11b",
    ):  # which hand the heads attending a copy of the key for every query head
        assert layout.kv_heads == seen.keys.shape[0]
    else:
        assert layout.kv_heads == config.num_kv_heads
    module = attention(blocks(model)[0])
    scaling = getattr(module, "scaling", getattr(module, "inv_norm_factor", 1 / getattr(module, "scale_attn", 1.0)))
    assert layout.scale == pytest.approx(scaling * key_factor(name))


def test_rotary_turns_as_the_model_does(name: str, layout: Layout) -> None:
    model = language_model(build(name))
    embedding = getattr(model, "rotary_emb", getattr(model, "pos_emb", None))
    if layout.model_type == "gptj":
        return  # it has a table of sines, and no frequencies: see the next test
    if embedding is None or getattr(model.config, "alibi", False):
        assert layout.rotary is None
        return
    assert layout.rotary is not None
    for layer in layout.attention_layers:
        rotary = layout.rotary_of(layer)
        if rotary is not None:
            kinds = getattr(model.config, "layer_types", None) or [""] * layout.layers
            frequencies = getattr(embedding, f"{kinds[layer]}_inv_freq", getattr(embedding, "inv_freq", None))
            assert rotary.dims == 2 * len(frequencies)
            np.testing.assert_allclose(rotary.frequencies(), frequencies.numpy(), rtol=1e-6)
    assert layout.rotary.context == min(
        model.config.max_position_embeddings,
        model.config.rope_parameters.get("original_max_position_embeddings", 1 << 31),
    )


def test_rotary_partners_turn_together(name: str, layout: Layout) -> None:
    """Rotating what was projected, pair by pair, gives what enters the logits, up to a factor by position."""
    if layout.norms.q or layout.latent_rank:
        return  # q and k are normed before they turn, or behind
    for index, seen in zip(layout.attention_layers, observe(name), strict=True):
        rotary = layout.rotary_of(index)
        assert seen.q is not None
        if rotary is None:
            # Llama 4 scales queries by their position where they do not turn.
            scaled = getattr(language_model(build(name)).config, "attn_temperature_tuning", False)
            assert layout.model_type == "opt" or scaled or torch.equal(seen.q, seen.queries)
            continue
        first, second = rotary.partners()
        angles = torch.arange(seen.q.shape[1])[:, None] * torch.from_numpy(rotary.frequencies()).float()
        pairs = torch.complex(seen.q[..., first], seen.q[..., second]) * torch.polar(torch.ones_like(angles), angles)
        turned = seen.q.clone()
        turned[..., first], turned[..., second] = pairs.real, pairs.imag
        if "llama_4_scaling_beta" in rotary.scaling:  # which scales queries behind their original context
            turned = turned * (seen.queries.norm(dim=-1) / turned.norm(dim=-1))[..., None]
        torch.testing.assert_close(turned, seen.queries, **TOLERANCE)


def test_removed_with_takes_the_attention_and_leaves_the_rest(name: str, layout: Layout) -> None:
    model = build(name)
    block = model.get_submodule(layout.block.path)[2]
    prefixes = layout.removed_with(2)
    expected = {
        f"{layout.block.path}.2.{module}.{parameter}"
        for module in layout.block.attention
        for parameter, _ in block.get_submodule(module).named_parameters()
    }
    stored = {t.name for t in layout.checkpoint.specs.values() if t.name.startswith(prefixes)}
    assert {name.replace(layout.prefix, layout.block.path) for name in stored} == expected
    weighty = [any(True for _ in block.get_submodule(module).parameters()) for module in layout.block.attention]
    for prefix, weights in zip(prefixes, weighty, strict=True):
        assert any(name.startswith(prefix) for name in stored) == weights


def test_block_names_every_module_with_weights_once(name: str, layout: Layout) -> None:
    model = build(name)
    described = layout.block
    assert model.get_submodule(described.path) is blocks(model)
    for layer, block in enumerate(blocks(model)):
        if layer in layout.other_mixers:
            continue
        parts = (described.attention, described.before, described.branch, described.after, described.rest)
        named = [module for part in parts for module in part]
        assert len(named) == len(set(named))
        assert all(hasattr(block, module) for module in named)
        assert {child for child, m in block.named_children() if list(m.parameters())} <= set(named)
        assert attention(block) is getattr(block, described.attention[0])
    if described.dropout:
        assert isinstance(getattr(model.config, described.dropout), float)


def test_block_computes_what_the_model_does_without_attention(name: str, layout: Layout) -> None:
    model = build(name)
    calls: list[tuple[torch.Tensor, Any, Any]] = []

    def keep(_: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        calls.append((args[0] if args else kwargs["hidden_states"], (args, kwargs), output))

    handles = [block.register_forward_hook(keep, with_kwargs=True) for block in blocks(model)]
    with torch.no_grad():
        with silenced(model):
            model(tokens())
        for handle in handles:
            handle.remove()
        for block, (x, (args, kwargs), theirs) in zip(blocks(model), calls, strict=True):
            if attention(block) is None:
                continue
            assert isinstance(theirs, tuple) == (layout.block.returns == "tuple")
            theirs = theirs[0] if isinstance(theirs, tuple) else theirs
            if layout.block.in_place:
                edited = copy.deepcopy(block)
                edit_block(edited, block_record(layout.data).to_dict(), model.config, {"attention": "remove"}, {})
                found = edited(*args, **{**kwargs, "past_key_values": None})
                torch.testing.assert_close(found[0] if isinstance(found, tuple) else found, theirs, **TOLERANCE)
                continue
            for module in layout.block.before:
                x = getattr(block, module)(x)
            branch = x
            for module in layout.block.branch:
                branch = getattr(block, module)(branch)
                branch = branch[0] if isinstance(branch, tuple) else branch
            if layout.block.branch:
                factor = layout.block.multiplier
                x = x + branch * (getattr(language_model(model).config, factor) if factor else 1)
            for module in layout.block.after:
                x = getattr(block, module)(x)
            torch.testing.assert_close(x, theirs, **TOLERANCE)


def slopes(x: torch.Tensor, y: torch.Tensor) -> np.ndarray:
    """The gain of each channel by which a norm made ``y`` of normed ``x``: the slope of a line through all tokens."""
    x, y = x.double(), y.double()
    x, y = x - x.mean(0), y - y.mean(0)
    return ((x * y).sum(0) / (x * x).sum(0)).numpy()


def test_input_gain_is_what_the_norm_does(name: str, layout: Layout) -> None:
    for index, seen in zip(layout.attention_layers, observe(name), strict=True):
        gain = attention_weights(layout, index).gain("input")
        if gain is None:
            torch.testing.assert_close(seen.attention_input, seen.block_input)
            continue
        x = seen.block_input.double()
        if layout.norms.kind == "layer":
            x = x - x.mean(-1, keepdim=True)
        normed = x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
        np.testing.assert_allclose(slopes(normed, seen.attention_input), gain, rtol=1e-3, atol=1e-3)


def test_gains_of_the_other_norms(name: str, layout: Layout) -> None:
    model = build(name)
    offset = 1.0 if CASES[name][0].startswith(GAINS_FROM_ONE) else 0.0
    for index in layout.attention_layers:
        block = blocks(model)[index]
        weights = attention_weights(layout, index)
        for role in ("q", "k"):
            source = layout.key_sources.get(index, index) if role == "k" else index
            module = attention(blocks(model)[source])
            norm = head_norm(module, role)
            assert (weights.gain(role) is None) == (norm is None)
            if norm is not None:
                weight = norm.weight.detach().flatten() if hasattr(norm, "weight") else torch.ones(module.head_dim)
                expected = weight.numpy() + np.float32(offset)
                np.testing.assert_array_equal(weights.gain(role), expected)
        after = observe(name)[layout.attention_layers.index(index)].output_norm
        # OPT's post-norm blocks norm the stream; the other shapes that norm behind attention norm its output.
        assert (weights.gain("output") is None) == (after is None)
        if after is not None:
            expected = getattr(block, after).weight.detach().numpy() + np.float32(offset)
            np.testing.assert_array_equal(weights.gain("output"), expected)


def same_weights(left: Layout, right: Layout) -> None:
    for index in left.attention_layers:
        ours, theirs = attention_weights(left, index), attention_weights(right, index)
        for role in ("q", "k", "v", "o"):
            np.testing.assert_array_equal(getattr(ours, role).float32(), getattr(theirs, role).float32())
            np.testing.assert_array_equal(ours.bias(role), theirs.bias(role))
        np.testing.assert_array_equal(ours.gain("input"), theirs.gain("input"))


def test_a_sharded_checkpoint_reads_the_same(name: str, layout: Layout, tiny_models: TinyModels) -> None:
    sharded = detect_layout(open_store(tiny_models(name, max_shard_size="60KB")))
    assert len(sharded.checkpoint.files) > 2
    same_weights(layout, sharded)


def test_a_base_models_checkpoint_is_understood(name: str, layout: Layout, tiny_models: TinyModels) -> None:
    base = detect_layout(open_store(tiny_models(name, base_only=True)))
    # Files of some larger models have names of their own, which are those of the whole.
    names = (layout.block.path.split(".", 1)[1], layout.prefix, *layout.block.paths)
    assert base.prefix in names
    assert all(n.startswith(base.prefix + ".0.") for n in base.checkpoint.specs if n.startswith(base.removed_with(0)))
    same_weights(layout, base)


def test_a_matrix_is_its_heads_one_below_the_other(name: str, layout: Layout) -> None:
    weights = attention_weights(layout, layout.attention_layers[1])
    for role in ("q", "k", "v", "o"):
        projection: Projection = getattr(weights, role)
        np.testing.assert_array_equal(projection.matrix(), np.concatenate(projection.bits))
        np.testing.assert_array_equal(projection.matrix(), projection.float32())
        out = np.empty(projection.shape[1:], np.float32)
        np.testing.assert_array_equal(projection.head(1 % projection.heads, out), projection.bits[1 % projection.heads])
        assert not projection.bits[0].flags.writeable

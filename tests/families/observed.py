"""What a transformers model itself does with its attention: watched from outside, without reading a layout."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from tests.tiny_models import TOKENS, build, tokens

HEAD_NORMS = ("{0}_norm", "{0}_layernorm", "{1}_layernorm", "qk_norm")
# Of attentions that hand what they project to nothing that could be watched: they turn a part of it, or elsewhere.
PROJECTED = ("rotary_ndims", "use_rope", "key_multiplier", "rotary_dim")
ATTENTION_NAMES = ("self_attn", "self_attention", "attention", "attn")


@dataclass
class Layer:
    """One layer's values during a forward pass, the batch of one left out.

    ``block_input``, ``attention_input``, ``attention_output``: ``[tokens, width]``. ``q``, ``k``: as projected, before
    norms and rotation; ``v``; ``queries``, ``keys``: as they enter the logits: all ``[heads, tokens, head_dim]``.
    ``mask`` is added to the logits. ``mixed`` ``[tokens, heads * head_dim]`` is what the heads make, ``gated`` what the
    output projection is applied to: the same, unless a gate stands behind the heads. ``output_norm`` is the module that
    was called on the attention's output.
    """

    block_input: Tensor = field(default_factory=lambda: torch.empty(0))
    attention_input: Tensor = field(default_factory=lambda: torch.empty(0))
    attention_output: Tensor = field(default_factory=lambda: torch.empty(0))
    q: Tensor | None = None
    k: Tensor | None = None
    v: Tensor = field(default_factory=lambda: torch.empty(0))
    queries: Tensor = field(default_factory=lambda: torch.empty(0))
    keys: Tensor = field(default_factory=lambda: torch.empty(0))
    mask: Tensor | None = None
    mixed: Tensor = field(default_factory=lambda: torch.empty(0))
    gated: Tensor = field(default_factory=lambda: torch.empty(0))
    output_norm: str | None = None


def language_model(model: nn.Module) -> nn.Module:
    """The base model, of a larger model that of its language model."""
    found = model.base_model if model.config.get_text_config() is model.config else model.get_decoder()
    return getattr(found, "model", found)  # Llama 4's causal model is its own base model


def blocks(model: nn.Module) -> nn.ModuleList:
    """The list of blocks: the only list of modules that holds attention, of a larger model's language model."""
    whole = model.config.get_text_config() is not model.config
    found = [
        m
        for m in (model.get_decoder() if whole else model).modules()
        if isinstance(m, nn.ModuleList) and len(m) and attention(m[0]) is not None
    ]
    assert len(found) == 1
    return found[0]


def attention(block: nn.Module) -> nn.Module | None:
    mixer = getattr(block, "mixer", None)
    if hasattr(mixer, "q_proj"):
        return mixer
    return next((getattr(block, name) for name in ATTENTION_NAMES if hasattr(block, name)), None)


def head_norm(module: nn.Module, role: str) -> nn.Module | None:
    """The norm of an attention's queries or keys."""
    long = {"q": "query", "k": "key"}[role]
    return next((m for name in HEAD_NORMS if (m := getattr(module, name.format(role, long), None)) is not None), None)


@cache
def observe(name: str) -> list[Layer]:
    """Run the case's model once and write down what every layer's attention takes, makes and gives."""
    model = build(name)
    attending = [block for block in blocks(model) if attention(block) is not None]
    layers = [Layer() for _ in attending]
    handles = []
    for layer, block in zip(layers, attending, strict=True):
        module = attention(block)
        assert module is not None
        handles += [
            block.register_forward_pre_hook(_keep_input(layer, "block_input"), with_kwargs=True),
            module.register_forward_pre_hook(_keep_input(layer, "attention_input"), with_kwargs=True),
            module.register_forward_hook(_keep_output(layer)),
        ]
        for child in module.children():
            # The projection of the output is the last linear map that runs; behind the heads there may be a gate.
            if isinstance(child, nn.Linear):
                handles.append(child.register_forward_pre_hook(_keep_gated(layer)))
        for role in "qk":
            norm = head_norm(module, role)
            if hasattr(module, "q_proj") and any(hasattr(module, sign) for sign in PROJECTED):
                projection, keep = getattr(module, f"{role}_proj"), _keep_projected(layer, role, module.head_dim)
                handles.append(projection.register_forward_hook(lambda m, _, output, keep=keep: keep(m, (output,))))
            elif norm is not None:  # norms stand between the projection and everything that is seen later
                handles.append(norm.register_forward_pre_hook(_keep_projected(layer, role, module.head_dim)))
        for child, other in block.named_children():
            if other is not module and list(other.parameters()):
                handles.append(other.register_forward_pre_hook(_keep_output_norm(layer, child)))
    with _watched(model, layers), torch.no_grad():
        model(tokens())
    for handle in handles:
        handle.remove()
    for layer in layers:
        layer.q = layer.queries if layer.q is None else layer.q
        layer.k = layer.keys if layer.k is None else layer.k
    return layers


@contextmanager
def silenced(model: nn.Module) -> Iterator[None]:
    """The model with every attention branch forced to contribute zero, biases of its output included."""

    def zero(_: nn.Module, __: Any, output: Any) -> Any:
        return (torch.zeros_like(output[0]), *output[1:])

    found = [attention(block) for block in blocks(model)]
    handles = [module.register_forward_hook(zero) for module in found if module is not None]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _keep_input(layer: Layer, where: str) -> Any:
    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        setattr(layer, where, (args[0] if args else kwargs["hidden_states"])[0].clone())

    return hook


def _keep_output(layer: Layer) -> Any:
    def hook(_: nn.Module, __: Any, output: Any) -> None:
        layer.attention_output = output[0][0].clone()

    return hook


def _keep_gated(layer: Layer) -> Any:
    def hook(_: nn.Module, args: tuple[Any, ...]) -> None:
        layer.gated = args[0][0].clone()

    return hook


def _keep_output_norm(layer: Layer, name: str) -> Any:
    def hook(_: nn.Module, args: tuple[Any, ...]) -> None:
        if (
            args
            and args[0].shape[1:] == layer.attention_output.shape
            and torch.equal(args[0][0], layer.attention_output)
        ):
            layer.output_norm = name

    return hook


def _keep_projected(layer: Layer, role: str, head_dim: int) -> Any:
    def hook(_: nn.Module, args: tuple[Any, ...]) -> None:
        if getattr(layer, role) is not None:  # seen where it was rotated, in front of the norm
            return
        rows = args[0][0]  # [tokens, heads, head_dim], [heads, tokens, head_dim] or [tokens, heads * head_dim]
        if rows.ndim == 3 and len(rows) != TOKENS:
            rows = rows.transpose(0, 1)
        setattr(layer, role, rows.reshape(len(rows), -1, head_dim).transpose(0, 1).clone())

    return hook


@contextmanager
def _watched(model: nn.Module, layers: list[Layer]) -> Iterator[None]:
    """Catch q and k where they are rotated, and q, k, v, mask and result where the heads attend."""
    module = sys.modules[type(attention(blocks(model)[0])).__module__]
    waiting = list(layers)
    patches = []

    def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, mixed: Tensor) -> None:
        layer = waiting.pop(0)
        layer.queries, layer.keys, layer.v = q[0].clone(), k[0].clone(), v[0].clone()
        if mask is not None and mask.dtype == torch.bool:
            mask = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
        layer.mask = None if mask is None else mask[0].clone()
        layer.mixed = mixed[0].reshape(mixed.shape[1], -1).clone()

    for name in ("apply_rotary_pos_emb", "apply_multimodal_rotary_pos_emb"):
        if not hasattr(module, name):
            continue
        rotate = getattr(module, name)

        def watched_rotate(q: Tensor, k: Tensor, *args: Any, rotate: Any = rotate, **kwargs: Any) -> Any:
            layer = waiting[0]
            if layer.q is None:
                layer.q, layer.k = q[0].clone(), k[0].clone()
            return rotate(q, k, *args, **kwargs)

        patches.append(mock.patch.object(module, name, watched_rotate))

    if hasattr(module, "eager_attention_forward"):
        eager = module.eager_attention_forward

        def watched_eager(this: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *a: Any, **kw: Any) -> Any:
            mixed, weights = eager(this, q, k, v, mask, *a, **kw)
            attend(q, k, v, mask, mixed)
            return mixed, weights

        patches.append(mock.patch.object(module, "eager_attention_forward", watched_eager))
    elif plain_attention := next((c for c in vars(module).values() if hasattr(c, "_attn")), None):
        plain = plain_attention._attn

        def watched_plain(this: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Any:
            mixed, weights = plain(this, q, k, v, mask)
            attend(q, k, v, None, mixed.transpose(1, 2))
            return mixed, weights

        patches.append(mock.patch.object(plain_attention, "_attn", watched_plain))
    else:
        sdpa = nn.functional.scaled_dot_product_attention

        def watched_sdpa(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, **kw: Any) -> Tensor:
            mixed = sdpa(q, k, v, attn_mask=attn_mask, **kw)
            attend(q, k, v, attn_mask, mixed.transpose(1, 2))
            return mixed

        patches.append(mock.patch.object(nn.functional, "scaled_dot_product_attention", watched_sdpa))

    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()
    assert not waiting, "not every layer was seen attending"

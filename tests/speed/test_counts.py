"""What is counted from config and headers, beside what real transformers models of every family are made of."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec import structs
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from gatenorm.api import open_model, plan, prune, prune_module
from gatenorm.families import Layout, families
from gatenorm.models.architecture import Architecture, Work
from gatenorm.models.loading import load
from gatenorm.records import Edits
from tests.families.observed import language_model
from tests.tiny_models import CASES, VOCABULARY, build

TinyModels = Callable[..., Path]
TOKENS, BATCH = 20, 2
# transformers repeats the key heads of the new Falcon blocks before it caches them: each query head has its own.
REPEATED_IN_THE_CACHE = {"falcon-40b", "falcon-11b"}


pytestmark = pytest.mark.usefixtures("plain_experts")


@contextmanager
def counted_flops() -> Iterator[FlopCounterMode]:
    """A counter that sees all: torch does not count its fused attention on a CPU."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode(), sdpa_kernel(SDPBackend.MATH):
        yield counter


def block_of(model: Any, layout: Layout, layer: int) -> Any:
    return model.get_submodule(layout.block.path)[layer]


def parameters_of(model: Any) -> int:
    """Those of the language model and its head, a tied one counted once."""
    own = (language_model(model), model.get_output_embeddings())
    return sum(p.numel() for p in {p for module in own for p in module.parameters()})


def test_every_family_has_a_case():
    assert {build(name).config.model_type for name in CASES} == set(families())


@pytest.mark.parametrize("name", CASES)
def test_parameters_are_those_of_the_model(name: str, tiny_models: TinyModels):
    layout, model = open_model(tiny_models(name)), build(name)
    counted = Architecture.of(layout)
    assert counted.runs
    assert counted.parameters == parameters_of(model)
    for layer in layout.attention_layers:
        block = block_of(model, layout, layer)
        own = sum(p.numel() for m in layout.block.attention for p in getattr(block, m).parameters())
        assert counted.attention[layer].parameters == own
        assert counted.mlp[layer].parameters == sum(p.numel() for p in block.parameters()) - own


def unmasked_flops(counted: Architecture, layer: int, work: Work) -> int:
    """An attention's FLOPs with the pairs that a mask hides, which are computed like the others."""
    hidden = work.tokens * (work.past + work.tokens) - counted.pairs(layer, work)
    return counted.attention_flops(layer, work) + 2 * counted.heads[layer].pair * hidden * work.batch


@pytest.mark.parametrize("name", CASES)
def test_flops_are_those_that_torch_counts(name: str, tiny_models: TinyModels):
    layout, model = open_model(tiny_models(name)), build(name)
    counted = Architecture.of(as_run(layout))
    ids = torch.randint(4, VOCABULARY, (BATCH, TOKENS), generator=torch.Generator().manual_seed(0))
    with counted_flops() as counter:
        model(ids, use_cache=False)
    work, tokens = Work.prefill(TOKENS, BATCH), TOKENS * BATCH
    attention = sum(unmasked_flops(counted, layer, work) for layer in counted.attention)
    others = sum(part.flops(tokens) for part in (*counted.mlp, counted.around, counted.head))
    assert_counted(counter, attention + others, layout)


def assert_counted(counter: FlopCounterMode, flops: int, layout: Layout) -> None:
    """All are counted, but what other mixers than attention do between their matrices."""
    total = counter.get_total_flops()
    mixers = layout.other_mixers or "mamba" in layout.block.rest
    assert total > flops if mixers else total == flops


def as_run(layout: Layout) -> Layout:
    """Where transformers runs every token through every expert, the same with all of them active."""
    if not layout.model_type.startswith("llama4"):
        return layout
    mixture = layout.data.mixture
    return replace(layout, data=structs.replace(layout.data, mixture=structs.replace(mixture, active=mixture.count)))


def expanded_again(layout: Layout) -> int:
    """What transformers computes of cached latent vectors once more for every token: their keys and values."""
    rows = layout.heads * (layout.head_dim - layout.turning + layout.value_dim)
    return 2 * layout.latent_rank * rows * TOKENS * BATCH * layout.layers


@pytest.mark.parametrize("name", CASES)
def test_decoding_flops_and_cache_are_those_of_the_model(name: str, tiny_models: TinyModels):
    layout, model = open_model(tiny_models(name)), build(name)
    counted = Architecture.of(as_run(layout))
    ids = torch.randint(4, VOCABULARY, (BATCH, TOKENS), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        cache = model(ids, use_cache=True).past_key_values
    attending = [cache.layers[layer] for layer in layout.attention_layers if layer not in layout.key_sources]
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in attending)
    times = layout.heads // layout.kv_heads if name in REPEATED_IN_THE_CACHE else 1
    assert held == times * counted.cache_bytes(TOKENS, BATCH)
    with counted_flops() as counter:
        model(ids[:, :1], past_key_values=cache, use_cache=True)
    # Sliding caches hold what the window shows, full ones everything: products run over what is held.
    scores = sum(
        2 * counted.heads[layer].pair * (counted.cached_tokens(layer, TOKENS) + 1) * BATCH
        for layer in counted.attention
    )
    matrices = sum(part.flops(BATCH) for part in counted.attention.values())
    others = sum(part.flops(BATCH) for part in (*counted.mlp, counted.around, counted.head))
    assert_counted(counter, scores + matrices + others + expanded_again(layout), layout)


@pytest.mark.parametrize(("name", "drop"), [("llama-gqa", [0, 2]), ("gemma2", [1]), ("gpt2", [3]), ("mistral", [1, 2])])
def test_the_cache_falls_by_exactly_the_share_removed(
    name: str, drop: list[int], tiny_models: TinyModels, tmp_path: Path
):
    source = tiny_models(name)
    out = prune(source, tmp_path / "out", plan(source, drop=drop)).path
    dense, pruned = (Architecture.of(open_model(m)) for m in (source, out))
    held = []
    for directory in (source, out):
        with torch.inference_mode():
            cache = load(directory)(torch.ones(BATCH, TOKENS, dtype=torch.long), use_cache=True).past_key_values
        held.append([layer.keys.nbytes + layer.values.nbytes for layer in cache.layers])
    assert sum(held[0]) == dense.cache_bytes(TOKENS, BATCH)
    assert sum(held[1]) == pruned.cache_bytes(TOKENS, BATCH)
    assert held[1] == [size for layer, size in enumerate(held[0]) if layer not in drop]
    assert pruned.parameters == dense.parameters - sum(dense.attention[layer].parameters for layer in drop)
    assert pruned.mlp == dense.mlp


@pytest.mark.parametrize("kind", ["mlp", "block"])
@pytest.mark.parametrize("name", CASES)
def test_what_is_left_is_counted_before_and_after_it_is_removed(
    name: str, kind: str, tiny_models: TinyModels, tmp_path: Path
):
    source, drop = open_model(tiny_models(name)), [0, 2]
    if not source.mlp_layers:
        return  # its MLPs are blocks of their own
    foreseen = Architecture.of(source, Edits.of(kind, drop))
    pruned = Architecture.of(open_model(prune(source, tmp_path / "out", plan(source, drop=drop, kind=kind))))
    assert foreseen == pruned
    assert pruned.runs
    assert pruned.parameters == parameters_of(prune_module(copy.deepcopy(build(name)), drop, kind))
    assert pruned.without_mlp == (() if source.block.rest else (0, 2))
    assert not any(pruned.mlp[layer].matrix for layer in pruned.without_mlp)


@pytest.mark.parametrize("kind", ["mlp", "block"])
@pytest.mark.parametrize("name", ["llama-gqa", "gemma2", "falcon-7b", "opt-post-norm", "gpt2"])
def test_flops_without_mlps_and_blocks_are_those_that_torch_counts(name: str, kind: str, tiny_models: TinyModels):
    counted = Architecture.of(open_model(tiny_models(name)), Edits.of(kind, [0, 2]))
    model = prune_module(copy.deepcopy(build(name)), [0, 2], kind)
    ids = torch.randint(4, VOCABULARY, (BATCH, TOKENS), generator=torch.Generator().manual_seed(0))
    with counted_flops() as counter:
        model(ids, use_cache=False)
    work, tokens = Work.prefill(TOKENS, BATCH), TOKENS * BATCH
    attention = sum(unmasked_flops(counted, layer, work) for layer in counted.attention)
    others = sum(part.flops(tokens) for part in (*counted.mlp, counted.around, counted.head))
    assert counter.get_total_flops() == attention + others


@pytest.mark.parametrize("window", [None, 3, 8])
@pytest.mark.parametrize(("tokens", "past"), [(1, 0), (5, 0), (1, 7), (4, 2), (6, 9)])
def test_pairs_are_those_that_the_mask_leaves(tokens: int, past: int, window: int | None, tiny_models: TinyModels):
    counted = replace(Architecture.of(open_model(tiny_models("llama-gqa"))), windows={0: window})
    query = torch.arange(past, past + tokens)[:, None]
    key = torch.arange(past + tokens)[None, :]
    seen = (key <= query) & (query - key < (window or 10**6))
    assert counted.pairs(0, Work(tokens, past=past)) == int(seen.sum())


def test_without_mlps_or_a_head_it_is_no_whole_model(tiny_models: TinyModels):
    counted = Architecture.of(open_model(tiny_models("gpt2")))
    nothing = type(counted.head)()
    assert not replace(counted, head=nothing).runs
    assert not replace(counted, mlp=(nothing, *counted.mlp[1:])).runs

"""Tiny models with what a session needs, and samples of unequal length."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch

from gatenorm.calibration.passes import observe
from gatenorm.calibration.samples import Samples, batches
from gatenorm.checkpoint import open_store
from gatenorm.criteria.streams import StreamStatistics, Watch
from gatenorm.families import Layout, detect_layout
from gatenorm.models.forward import negative_log_likelihood
from gatenorm.models.model import Model
from gatenorm.records import ATTENTION
from gatenorm.surgery import modeling_gatenorm as modeling
from gatenorm.surgery.config import block_record
from tests.tiny_models import VOCABULARY

# Every block shape: pre-norm, windows, sandwich, post-norm, parallel with one norm and with two, norms on the stream.
SHAPES = (
    "llama-gqa",
    "qwen2-sliding",
    "gemma2",
    "olmo2",
    "gpt2",
    "gpt_neo",
    "gpt_neox",
    "falcon-7b",
    "falcon-alibi",
    "opt",
    "opt-post-norm",
    "granite",
    "gpt_oss",
)


def layout_of(directory: Path) -> Layout:
    return detect_layout(open_store(directory))


def model_on(layout: Layout, module: Any = None) -> Model:
    """A model whose transformers module is given, or loaded in float32."""
    model = Model.of_layout(layout)
    model._module = module
    return model


def samples(lengths: tuple[int, ...] = (12, 7, 20, 2, 12), batch_size: int | None = 3, seed: int = 3) -> Samples:
    """Sequences that no batch holds without padding."""
    draw = torch.Generator().manual_seed(seed)
    sequences = tuple(tuple(torch.randint(4, VOCABULARY, (n,), generator=draw).tolist()) for n in lengths)
    return Samples(sequences, batch_size)


def naive_streams(model: Any, layout: Layout, sequences: Any) -> dict[int, list[dict[str, torch.Tensor]]]:
    """Every activation kept: by layer and sequence the streams ``without`` and ``with`` attention where they enter the
    MLP (or leave a parallel block), and what enters and leaves the block; each sequence alone, ``[tokens, width]``.

    The stream without is that of a copy of the block which surgery has taken the attention from. Under ``without mlp``
    and ``with mlp`` stand the streams that leave the block in a pass whose MLP branch is silent there, and as it is.
    """
    blocks = model.get_submodule(layout.block.path)
    kept: dict[int, list[dict[str, torch.Tensor]]] = {layer: [] for layer in range(len(blocks))}
    for sequence in sequences:
        seen: dict[int, dict[str, torch.Tensor]] = {layer: {} for layer in kept}
        handles = []
        attending = [(layer, blocks[layer]) for layer in layout.attention_layers]
        for layer, block in attending:
            handles += [
                block.register_forward_pre_hook(_input_of(seen[layer], "entered"), with_kwargs=True),
                block.register_forward_hook(_output_of(seen[layer], "left")),
                block.get_submodule(layout.block.branch[0]).register_forward_pre_hook(
                    _input_of(seen[layer], "with"), with_kwargs=True
                ),
            ]
        with torch.no_grad():
            model(torch.tensor([sequence]))
        for handle in handles:
            handle.remove()
        for layer, block in attending:
            free = copy.deepcopy(block)
            modeling.edit_block(free, block_record(layout.data).to_dict(), model.config, {"attention": "remove"}, {})
            without: dict[str, torch.Tensor] = {}
            free.get_submodule(layout.block.branch[0]).register_forward_pre_hook(
                _input_of(without, "it"), with_kwargs=True
            )
            with torch.no_grad():
                out = free(seen[layer]["entered"][None])
            streams = seen[layer]
            streams["without"] = without["it"]
            if layout.shape == "parallel":  # the attention joins the stream together with the MLP
                taken = streams["left"] - (out[0] if isinstance(out, tuple) else out)[0]
                streams["without"], streams["with"] = streams["entered"], streams["entered"] + taken
            streams["without mlp"] = _left_without_mlp(model, layout, layer, sequence)
            streams["with mlp"] = streams["left"]
            if layout.shape == "parallel":  # the MLP finds what enters the block
                taken = streams["left"] - streams["without mlp"]
                streams["without mlp"], streams["with mlp"] = streams["entered"], streams["entered"] + taken
            kept[layer].append({name: stream.double() for name, stream in streams.items()})
    return kept


def _left_without_mlp(model: Any, layout: Layout, layer: int, sequence: Any) -> torch.Tensor:
    """What leaves a block ``[tokens, width]`` while its MLP branch puts out zeros."""
    seen: dict[str, torch.Tensor] = {}
    block = model.get_submodule(layout.block.path)[layer]
    last = block.get_submodule(layout.block.branch[-1])
    handles = [
        last.register_forward_hook(lambda _, __, output: _zeros(output)),
        block.register_forward_hook(_output_of(seen, "left")),
    ]
    with torch.no_grad():
        model(torch.tensor([sequence]))
    for handle in handles:
        handle.remove()
    return seen["left"]


def naive_figures(kept: dict[int, list[dict[str, torch.Tensor]]]) -> dict[str, dict[int, float]]:
    """The three stream criteria from activations that were kept."""
    found: dict[str, dict[int, float]] = {"cosine": {}, "norm-ratio": {}, "block-cosine": {}, "cosine of mlp": {}}
    for layer, sequences in kept.items():
        whole = {name: torch.cat([s[name] for s in sequences]) for name in sequences[0]}
        update = whole["with"] - whole["without"]
        similar = torch.nn.functional.cosine_similarity
        found["cosine"][layer] = 1 - float(similar(whole["without"], whole["with"], dim=-1).mean())
        found["norm-ratio"][layer] = float(update.norm(dim=-1).sum() / whole["without"].norm(dim=-1).sum())
        found["cosine of mlp"][layer] = 1 - float(similar(whole["without mlp"], whole["with mlp"], dim=-1).mean())
        found["block-cosine"][layer] = 1 - float(similar(whole["entered"], whole["left"], dim=-1).mean())
    return found


def _input_of(seen: dict[str, torch.Tensor], name: str) -> Any:
    def hook(_: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        stream = arguments[0] if arguments else keywords["hidden_states"]
        seen[name] = stream.reshape(-1, stream.shape[-1]).clone()  # OPT folds the batch before its MLP

    return hook


def _output_of(seen: dict[str, torch.Tensor], name: str) -> Any:
    def hook(_: Any, __: Any, output: Any) -> None:
        seen[name] = (output[0] if isinstance(output, tuple) else output)[0].clone()

    return hook


def loss_on(model: Model, samples: Samples, kind: str = ATTENTION) -> Callable[[Collection[int]], float]:
    """The loss without sublayers of given layers, in nats per predicted token, by running the whole model."""

    def loss(layers: Collection[int]) -> float:
        with model.without(layers, kind) as less:
            return sum(negative_log_likelihood(less.module, batch) for batch in batches(samples)) / samples.predicted

    return loss


def _zeros(output: Any) -> Any:
    return (torch.zeros_like(output[0]), *output[1:]) if isinstance(output, tuple) else torch.zeros_like(output)


def stream_statistics(module: Any, layout: Layout, samples: Samples) -> StreamStatistics:
    """Run the samples through a whole model once, and sum."""
    watch = Watch(layout)
    observe(module, layout, samples, watch)
    return watch.statistics

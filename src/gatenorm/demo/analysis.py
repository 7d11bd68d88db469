"""What the layers of a model do: how far each attention turns the stream, and what it costs to remove it."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gatenorm.demo.tasks import SPLIT
from gatenorm.demo.tinyworld import CONTEXT, END, story_of
from gatenorm.evaluation.perplexity import Protocol, perplexity
from gatenorm.evaluation.text import Text
from gatenorm.families.family import family
from gatenorm.surgery.live import remove_attention

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def stories(count: int) -> Text:
    """Held-out stories, others than those that the evaluation's perplexity is taken on."""
    told = [story_of(SPLIT, "layers", number)[0].text for number in range(count)]
    return Text("held-out stories", END + "".join(t + END for t in told), "", "stories of tinyworld")


def sublayer_updates(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: Text
) -> tuple[list[float], list[float]]:
    """Cosine importance and norm ratio of every attention sublayer, in the order of the blocks.

    With ``X`` the stream that enters a block ``[tokens, width]`` and ``U`` what its attention adds: ``1 - mean cos(X, X
    + U)`` and ``sum ||U|| / sum ||X||``, over all tokens of the text's stories. For pre-norm, sequential blocks.
    """
    import torch

    layers = model.model.layers
    sums = [[0.0, 0.0, 0.0, 0.0] for _ in layers]  # cosine, |U|, |X|, tokens
    entered: dict[int, Any] = {}

    def before(index: int) -> Any:
        def hook(_: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            entered[index] = (arguments[0] if arguments else keywords["hidden_states"]).double()

        return hook

    def after(index: int) -> Any:
        def hook(_: Any, __: Any, output: Any) -> None:
            update, stream = output[0].double(), entered.pop(index)
            total = sums[index]
            total[0] += torch.nn.functional.cosine_similarity(stream, stream + update, dim=-1).sum().item()
            total[1] += update.norm(dim=-1).sum().item()
            total[2] += stream.norm(dim=-1).sum().item()
            total[3] += stream.shape[0] * stream.shape[1]

        return hook

    hooks = []
    for index, layer in enumerate(layers):
        hooks.append(layer.register_forward_pre_hook(before(index), with_kwargs=True))
        hooks.append(layer.self_attn.register_forward_hook(after(index)))
    try:
        perplexity(model, tokenizer, text, Protocol(separator=END, window=CONTEXT, batch_size=1))
    finally:
        for handle in hooks:
            handle.remove()
    return [1 - c / n for c, _, _, n in sums], [u / x for _, u, x, _ in sums]


def loss_without_each(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: Text
) -> tuple[float, list[float]]:
    """The loss in nats per token, and the loss when each attention sublayer alone is removed."""
    whole = perplexity(model, tokenizer, text, Protocol(separator=END)).nll
    data = family(model.config.model_type, model.config.to_dict())
    without = []
    for layer in range(model.config.num_hidden_layers):
        pruned = remove_attention(copy.deepcopy(model), [layer], data)
        without.append(perplexity(pruned, tokenizer, text, Protocol(separator=END)).nll)
    return whole, without


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Rank correlation; equal values share the mean of their ranks."""
    a, b = _ranks(first), _ranks(second)
    mean = (len(a) - 1) / 2
    above = sum((x - mean) * (y - mean) for x, y in zip(a, b, strict=True))
    return above / math.sqrt(sum((x - mean) ** 2 for x in a) * sum((y - mean) ** 2 for y in b))


def _ranks(values: Sequence[float]) -> list[float]:
    ordered = sorted(values)
    return [ordered.index(v) + (ordered.count(v) - 1) / 2 for v in values]

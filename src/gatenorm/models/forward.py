"""Forward passes without a key/value cache: batches padded on the right, and the losses of their tokens.

Causal attention does not see padding on the right. Logits become float32 log-probabilities; sums are float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from gatenorm.errors import EvaluationError, named
from gatenorm.families import Layout

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.utils.hooks import RemovableHandle


def blocks_of(module: Any, layout: Layout) -> Any:
    """The list of a causal language model's blocks, in their physical order."""
    return module.get_submodule(layout.block.path)


def on_entering(module: nn.Module, see: Callable[[torch.Tensor], None]) -> RemovableHandle:
    """Have ``see`` called with the hidden states that a block, an attention or an MLP is called with."""

    def hook(_: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        see(arguments[0] if arguments else keywords["hidden_states"])

    return module.register_forward_pre_hook(hook, with_kwargs=True)


def on_leaving(module: nn.Module, see: Callable[[torch.Tensor], None]) -> RemovableHandle:
    """Have ``see`` called with the hidden states that it returns."""
    return module.register_forward_hook(lambda _, __, output: see(hidden_output(output)))


def hidden_output(output: Any) -> Any:
    """The hidden states that a module returns, which some return with other things behind them."""
    return output[0] if isinstance(output, tuple) else output


def on_update(
    block: nn.Module, end: str, beside: Sequence[str], see: Callable[[torch.Tensor], None]
) -> Iterator[RemovableHandle]:
    """Have ``see`` called with what a branch adds: the output of its last module, and those of modules beside it."""
    parts: list[torch.Tensor] = []

    def add(output: torch.Tensor) -> None:
        see(sum(parts, output))
        parts.clear()

    for name in beside:
        yield on_leaving(block.get_submodule(name), parts.append)
    yield on_leaving(block.get_submodule(end), add)


def padded(batch: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids ``[batch, longest]``, zeros at the end of shorter ones, and which of them are real."""
    import torch

    length = max(map(len, batch))
    ids = torch.zeros(len(batch), length, dtype=torch.long)
    real = torch.zeros(len(batch), length, dtype=torch.bool)
    for row, sequence in enumerate(batch):
        ids[row, : len(sequence)] = torch.tensor(sequence)
        real[row, : len(sequence)] = True
    return ids, real


def inputs(ids: torch.Tensor, real: torch.Tensor, device: Any) -> dict[str, Any]:
    """What a model is called with; no mask where nothing is padded, since attention is faster without."""
    mask = None if bool(real.all()) else real.long().to(device)
    return {"input_ids": ids.to(device), "attention_mask": mask}


def token_losses(module: Any, batch: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """The negative log-likelihood of every token but the first of each sequence, in nats: float64 ``[tokens - 1]``.

    Raises:
        EvaluationError: logits that are not finite.
    """
    import torch

    arguments = inputs(*padded(batch), module.device)
    ids = arguments["input_ids"]
    with torch.inference_mode():
        logits = module(**arguments, use_cache=False).logits
        # [batch, length - 1, vocabulary] -> one number a predicted token
        losses = torch.nn.functional.cross_entropy(
            logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
        ).view(len(batch), ids.shape[1] - 1)
    on_cpu = losses.double().cpu()
    rows = [on_cpu[row, : len(sequence) - 1] for row, sequence in enumerate(batch)]
    if not all(bool(torch.isfinite(row).all()) for row in rows):
        raise not_finite(module)
    return rows


def negative_log_likelihood(module: Any, batch: Sequence[Sequence[int]]) -> float:
    """Summed negative log-likelihood of a batch in nats.

    Raises:
        EvaluationError: logits that are not finite.
    """
    return math.fsum(float(losses.sum()) for losses in token_losses(module, batch))


def not_finite(module: Any, dtype: str = "") -> EvaluationError:
    """The error for logits that hold NaN or infinity, which names a damaged weight where there is one.

    Args:
        module: looked through for weights that are not finite either; ``None`` where it lies in another engine.
        dtype: what that engine computes in.
    """
    full = (dtype or str(module.dtype).removeprefix("torch.")) == "float32"
    damaged = None if module is None else _damaged(module, infinite=full)
    problem, hint = "the model's logits are not finite (NaN or infinity)", ""
    if damaged:
        problem += f", as its weights are not: {damaged} is damaged"
        hint = "fetch or prune it once more"
    elif full:
        problem += " though it computes in float32: its weights are damaged or scaled wrongly"
    else:
        hint = f"try {named('dtype')} float32"
    return EvaluationError("logits-not-finite", problem, hint=hint)


def _damaged(module: Any, *, infinite: bool) -> str | None:
    """The first weight that holds NaN, or infinity if that counts: a narrower type makes it of large numbers."""
    for name, weight in module.named_parameters():
        if not weight.is_meta and bool((~weight.isfinite() if infinite else weight.isnan()).any()):
            return str(name)
    return None

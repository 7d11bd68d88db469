"""What the training makes small: the text's surprise, or the distance from what the unpruned parent predicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def language_modelling(logits: Tensor, ids: Tensor) -> Tensor:
    """``-mean log q(token | tokens before)`` in nats, over the ``tokens - 1`` predicted ones of each sequence.

    Args:
        logits: ``[batch, tokens, vocabulary]``.
        ids: ``[batch, tokens]``.
    """
    import torch

    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten())


def distillation(logits: Tensor, parent: Tensor, temperature: float = 1.0) -> Tensor:
    """``T^2 mean sum_v p(v) log(p(v) / q(v))``, the forward divergence KL(p || q), over all positions.

    ``p`` is the parent's distribution and ``q`` the pruned model's, both at temperature ``T``; ``T^2`` keeps gradients
    of one size whatever ``T`` is. Source: Hinton et al., "Distilling the Knowledge in a Neural Network" (1503.02531).

    Args:
        logits, parent: ``[batch, tokens, vocabulary]``.
    """
    import torch

    q = (logits.float() / temperature).log_softmax(-1).flatten(0, 1)
    p = (parent.float() / temperature).log_softmax(-1).flatten(0, 1)
    return torch.nn.functional.kl_div(q, p, reduction="batchmean", log_target=True) * temperature**2

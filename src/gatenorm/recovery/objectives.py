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

    The gradient, ``T (q - p)`` over the number of positions, is taken directly: a third faster than going back through
    the logarithms, which over a large vocabulary is a good part of a step.

    Args:
        logits, parent: ``[batch, tokens, vocabulary]``.
    """
    import torch

    with torch.no_grad():
        q = (logits.float() / temperature).log_softmax(-1)
        p = (parent.float() / temperature).log_softmax(-1)
        expected = p.exp()
        positions = q.shape[:-1].numel()
        divergence = torch.einsum("...v,...v->...", expected, p - q).sum() * temperature**2 / positions
        gradient = q.exp_().sub_(expected).mul_(temperature / positions)
    # Zero, with that gradient.
    pull = torch.dot(logits.float().flatten(), gradient.flatten())
    return divergence + pull - pull.detach()

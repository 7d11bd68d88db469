"""What a forward pass takes: the blocks of a model, and batches padded on the right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gatenorm.families import Layout

if TYPE_CHECKING:
    import torch


def blocks_of(model: Any, layout: Layout) -> Any:
    """The list of a causal language model's blocks, in their physical order."""
    return model.get_submodule(layout.block["path"])


def padded(batch: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids ``[batch, longest]``, zeros at the end of shorter ones, and which of them count.

    Padding stands on the right, where causal attention does not see it.
    """
    import torch

    length = max(map(len, batch))
    ids = torch.zeros(len(batch), length, dtype=torch.long)
    counts = torch.zeros(len(batch), length, dtype=torch.bool)
    for row, sequence in enumerate(batch):
        ids[row, : len(sequence)] = torch.tensor(sequence)
        counts[row, : len(sequence)] = True
    return ids, counts


def inputs(ids: torch.Tensor, counts: torch.Tensor, device: Any) -> dict[str, Any]:
    """What a model is called with; no mask where nothing is padded, since attention is faster without."""
    mask = None if bool(counts.all()) else counts.long().to(device)
    return {"input_ids": ids.to(device), "attention_mask": mask}

"""One pass of a model over calibration samples, for whatever observes it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from gatenorm.calibration.samples import Samples, batches
from gatenorm.families import Layout
from gatenorm.models.forward import blocks_of, inputs, padded
from gatenorm.progress import Progress

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.utils.hooks import RemovableHandle


class Observer(ABC):
    """Hooks on a model's blocks that add up what runs through them."""

    _counts: torch.Tensor

    @abstractmethod
    def hooks(self, blocks: Sequence[nn.Module]) -> Iterator[RemovableHandle]:
        """Register what observes; ``blocks`` are all of the model's, in their physical order."""

    @contextmanager
    def on(self, blocks: Sequence[nn.Module]) -> Iterator[None]:
        """Observe while the block runs."""
        with ExitStack() as stack:
            for handle in self.hooks(blocks):
                stack.enter_context(handle)
            yield

    def count(self, counts: torch.Tensor) -> None:
        """Say which positions ``[batch, tokens]`` of the batch that comes next are no padding."""
        self.see(counts)

    def see(self, counts: torch.Tensor) -> None:
        """The same for a batch whose positions were counted before: layer by layer every batch comes once a layer."""
        self._counts = counts


def counted(values: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """The positions ``[tokens, width]`` of a batch ``[batch, tokens, width]`` that are no padding."""
    return values.reshape(-1, values.shape[-1])[counts.reshape(-1).to(values.device)]


def in_float64(values: torch.Tensor) -> torch.Tensor:
    """The same values in float64; in float32 on Apple's GPUs, which have no other."""
    return values.float() if values.device.type == "mps" else values.double()


def observe(
    module: Any, layout: Layout, samples: Samples, observer: Observer, progress: Progress | None = None
) -> None:
    """Run the samples through a whole model once; no logits are computed.

    Args:
        progress: called with (tokens seen, tokens in all).
    """
    import torch

    done = 0
    with torch.inference_mode(), observer.on(list(blocks_of(module, layout))):
        for batch in batches(samples):
            ids, counts = padded(batch)
            observer.count(counts)
            module.base_model(**inputs(ids, counts, module.device), use_cache=False)
            done += int(counts.sum())
            if progress:
                progress(done, samples.tokens)

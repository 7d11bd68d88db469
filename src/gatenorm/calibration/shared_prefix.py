"""Losses of a model without several sets of layers, in which what lies in front of the first difference runs once.

Up to the first layer in which two sets differ the residual stream is the same. So, batch by batch, the model without
what all sets have in common runs once, and the stream that enters each block is kept for that batch; every set then
begins at its first layer of its own, with blocks in front that only hand the kept stream on. Models make masks and
positions themselves, so their own forward pass runs whole each time, embedding included; the losses are the same to the
last bit. Memory: a stream ``[batch, tokens, width]`` for each layer at which some set begins, for one batch at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from gatenorm.calibration.block_stand_in import Reached, stand_in
from gatenorm.calibration.sources import Samples, batches
from gatenorm.models.forward import blocks_of, inputs, negative_log_likelihood, padded
from gatenorm.models.model import Model
from gatenorm.progress import Progress
from gatenorm.records import ATTENTION

if TYPE_CHECKING:
    from torch import Tensor


class SharedPrefix:
    """Called with sets of layers, gives the samples' loss without each of them, in nats per predicted token.

    ``kind`` says which of their sublayers go: ``attention``, ``mlp``, or ``block`` for both.
    """

    def __init__(self, model: Model, samples: Samples, kind: str = ATTENTION):
        self._model = model
        self._kind = kind
        self._layout = model.known_layout
        self._samples = samples

    def __call__(self, sets: Sequence[Collection[int]], progress: Progress | None = None) -> list[float]:
        """The losses, in the order of ``sets``.

        Args:
            progress: called with (sets done, sets), in which the batches that are done count as a part of every set.

        Raises:
            EvaluationError: logits that are not finite.
        """
        wanted = [frozenset(one) for one in sets]
        common = frozenset.intersection(*wanted)
        begins = {one: min(one - common) for one in wanted if one != common}
        at = {*begins.values()} - {0}  # in front of the first block there is nothing to share
        parts = list(batches(self._samples))
        sums, passes = dict.fromkeys(wanted, 0.0), 0
        for batch in parts:
            streams: dict[int, Tensor] = {}
            if common in sums:
                with self._kept(common, at, streams) as model:
                    sums[common] += negative_log_likelihood(model, batch)
            elif at:
                self._run_up_to(max(at), common, at, streams, batch)
            for one in sums:
                if one != common:
                    with self._resumed(one, begins[one], streams.get(begins[one])) as model:
                        sums[one] += negative_log_likelihood(model, batch)
                passes += 1
                if progress:
                    progress(passes * len(wanted) // (len(sums) * len(parts)), len(wanted))
        return [sums[one] / self._samples.predicted for one in wanted]

    @contextmanager
    def _kept(self, gone: Collection[int], at: Collection[int], streams: dict[int, Tensor]) -> Iterator[Any]:
        """The model without ``gone``, which leaves in ``streams`` what enters the blocks ``at``."""

        def keep(layer: int) -> Any:
            def hook(_: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
                streams[layer] = arguments[0] if arguments else keywords["hidden_states"]

            return hook

        with self._model.without(gone, self._kind) as less:
            blocks = list(blocks_of(less.module, self._layout))
            handles = [blocks[layer].register_forward_pre_hook(keep(layer), with_kwargs=True) for layer in at]
            try:
                yield less.module
            finally:
                for handle in handles:
                    handle.remove()

    def _run_up_to(
        self,
        last: int,
        gone: Collection[int],
        at: Collection[int],
        streams: dict[int, Tensor],
        batch: Sequence[Sequence[int]],
    ) -> None:
        import torch

        def stop(_: Any, __: Any) -> None:
            raise Reached

        with self._kept(gone, at, streams) as model:
            handle = blocks_of(model, self._layout)[last].register_forward_pre_hook(stop)
            try:
                with torch.inference_mode(), suppress(Reached):
                    model.base_model(**inputs(*padded(batch), model.device), use_cache=False)
            finally:
                handle.remove()

    @contextmanager
    def _resumed(self, gone: Collection[int], begin: int, stream: Tensor | None) -> Iterator[Any]:
        """The model without ``gone``, in which ``stream`` stands in for all that lies in front of block ``begin``."""
        with self._model.without(gone, self._kind) as less:
            places = blocks_of(less.module, self._layout)
            before = list(places)[:begin]
            try:
                for layer, block in enumerate(before):
                    places[layer] = stand_in(block, _passing(stream if layer == begin - 1 else None))
                yield less.module
            finally:
                for layer, block in enumerate(before):
                    places[layer] = block


def _passing(stream: Tensor | None) -> Callable[..., Any]:
    """Gives ``stream``, or without one what it is given."""

    def passed(hidden_states: Any, *_: Any, **__: Any) -> Any:
        return hidden_states if stream is None else stream

    return passed

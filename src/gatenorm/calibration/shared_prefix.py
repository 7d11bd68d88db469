"""Losses of a model without several sets of layers, in which what lies in front of the first difference runs once.

Up to the first layer in which two sets differ the residual stream is the same. So, batch by batch, the model without
what all sets have in common runs once, and the stream that enters each block is kept for that batch; every set then
begins at its first layer of its own, with blocks in front that only hand the kept stream on. Models make masks and
positions themselves, so their own forward pass runs whole each time, embedding included; the losses are the same to the
last bit. Memory: a stream ``[batch, tokens, width]`` for each layer at which some set begins, for one batch at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from gatenorm.calibration.block_stand_in import Reached, passed_over
from gatenorm.calibration.samples import Samples, batches
from gatenorm.models.forward import blocks_of, inputs, negative_log_likelihood, not_finite, on_entering, padded
from gatenorm.models.model import Model
from gatenorm.progress import Progress
from gatenorm.records import ATTENTION, Edit, Edits
from gatenorm.surgery.folding import changed_layers
from gatenorm.surgery.operation import Weights

if TYPE_CHECKING:
    from torch import Tensor


# For the model before any edit and a batch: the function that gives an edited model's figure for that batch.
Figure = Callable[[Any, Sequence[Sequence[int]]], Callable[[Any], float]]


class SharedPrefix:
    """Called with sets of edits, gives the samples' loss with each of them, in nats per predicted token.

    A set of layers stands for the removal of their sublayers of ``kind``: ``attention``, ``mlp``, or ``block`` for
    both.

    Args:
        weights: the tensors of edits whose operation stores some.
        figure: what is summed in place of the loss; it is called once a batch, before the model is edited.
    """

    def __init__(
        self,
        model: Model,
        samples: Samples,
        kind: str = ATTENTION,
        weights: Mapping[Edit, Weights] | None = None,
        figure: Figure | None = None,
    ):
        self._model = model
        self._kind = kind
        self._layout = model.known_layout
        self._samples = samples
        self._weights = weights or {}
        self._figure = figure or _loss

    def __call__(self, sets: Sequence[Collection[int] | Edits], progress: Progress | None = None) -> list[float]:
        """The losses, in the order of ``sets``.

        Args:
            progress: called with (sets done, sets), in which the batches that are done count as a part of every set.

        Raises:
            EvaluationError: logits that are not finite.
        """
        wanted = [one if isinstance(one, Edits) else Edits.of(self._kind, one) for one in sets]
        common = Edits(set.intersection(*({*one} for one in wanted)))
        data = self._layout.data
        differ = {one: changed_layers(data, one - common)[0] for one in wanted if one != common}
        begins = {one: self._layout.resumed_at(layer) for one, layer in differ.items()}
        at = {*begins.values()} - {0}  # in front of the first block there is nothing to share
        parts = list(batches(self._samples))
        sums, passes = dict.fromkeys(wanted, 0.0), 0
        for batch in parts:
            streams: dict[int, Tensor] = {}
            figure = self._figure(self._model.module, batch)
            if common in sums:
                with self._kept(common, at, streams) as module:
                    sums[common] += figure(module)
            elif at:
                self._run_up_to(max(at), common, at, streams, batch)
            for one in sums:
                if one != common:
                    with self._resumed(one, begins[one], streams.get(begins[one])) as module:
                        sums[one] += figure(module)
                passes += 1
                if progress:
                    progress(passes * len(wanted) // (len(sums) * len(parts)), len(wanted))
        return [sums[one] / self._samples.predicted for one in wanted]

    @contextmanager
    def _kept(self, edits: Edits, at: Collection[int], streams: dict[int, Tensor]) -> Iterator[Any]:
        """The model with ``edits``, which leaves in ``streams`` what enters the blocks ``at``."""
        with self._model.edited(edits, self._weights) as less:
            blocks = list(blocks_of(less.module, self._layout))
            with ExitStack() as hooks:
                for layer in at:
                    hooks.enter_context(on_entering(blocks[layer], partial(streams.__setitem__, layer)))
                yield less.module

    def _run_up_to(
        self,
        last: int,
        edits: Edits,
        at: Collection[int],
        streams: dict[int, Tensor],
        batch: Sequence[Sequence[int]],
    ) -> None:
        import torch

        def stop(_: Any, __: Any) -> None:
            raise Reached

        with self._kept(edits, at, streams) as model:
            stopped = blocks_of(model, self._layout)[last].register_forward_pre_hook(stop)
            with stopped, torch.inference_mode(), suppress(Reached):
                model.base_model(**inputs(*padded(batch), model.device), use_cache=False)

    @contextmanager
    def _resumed(self, edits: Edits, begin: int, stream: Tensor | None) -> Iterator[Any]:
        """The model with ``edits``, in which ``stream`` stands in for all that lies in front of block ``begin``."""
        places = blocks_of(self._model.module, self._layout)
        with self._model.edited(edits, self._weights) as less, passed_over(places, begin, stream):
            yield less.module


def _loss(_: Any, batch: Sequence[Sequence[int]]) -> Callable[[Any], float]:
    return lambda module: negative_log_likelihood(module, batch)


def divergence(module: Any, batch: Sequence[Sequence[int]]) -> Callable[[Any], float]:
    """``sum KL(p || q)`` over the predicted tokens, ``p`` from the module as it is and ``q`` once it is edited."""
    import torch

    ids, real = padded(batch)
    arguments = inputs(ids, real, module.device)
    counted = real[:, 1:].to(module.device)

    def log_probabilities(edited: Any) -> Tensor:
        with torch.inference_mode():
            return edited(**arguments, use_cache=False).logits[:, :-1].float().log_softmax(-1)

    reference = log_probabilities(module)

    def figure(edited: Any) -> float:
        found = (reference.exp() * (reference - log_probabilities(edited))).sum(-1)[counted].double().sum()
        if not bool(found.isfinite()):
            raise not_finite(edited)
        return float(found)

    return figure

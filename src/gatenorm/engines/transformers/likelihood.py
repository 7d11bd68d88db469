"""Log-likelihoods of continuations by a model that is open in transformers."""

import copy
from collections.abc import Iterator, Sequence
from inspect import signature
from itertools import chain, groupby
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from gatenorm.engines import LikelyContinuation
from gatenorm.errors import EvaluationError
from gatenorm.models.batches import in_batches
from gatenorm.models.forward import not_finite, padded
from gatenorm.models.model import Model
from gatenorm.progress import Progress

_Ids = tuple[int, ...]
# Prompts whose lengths differ by less go together: the tokens by which one is longer are read with each of its choices.
_ALIKE = 8


def continuations(
    model: Model, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], progress: Progress | None = None
) -> list[LikelyContinuation]:
    """As :meth:`gatenorm.engines.Engine.likelihoods`.

    Pairs that share all but the last token share a pass. A prompt that several sequences begin with is read once, and
    they go on from its keys and values, where the model's cache can be handed on so.
    """
    for number, pair in enumerate(pairs):
        if not all(pair):
            raise EvaluationError("pair-empty", f"pair {number}: neither a prompt nor a continuation may be empty")
    scoring = _Scoring(model, [(tuple(prompt), tuple(continuation)) for prompt, continuation in pairs])
    done = 0
    for count in scoring.run():
        done += count
        if progress:
            progress(done, len(scoring.wanted))
    return [scoring.found[number] for number in range(len(pairs))]


class _Scoring:
    """Pairs of prompt and continuation, by the sequences that a model has to read for them.

    Attributes:
        wanted: the numbers of the pairs that a sequence answers: a prompt and all but the last token of a continuation.
        found: the answers until now, by number.
    """

    def __init__(self, model: Model, pairs: Sequence[tuple[_Ids, _Ids]]):
        self._model, self._module, self._pairs = model, model.module, pairs
        self._keeps = "logits_to_keep" in signature(self._module.forward).parameters
        self.wanted: dict[_Ids, list[int]] = {}
        for number, (prompt, continuation) in enumerate(pairs):
            self.wanted.setdefault(prompt + continuation[:-1], []).append(number)
        self.found: dict[int, LikelyContinuation] = {}
        self._shared: dict[_Ids, list[_Ids]] = {}

    def run(self) -> Iterator[int]:
        """Answer for all pairs; yields how many sequences each batch has read."""
        self._shared = self._by_prompt()
        if self._shared and not (self._model.cacheable and _rows_can_be_chosen(self._module)):
            self._shared = {}
        grouped = set(chain.from_iterable(self._shared.values()))
        alone = [sequence for sequence in self.wanted if sequence not in grouped]
        for batch, _ in in_batches(self._model, alone, self._read, len):
            yield len(batch)
        for _, alike in groupby(sorted(self._shared, key=len, reverse=True), lambda prompt: len(prompt) // _ALIKE):
            for batch, _ in in_batches(self._model, list(alike), self._go_on, len):
                yield sum(len(self._shared[prompt]) for prompt in batch)

    def _by_prompt(self) -> dict[_Ids, list[_Ids]]:
        """The sequences that begin with a prompt, for each prompt of several."""
        found: dict[_Ids, list[_Ids]] = {}
        for sequence, numbers in self.wanted.items():
            prompts = {self._pairs[number][0] for number in numbers}
            if len(prompts) == 1:
                found.setdefault(prompts.pop(), []).append(sequence)
        return {prompt: sequences for prompt, sequences in found.items() if len(sequences) > 1}

    def _read(self, batch: list[_Ids]) -> None:
        """Whole sequences, padded behind their ends."""
        start = min(len(self._pairs[number][0]) - 1 for sequence in batch for number in self.wanted[sequence])
        _, logits = self._run(padded(batch)[0], start, use_cache=False)
        for row, sequence in enumerate(batch):
            self._take(sequence, start, logits[row])

    def _go_on(self, prompts: list[_Ids]) -> None:
        """Prompts, as long as the shortest of them so that none is padded, then what follows."""
        length = min(map(len, prompts))
        output, first = self._run(torch.tensor([prompt[:length] for prompt in prompts]), length - 1, use_cache=True)
        follow = [(row, sequence) for row, prompt in enumerate(prompts) for sequence in self._shared[prompt]]

        def read(some: list[tuple[int, _Ids]]) -> None:
            cache = _of_rows(output.past_key_values, [row for row, _ in some])
            rest, _ = padded([sequence[length:] for _, sequence in some])
            _, logits = self._run(rest, 0, use_cache=True, past_key_values=cache)
            for (row, sequence), more in zip(some, logits, strict=True):
                self._take(sequence, length - 1, torch.cat([first[row], more]))

        # Keys and values of the prompt take memory too, so its tokens count.
        longer = [(row, sequence) for row, sequence in follow if len(sequence) > length]
        for _ in in_batches(self._model, longer, read, lambda one: len(one[1])):
            pass
        for row, sequence in follow:
            if len(sequence) == length:
                self._take(sequence, length - 1, first[row])

    def _run(self, ids: torch.Tensor, start: int, **options: Any) -> tuple[Any, torch.Tensor]:
        """The model's output for token ids ``[rows, length]``, and the logits of the places from ``start`` on: all that
        it computes if it can leave some.
        """
        only = {"logits_to_keep": ids.shape[1] - start} if self._keeps else {}
        with torch.inference_mode():
            output = self._module(input_ids=ids.to(self._module.device), **options, **only)
        return output, output.logits if self._keeps else output.logits[:, start:]

    def _take(self, sequence: _Ids, start: int, logits: torch.Tensor) -> None:
        """Answer for the pairs of a sequence; ``logits`` are those of its places from ``start`` on."""
        for number in self.wanted[sequence]:
            prompt, continuation = self._pairs[number]
            # What stands at the prompt's last place predicts the continuation's first token.
            ends = logits[len(prompt) - 1 - start : len(sequence) - start].float()
            target = torch.tensor(continuation, device=ends.device)
            logs = ends.log_softmax(-1).gather(-1, target[:, None])[:, 0].double()
            if not bool(torch.isfinite(logs).all()):
                raise not_finite(self._module)
            self.found[number] = LikelyContinuation(float(logs.sum()), bool((ends.argmax(-1) == target).all()))


def _of_rows(cache: Any, rows: list[int]) -> Any:
    """The keys and values of some rows, which may stand in it several times; those of the cache stay as they are."""
    chosen = copy.copy(cache)
    chosen.layers = [copy.copy(layer) for layer in cache.layers]
    chosen.batch_select_indices(torch.tensor(rows))
    return chosen


def _rows_can_be_chosen(module: Any) -> bool:
    """Whether all that a model's cache keeps are keys and values, a row a sequence, which any number of tokens may
    follow: states of other mixers are not.
    """
    with torch.inference_mode():
        output = module(input_ids=torch.zeros(1, 1, dtype=torch.long, device=module.device), use_cache=True)
    cache: Any = getattr(output, "past_key_values", None)
    plain = (DynamicLayer, DynamicSlidingWindowLayer)
    return type(cache) is DynamicCache and all(type(layer) in plain for layer in cache.layers)

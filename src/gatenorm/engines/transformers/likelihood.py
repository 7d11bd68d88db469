"""Log-likelihoods of continuations, and greedy continuations, of a model that is open in transformers."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import signature
from itertools import groupby
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig, LogitsProcessorList
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
    wanted: dict[_Ids, list[int]] = {}
    for number, (prompt, continuation) in enumerate(pairs):
        if not prompt or not continuation:
            raise EvaluationError("pair-empty", f"pair {number}: neither a prompt nor a continuation may be empty")
        wanted.setdefault((*prompt, *continuation[:-1]), []).append(number)
    found: list[LikelyContinuation | None] = [None] * len(pairs)
    module = model.module
    keeps = "logits_to_keep" in signature(module.forward).parameters

    def run(ids: Any, start: int, **options: Any) -> Any:
        """The model's output for token ids ``[rows, length]``: logits from place ``start`` on, if it can leave some."""
        only = {"logits_to_keep": ids.shape[1] - start} if keeps else {}
        with torch.inference_mode():
            output = module(input_ids=ids.to(module.device), **options, **only)
        return output, output.logits if keeps else output.logits[:, start:]

    def take(sequence: _Ids, start: int, logits: Any) -> None:
        """Answer for the pairs of a sequence; ``logits`` are those of its places from ``start`` on."""
        for number in wanted[sequence]:
            prompt, continuation = pairs[number]
            # What stands at the prompt's last place predicts the continuation's first token.
            ends = logits[len(prompt) - 1 - start : len(sequence) - start].float()
            target = torch.tensor(list(continuation), device=ends.device)
            logs = ends.log_softmax(-1).gather(-1, target[:, None])[:, 0].double()
            if not bool(torch.isfinite(logs).all()):
                raise not_finite(module)
            found[number] = LikelyContinuation(float(logs.sum()), bool((ends.argmax(-1) == target).all()))

    def alone(batch: list[_Ids]) -> None:
        start = min(len(pairs[number][0]) - 1 for sequence in batch for number in wanted[sequence])
        _, logits = run(padded(batch)[0], start, use_cache=False)
        for row, sequence in enumerate(batch):
            take(sequence, start, logits[row])

    def together(batch: list[_Ids]) -> None:
        """Prompts, as long as the shortest so that none is padded, then what follows each of them."""
        length = min(map(len, batch))
        output, first = run(torch.tensor([prompt[:length] for prompt in batch]), length - 1, use_cache=True)
        follow = [(row, sequence) for row, prompt in enumerate(batch) for sequence in shared[prompt]]

        def go_on(some: list[tuple[int, _Ids]]) -> None:
            cache = _of_rows(output.past_key_values, [row for row, _ in some])
            rest, _ = padded([sequence[length:] for _, sequence in some])
            _, logits = run(rest, 0, use_cache=True, past_key_values=cache)
            for (row, sequence), more in zip(some, logits, strict=True):
                take(sequence, length - 1, torch.cat([first[row], more]))

        longer = [(row, sequence) for row, sequence in follow if len(sequence) > length]
        for _ in in_batches(model, longer, go_on, lambda one: len(one[1]) - length):
            pass
        for row, sequence in follow:
            if len(sequence) == length:
                take(sequence, length - 1, first[row])

    shared = _by_prompt(wanted, pairs)
    if shared and not (model.cacheable and _rows_can_be_chosen(module)):
        shared = {}
    grouped = {sequence for sequences in shared.values() for sequence in sequences}
    done = 0

    def tell(count: int) -> None:
        nonlocal done
        done += count
        if progress:
            progress(done, len(wanted))

    for batch, _ in in_batches(model, [sequence for sequence in wanted if sequence not in grouped], alone, len):
        tell(len(batch))
    for _, alike in groupby(sorted(shared, key=len, reverse=True), lambda prompt: len(prompt) // _ALIKE):
        for batch, _ in in_batches(model, list(alike), together, len):
            tell(sum(len(shared[prompt]) for prompt in batch))
    return [f for f in found if f is not None]


def _by_prompt(
    wanted: Mapping[_Ids, Sequence[int]], pairs: Sequence[tuple[Sequence[int], Sequence[int]]]
) -> dict[_Ids, list[_Ids]]:
    """The sequences that begin with a prompt, for each prompt of several."""
    found: dict[_Ids, list[_Ids]] = {}
    for sequence, numbers in wanted.items():
        ends = {len(pairs[number][0]) for number in numbers}
        if len(ends) == 1:
            found.setdefault(sequence[: ends.pop()], []).append(sequence)
    return {prompt: sequences for prompt, sequences in found.items() if len(sequences) > 1}


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


def greedy(
    model: Model, prompts: Sequence[Sequence[int]], new_tokens: int, progress: Progress | None = None
) -> list[list[int]]:
    """As :meth:`gatenorm.engines.Engine.generate`.

    Prompts of one length go together and none is padded, so nothing depends on what else is asked.
    """
    module = model.module
    ends = _ends(model)
    plain = GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=new_tokens,
        eos_token_id=sorted(ends) or None,
        pad_token_id=min(ends) if ends else 0,
    )
    found: dict[int, list[int]] = {}

    def write(batch: list[int]) -> list[list[int]]:
        ids = torch.tensor([list(prompts[n]) for n in batch], device=module.device)
        with torch.inference_mode(), _generating_by(module, plain):
            written = module.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                generation_config=plain,
                logits_processor=LogitsProcessorList([_Finite(module)]),
            )
        rows: list[list[int]] = written[:, ids.shape[1] :].tolist()
        return rows

    def tokens(number: int) -> int:
        return len(prompts[number]) + new_tokens

    for _, alike in groupby(sorted(range(len(prompts)), key=tokens), tokens):
        for batch, rows in in_batches(model, list(alike), write, tokens):
            for n, row in zip(batch, rows, strict=True):
                stop = next((place for place, token in enumerate(row) if token in ends), len(row))
                found[n] = row[:stop]
            if progress:
                progress(len(found), len(prompts))
    return [found[n] for n in range(len(prompts))]


class _Finite:
    """Stops a generation at logits of which no token can be chosen: the largest of NaNs is the first one."""

    def __init__(self, model: Any):
        self._model = model

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if bool(scores.isnan().any()) or bool(scores.isposinf().any()):
            raise not_finite(self._model)
        return scores


@contextmanager
def _generating_by(model: Any, configuration: Any) -> Iterator[None]:
    """What a configuration leaves open, transformers takes from the model's own: for a while that is this one."""
    own = model.generation_config
    model.generation_config = configuration
    try:
        yield
    finally:
        model.generation_config = own


def _ends(model: Model) -> set[int]:
    """The tokens at which a model stops of its own accord.

    Raises:
        EvaluationError: its configuration names something else than tokens.
    """
    named = getattr(getattr(model.module, "generation_config", None), "eos_token_id", None)
    if named is None:
        named = getattr(model.module.config, "eos_token_id", None)
    ends = named if isinstance(named, list) else [] if named is None else [named]
    if not all(type(token) is int for token in ends):
        problem = f"{model.name}: eos_token_id is {named!r:.60} in its generation_config.json or config.json"
        expected = "a token's number, or a list of them"
        raise EvaluationError("eos-wrong", problem, expected=expected, hint="mend or remove it there")
    # Numbers beyond the vocabulary are never written; some configurations say -1 for none.
    return {token for token in (*ends, model.tokenizer.eos_token_id) if token in range(model.vocabulary)}

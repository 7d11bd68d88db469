"""Greedy continuations by a model that is open in transformers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList

from gatenorm.errors import EvaluationError
from gatenorm.models.batches import in_batches
from gatenorm.models.forward import not_finite
from gatenorm.models.model import Model
from gatenorm.progress import Progress


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

"""Subjects for tests: tiny models of any family, with a tokenizer whose tokens are numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from gatenorm.models.model import Model
from tests.tiny_models import build


class Numbers:
    """A tokenizer for tests: a token a word, its number; other words count as 1. No special tokens."""

    bos_token = None
    bos_token_id = None
    eos_token_id = None
    chat_template = None

    def __call__(self, texts: Sequence[str], **_: object) -> dict[str, list[list[int]]]:
        return {"input_ids": [[int(w) if w.isdecimal() else 1 for w in text.split()] for text in texts]}

    def decode(self, ids: Sequence[int], **_: object) -> str:
        return " ".join(map(str, ids))

    def num_special_tokens_to_add(self) -> int:
        return 0

    def get_vocab(self) -> dict[str, int]:
        return {}


def tiny(name: str, model: Any = None) -> Model:
    """A tiny model of that family, in float32."""
    return Model.of_module(build(name) if model is None else model, Numbers(), name)


def log_probabilities(model: Any, sequence: Sequence[int]) -> torch.Tensor:
    """``[tokens, vocabulary]`` in float64: one sequence at a time, nothing padded."""
    with torch.inference_mode():
        return model(input_ids=torch.tensor([list(sequence)]), use_cache=False).logits[0].double().log_softmax(-1)

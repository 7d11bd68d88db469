"""transformers, continuing prompts step by step from the key/value cache, as a server would."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gatenorm.engines import Continuation
from gatenorm.models import loading


class TransformersGreedy:
    """A directory loaded in float32 on the CPU; one token at a time, from the key/value cache."""

    def __init__(self, path: Path):
        self._model = loading.load(path, dtype=torch.float32)
        self._tokenizer: Any = None
        self._path = path

    @property
    def vocabulary(self) -> int:
        return int(self._model.config.get_text_config().vocab_size)

    @property
    def cached_layers(self) -> int:
        with torch.inference_mode():
            cache = self._model(torch.zeros(1, 1, dtype=torch.long), use_cache=True).past_key_values
        return sum(1 for layer in cache.layers if getattr(layer, "keys", None) is not None)

    @property
    def versions(self) -> dict[str, str]:
        return {name: version(name) for name in ("transformers", "torch")}

    def tokenize(self, text: str, special: bool = False) -> list[int] | None:
        self._tokenizer = self._tokenizer or loading.load_tokenizer(self._path)
        return list(self._tokenizer(text, add_special_tokens=special)["input_ids"])

    def continue_greedily(self, prompts: Sequence[Sequence[int]], tokens: int) -> list[Continuation]:
        return [self._continue(prompt, tokens) for prompt in prompts]

    def _continue(self, prompt: Sequence[int], tokens: int) -> Continuation:
        tokens_in, cache = torch.tensor([list(prompt)]), None
        chosen: list[int] = []
        logprobs = np.empty((tokens, self.vocabulary), np.float32)
        with torch.inference_mode():
            for step in range(tokens):
                output = self._model(tokens_in, past_key_values=cache, use_cache=True)
                cache = output.past_key_values
                row = output.logits[0, -1].float().log_softmax(-1)
                logprobs[step] = row.numpy()
                tokens_in = row.argmax().reshape(1, 1)
                chosen.append(int(tokens_in))
        return Continuation(tuple(chosen), logprobs)

    def close(self) -> None:
        self._model = None

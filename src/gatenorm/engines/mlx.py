"""MLX-LM: Apple's runtime, which also runs on the CPU under Linux. Reads nemotron-nas directories."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from gatenorm.engines import Continuation, Engine, GreedySession, refuses
from gatenorm.errors import first_line


class MlxGreedy:
    """A directory loaded by MLX-LM, computing in float32 on MLX's default device, from the key/value cache."""

    def __init__(self, path: Path):
        import mlx.core as mx
        from mlx_lm.utils import load_model

        try:
            self._model, config = load_model(path)
            # Whatever type the weights lie in: what is compared is the model, not its rounding.
            self._model.set_dtype(mx.float32)
            self._vocabulary = int(config["vocab_size"])
        except (ValueError, KeyError, TypeError, OSError, RuntimeError) as error:
            raise refuses("MLX-LM", path, first_line(error)) from error
        self._path = path
        self._tokenizer: Any = None

    @property
    def vocabulary(self) -> int:
        return self._vocabulary

    @property
    def cached_layers(self) -> int:
        import mlx.core as mx

        cache = self._cache()
        mx.eval(self._model(mx.array([[0]]), cache=cache))
        return sum(1 for layer in cache if getattr(layer, "keys", None) is not None)

    @property
    def versions(self) -> dict[str, str]:
        return {name: version(name) for name in ("mlx-lm", "mlx", "transformers")}

    def tokenize(self, text: str, special: bool = False) -> list[int] | None:
        from mlx_lm.utils import load_tokenizer
        from transformers import PreTrainedConfig

        if self._tokenizer is None:
            # Without a config given, transformers runs the code that the directory's own config names, or refuses.
            options = {"config": PreTrainedConfig(), "trust_remote_code": False}
            try:
                self._tokenizer = load_tokenizer(self._path, options)
            except (ValueError, KeyError, TypeError, OSError):
                return None
        return list(self._tokenizer.encode(text, add_special_tokens=special))

    def continue_greedily(self, prompts: Sequence[Sequence[int]], tokens: int) -> list[Continuation]:
        return [self._continue(prompt, tokens) for prompt in prompts]

    def close(self) -> None:
        self._model = None

    def _cache(self) -> list[Any]:
        from mlx_lm.models.cache import make_prompt_cache

        return list(make_prompt_cache(self._model))

    def _continue(self, prompt: Sequence[int], tokens: int) -> Continuation:
        import mlx.core as mx

        cache, tokens_in, chosen = self._cache(), list(prompt), list[int]()
        logprobs = np.empty((tokens, self._vocabulary), np.float32)
        for step in range(tokens):
            logits = self._model(mx.array([tokens_in]), cache=cache)[0, -1].astype(mx.float32)
            logprobs[step] = np.array(logits - mx.logsumexp(logits))
            tokens_in = [int(logprobs[step].argmax())]
            chosen += tokens_in
        return Continuation(tuple(chosen), logprobs)


class Mlx(Engine):
    """MLX-LM, which can neither be timed here nor answer lm-eval."""

    package, extra, reads = "mlx_lm", "mlx", ("nemotron-nas",)

    def open(self, path: Path) -> GreedySession:
        return MlxGreedy(path)


ENGINE = Mlx

"""Log-likelihoods of continuations in llama.cpp, and its tokenizer in the terms of transformers'.

Of a text the server tells only what comes after its end, so every token is a question of its own; the cache has all but
the last one. Weights stay as they are stored, and activations are rounded as llama.cpp does it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from gatenorm.checkpoint import GGUF
from gatenorm.checkpoint.formats.gguf.header import read_header
from gatenorm.engines import LikelyContinuation
from gatenorm.engines.llamacpp.greedy import LlamaCppGreedy
from gatenorm.errors import CheckpointError, EvaluationError
from gatenorm.families import Layout
from gatenorm.models.model import Model, is_file
from gatenorm.progress import Progress

_PROBE = "a"


class Tokenizer:
    """llama.cpp's tokenizer of a GGUF file, as far as a text is turned into tokens."""

    is_fast = False  # it does not say where in a text a token ends

    def __init__(self, model: Model):
        self._model = model

    @property
    def bos_token_id(self) -> int | None:
        return session(self._model).begin

    def __call__(self, texts: Sequence[str], *, verbose: bool = False, add_special_tokens: bool = True) -> Any:
        return {"input_ids": [session(self._model).tokenize(text, add_special_tokens) for text in texts]}

    def num_special_tokens_to_add(self) -> int:
        return len(self([_PROBE])["input_ids"][0]) - len(self([_PROBE], add_special_tokens=False)["input_ids"][0])


def opened(layout: Layout, engine: str, **hardware: Any) -> Model:
    """A GGUF file as a model that llama.cpp runs; nothing is opened before it is asked for.

    Raises:
        CheckpointError: it is no GGUF file.
        EvaluationError: a device or data type is asked for, which are llama.cpp's own and the file's.
    """
    if layout.checkpoint.form != GGUF:
        problem = f"{layout.checkpoint.path} is no GGUF file"
        hint = "export it first: gatenorm export writes such a file"
        raise CheckpointError("model-is-directory", problem, expected="a .gguf file", hint=hint)
    for field, usual in (("device", "cpu"), ("dtype", "auto")):
        given = hardware.get(field, usual)
        if given not in (usual, "auto"):
            problem = "is not what llama.cpp runs a file in: that is the CPU, and the types that the file stores"
            raise EvaluationError("engine-cannot", problem, field=field, given=given, expected=usual)

    def load() -> Any:
        raise is_file(layout)

    model = Model(
        identity=layout.identity(),
        edits=layout.edits,
        context=layout.context,
        load=load,
        load_tokenizer=lambda: Tokenizer(model),
        load_config=lambda: _Config(layout),
        layout=layout,
        engine=engine,
    )
    return model


def session(model: Model) -> LlamaCppGreedy:
    """The file, open in llama.cpp until the model is released."""

    def make() -> tuple[LlamaCppGreedy, Callable[[], None]]:
        opened = LlamaCppGreedy(model.known_layout.checkpoint.path)
        return opened, opened.close

    found: LlamaCppGreedy = model.opened_in_engine(make)
    return found


def continuations(
    model: Model, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], progress: Progress | None = None
) -> list[LikelyContinuation]:
    """As :meth:`gatenorm.engines.Engine.likelihoods`; ``progress`` is called with (tokens predicted, in all)."""
    found, done, total = [], 0, sum(len(continuation) for _, continuation in pairs)
    for prompt, continuation in pairs:
        loglikelihood, greedy = 0.0, True
        for place, token in enumerate(continuation):
            logprob, likeliest = session(model).next_token([*prompt, *continuation[:place]], token)
            loglikelihood, greedy = loglikelihood + logprob, greedy and likeliest
            done += 1
            if progress:
                progress(done, total)
        found.append(LikelyContinuation(loglikelihood, greedy))
    return found


class _Config(SimpleNamespace):
    """What evaluations ask of a configuration of transformers."""

    def __init__(self, layout: Layout):
        sizes: Counter[str] = Counter()
        for tensor in read_header(Path(layout.checkpoint.path)).tensors.values():
            sizes[tensor.dtype.lower()] += tensor.nbytes
        super().__init__(
            vocab_size=layout.config["vocab_size"],
            max_position_embeddings=layout.context,
            dtype=sizes.most_common(1)[0][0],
        )

    def get_text_config(self) -> _Config:
        return self

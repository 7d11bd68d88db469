"""llama.cpp, in a process of its own, through the server that the package xllamacpp wraps.

Everything that blurs a comparison is off: flash attention (up to 0.05 of logit error), half-precision caches, GPUs.
The server tells log-probabilities of the unmodified logits; the state that it saves tells the cache.
"""

import math
import os
import struct
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from gatenorm.checkpoint.formats.gguf.metadata import read_model
from gatenorm.engines import Continuation, threads_at_hand
from gatenorm.engines.llamacpp.process import LONGEST_WAIT, LlamaCppProcess
from gatenorm.errors import EvaluationError, MissingExtraError

# Each log-probability comes as 100 bytes of JSON. The first new token of a prompt comes in full, up to this size of a
# vocabulary; of the others come the likeliest, whose sum of probabilities the rest hardly changes.
_MOST_ENTRIES = 40_000
_LIKELIEST = 1_000
# The server takes the logarithm of a float32 probability; below the smallest normal one it knows no better.
_SMALLEST = math.log(np.finfo(np.float32).tiny)
_FORCE = 1e6
_CONTEXT = 256
# Seconds to wait for an answer; at first short, since a server that misses the first question answers the second.
_PATIENCE = (2.0, 5.0, 30.0, 120.0)


class LlamaCppGreedy:
    """A GGUF file opened in llama.cpp on the CPU, with a float32 cache."""

    def __init__(self, path: Path):
        try:
            import gguf  # noqa: F401 - knows how large a block of each type is
        except ImportError as error:
            raise MissingExtraError("the engine llamacpp", error.name or "xllamacpp", "llamacpp") from None
        if find_spec("xllamacpp") is None:
            raise MissingExtraError("the engine llamacpp", "xllamacpp", "llamacpp")
        fields = read_model(path)
        self._path = path
        tokens = fields["tokenizer.ggml.tokens"]
        self._vocabulary = len(tokens)
        self._harmless = next((i for i, text in enumerate(tokens) if text.isascii() and text.isalnum()), 0)
        self._longest = fields.get(f"{fields['general.architecture']}.context_length")
        self.begin: int | None = fields.get("tokenizer.ggml.bos_token_id")
        self._states = tempfile.TemporaryDirectory(prefix="gatenorm-llamacpp-")
        self._context = 0
        self._server: LlamaCppProcess | None = None
        self._opened(_CONTEXT)

    @property
    def vocabulary(self) -> int:
        return self._vocabulary

    @property
    def cached_layers(self) -> int | None:
        self._opened(_CONTEXT)
        self._ask([0, 0], 1)
        self._post("/slots/0?action=save", {"filename": "state"})
        return cached_layers((Path(self._states.name) / "state").read_bytes())

    @property
    def versions(self) -> dict[str, str]:
        return {"xllamacpp": version("xllamacpp")}

    def tokenize(self, text: str, special: bool = False) -> list[int] | None:
        self._opened(_CONTEXT)
        answer = self._post("/tokenize", {"content": text, "add_special": special, "parse_special": True})
        return [int(token) for token in answer["tokens"]]

    def continue_greedily(self, prompts: Sequence[Sequence[int]], tokens: int) -> list[Continuation]:
        return [self._continue(list(prompt), tokens) for prompt in prompts]

    def next_token(self, prompt: Sequence[int], token: int) -> tuple[float, bool]:
        """The log-probability of ``token`` after ``prompt``, and whether it is the likeliest one.

        Below -87.3, the logarithm of the smallest float32 number, it comes out as that.
        """
        self._check_fits(prompt, 1)
        self._opened(len(prompt) + 3)
        # A bias makes the server take this token, and it tells of the one that it takes, as it was without the bias.
        told = self._answer(list(prompt), 1, token)
        if not told:  # it is silent about parts of a character
            entries = self._ask(list(prompt), self._vocabulary)
            told = {"logprob": next(e["logprob"] for e in entries if e["id"] == token), "top_logprobs": entries}
        return max(float(told["logprob"]), _SMALLEST), told["top_logprobs"][0]["id"] == token

    def close(self) -> None:
        self._end()
        self._states.cleanup()

    def _check_fits(self, prompt: Sequence[int], tokens: int) -> None:
        if isinstance(self._longest, int) and len(prompt) + tokens > self._longest:
            problem = f"{len(prompt)} + {tokens} tokens do not fit into the context of {self._path}, {self._longest}"
            raise EvaluationError("context-too-short", problem, field="tokens")

    def _continue(self, prompt: list[int], tokens: int) -> Continuation:
        self._check_fits(prompt, tokens)
        self._opened(len(prompt) + tokens + 2)
        chosen: list[int] = []
        logprobs = np.full((tokens, self._vocabulary), np.nan, np.float32)
        for step in range(tokens):
            entries = self._ask(prompt + chosen, _LIKELIEST if step else _MOST_ENTRIES)
            ids = np.fromiter((entry["id"] for entry in entries), np.int64, len(entries))
            values = np.fromiter((entry["logprob"] for entry in entries), np.float64, len(entries))
            logprobs[step, ids] = np.where(values > _SMALLEST, values, np.nan)
            chosen.append(int(ids[values.argmax()]))
        return Continuation(tuple(chosen), logprobs)

    def _ask(self, tokens: list[int], most: int, seconds: float = LONGEST_WAIT) -> list[dict[str, Any]]:
        """The likeliest tokens after ``tokens`` with their log-probabilities.

        The server generates no more than one token, which is biased to a harmless one: it would stop at the end of a
        text, and is silent about tokens that are a part of a character. What it tells of are the logits before that.
        """
        likeliest = self._answer(tokens, most, self._harmless, seconds).get("top_logprobs")
        if not likeliest:
            raise EvaluationError(
                "engine-fails", f"llama.cpp does not continue a prompt of {len(tokens)} tokens", field="engine"
            )
        return list(likeliest)

    def _answer(self, tokens: list[int], most: int, forced: int, seconds: float = LONGEST_WAIT) -> dict[str, Any]:
        """What the server says of the one token that it is forced to take, or nothing."""
        request = {
            "prompt": tokens,
            "n_predict": 1,
            "n_probs": min(most, self._vocabulary),
            "temperature": 0,
            "logit_bias": [[forced, _FORCE]],
            "cache_prompt": True,
        }
        told = self._post("/completion", request, seconds).get("completion_probabilities")
        return dict(told[0]) if told else {}

    def _opened(self, context: int) -> LlamaCppProcess:
        if self._server is None or self._context < context:
            self._end()
            self._context = -(-context // _CONTEXT) * _CONTEXT
            self._server = LlamaCppProcess(self._path, self._context, _threads(), Path(self._states.name))
            self._wake()
        return self._server

    def _end(self) -> None:
        if self._server is not None:
            self._server.close()
        self._server, self._context = None, 0

    def _wake(self) -> None:
        """Ask for one token until there is an answer.

        A server that is asked before its loop has begun may sleep on until it is asked again (seen in xllamacpp
        2026.10).
        """
        for seconds in _PATIENCE:
            with suppress(TimeoutError):
                self._ask([self._harmless], 1, seconds)
                return
        raise EvaluationError("engine-fails", f"llama.cpp has loaded {self._path} and does not answer")

    def _post(self, path: str, body: dict[str, Any], seconds: float = LONGEST_WAIT) -> dict[str, Any]:
        assert self._server is not None
        return self._server.post(path, body, seconds)


def _threads() -> int:
    """As many as OMP_NUM_THREADS allows: llama.cpp's threads wait for each other busily: bad on shared cores."""
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    return int(allowed) if allowed.isdigit() and int(allowed) else threads_at_hand()


_MAGIC = 0x67677371
# Bytes between the number of layers and the first of them, by version; 4 (seen in xllamacpp 2026.10) has two numbers.
_GAP = {3: 0, 4: 8}
_MOST_LAYERS = 1 << 16


def cached_layers(state: bytes) -> int | None:
    """In how many layers a saved state of a sequence keeps keys; ``None`` where the bytes are of another format."""
    try:
        sizes = _key_sizes(state)
    except struct.error:
        return None
    return None if sizes is None else sum(size > 0 for size in sizes)


def _key_sizes(state: bytes) -> list[int] | None:
    """For each layer, how many bytes a key takes.

    The format is ``llama_context::state_seq_save_file`` (src/llama-context.cpp) and ``llama_kv_cache::state_write``
    (src/llama-kv-cache.cpp): magic, version, tokens, streams, cells, then each layer's key type, row size and rows.
    """
    magic, version, tokens = struct.unpack_from("<3I", state)
    if magic != _MAGIC or version not in _GAP:
        return None
    at = 12 + 4 * tokens
    streams, cells = struct.unpack_from("<2I", state, at)
    at += 8
    if streams != 1 or not cells:
        return None
    for _ in range(cells):
        _, sequences = struct.unpack_from("<iI", state, at)
        at += 8 + 4 * sequences
    transposed, layers = struct.unpack_from("<2I", state, at)
    at += 8 + _GAP[version]
    if transposed > 1 or layers > _MOST_LAYERS:
        return None
    sizes = []
    for _ in range(layers):
        _, row = struct.unpack_from("<iQ", state, at)
        sizes.append(row)
        at += 12 + row * cells
        if at > len(state):
            return None
    return sizes

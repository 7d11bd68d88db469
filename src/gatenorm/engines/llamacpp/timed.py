"""llama.cpp, timed through the server that xllamacpp holds in this process: no sockets, its own timings.

The cache is reserved when the model is loaded, for the largest case; a case is charged with the cells it fills. Prompts
are read in the server's own chunks, attention runs as the engine chooses (flash attention where it can), and nothing is
taken from earlier prompts.
"""

import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from gatenorm.checkpoint.formats.gguf.metadata import head_dim, kv_heads, read_model
from gatenorm.engines import Case, Sample, Setting, SkippedError, refuses
from gatenorm.models import memory

# What llama.cpp says of its cache while it loads, at the level of verbosity that is called info.
_INFO = 4
_CACHE = re.compile(r"llama_kv_cache: size = +([\d.]+) MiB \( *(\d+) cells, +\d+ layers, +(\d+)/")
_PATIENCE_SECONDS = 10.0
_ATTEMPTS = 10
_ELEMENT_BYTES = 2  # float16, the engine's default


class LlamaCppTimed:
    """A GGUF file in llama.cpp; prompts are random tokens."""

    dtype: str | None = None

    def __init__(self, path: Path, setting: Setting):
        import xllamacpp

        self.setting = setting
        self._words, self._token_bytes = _read(path)
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(path)
        parameters.n_ctx = setting.longest * setting.largest_batch
        parameters.n_parallel = setting.largest_batch
        parameters.kv_unified = False
        parameters.fit_params = False
        parameters.cache_ram_mib = 0
        parameters.verbosity = _INFO
        if setting.device == "cpu":
            parameters.n_gpu_layers = 0
        if setting.threads:
            parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = setting.threads
        with _stderr_in_file() as log:
            try:
                self._server: Any = xllamacpp.Server(parameters)
            except (RuntimeError, ValueError) as error:
                raise refuses("llama.cpp", path, error) from None
            cache_line = _await(log)
        self._cell_bytes = self._bytes_of_a_cell(cache_line)

    @property
    def versions(self) -> Mapping[str, str]:
        return {name: version(name) for name in ("gatenorm", "xllamacpp")}

    def run(self, case: Case) -> Sample:
        """Time one case once; see :meth:`TimedSession.run`.

        Of a single sequence the server tells prompt and continuation apart. Of several at once it tells only the
        whole: then one request ends at the first token, and a second one is longer by the ``new`` tokens.
        """
        memory.reset_peak()
        prefill, first, decode = self._alone(case) if case.batch == 1 else self._together(case)
        cache_bytes = None if self._cell_bytes is None else self._cell_bytes * case.tokens * case.batch
        return Sample(
            prefill=prefill, first_token=first, decode=decode, cache_bytes=cache_bytes, peak_bytes=memory.peak_bytes()
        )

    def profile(self, case: Case) -> None:
        return None

    def close(self) -> None:
        self._server = None

    def _alone(self, case: Case) -> tuple[float, float, float]:
        wall, timings = self._ask(case, case.new + 1)
        decode = timings["predicted_ms"] / 1000
        return timings["prompt_ms"] / 1000, wall - decode, decode

    def _together(self, case: Case) -> tuple[float, float, float]:
        for _ in range(_ATTEMPTS):
            first = self._ask(case, 1)[0]
            decode = self._ask(case, case.new + 1)[0] - first
            if decode > 0:
                return first, first, decode
        raise SkippedError("the machine is too restless: reading the prompts alone took longer than all of it")

    def _ask(self, case: Case, tokens: int) -> tuple[float, Mapping[str, float]]:
        draw = np.random.default_rng(self.setting.seed)
        prompts = draw.integers(0, self._words, (case.batch, case.tokens)).tolist()
        asked = {
            "prompt": prompts if case.batch > 1 else prompts[0],
            "max_tokens": tokens,
            "temperature": 0,
            "ignore_eos": True,
            "cache_prompt": False,
        }
        began = time.perf_counter()
        answer = self._server.handle_completions(asked)
        wall = time.perf_counter() - began
        if "timings" not in answer:
            raise SkippedError(f"llama.cpp refuses it: {answer!s:.200}")
        timings: Mapping[str, float] = answer["timings"]
        if timings["predicted_n"] != tokens:
            raise SkippedError(f"llama.cpp made {timings['predicted_n']:.0f} tokens instead of {tokens}")
        return wall, timings

    def _bytes_of_a_cell(self, cache_line: re.Match[str] | None) -> int | None:
        """Bytes of one token's keys and values in all layers.

        The engine says how many it reserved, to a hundredth of a MiB. Where the file's head counts give that very
        figure, theirs is the exact one.
        """
        if cache_line is None:
            return None
        reserved, cells = float(cache_line[1]), int(cache_line[2]) * int(cache_line[3])
        exact = self._token_bytes * _ELEMENT_BYTES
        if abs(exact * cells / 2**20 - reserved) <= 0.0051:
            return exact
        return round(reserved * 2**20 / cells)


def _read(path: Path) -> tuple[int, int]:
    fields = read_model(path)
    return len(fields["tokenizer.ggml.tokens"]), 2 * head_dim(fields) * sum(kv_heads(fields))


@contextmanager
def _stderr_in_file() -> Iterator[Path]:
    """A file that holds what any code writes to stderr while the context lasts; it is passed on afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        kept = os.dup(2)
        with log.open("wb") as file:
            os.dup2(file.fileno(), 2)
            try:
                yield log
            finally:
                os.dup2(kept, 2)
                os.close(kept)
        os.write(2, log.read_bytes())


def _await(log: Path) -> re.Match[str] | None:
    """The line about the cache; llama.cpp writes its log from another thread."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < until:
        line = _CACHE.search(log.read_text(errors="replace"))
        if line:
            return line
        time.sleep(0.02)
    return None

"""vLLM, timed through its offline interface: one request that ends at the first token, one that goes on.

Prefix caching is off, or the second request would find the prompts read already. vLLM reserves its cache when it
starts, as much as it is given; what one token of it takes is the size of its tensors over the tokens they hold.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from gatenorm.benchmark import memory
from gatenorm.benchmark.engines import Setting
from gatenorm.benchmark.speed import Case, Sample, SkippedError
from gatenorm.errors import EvaluationError


class Vllm:
    """A directory in vLLM, without compiled graphs; prompts are random tokens."""

    def __init__(self, path: Path, setting: Setting):
        import vllm

        self.setting = setting
        self.dtype: str | None = None if setting.dtype == "auto" else setting.dtype
        try:
            self._engine: Any = vllm.LLM(
                str(path),
                dtype=setting.dtype,
                enforce_eager=True,
                enable_prefix_caching=False,
                skip_tokenizer_init=True,
                max_model_len=setting.longest,
                max_num_seqs=setting.largest_batch,
                max_num_batched_tokens=max(setting.longest * setting.largest_batch, 2048),
                trust_remote_code=True,
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise EvaluationError(f"vLLM cannot load {path}: {str(error).strip().splitlines()[0]}") from None
        self._parameters = vllm.SamplingParams
        self._words = int(self._engine.get_model_config().get_vocab_size())

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of gatenorm, vLLM and torch."""
        return {name: version(name) for name in ("gatenorm", "vllm", "torch")}

    def run(self, case: Case) -> Sample:
        """Time one case once; see :meth:`Session.run`. Prefill and first token are one figure here."""
        memory.reset_peak()
        first = self._ask(case, 1)
        decode = self._ask(case, case.new + 1) - first
        if decode <= 0:
            raise SkippedError("the machine is too restless: reading the prompts alone took longer than all of it")
        return Sample(first, first, decode, self._cache_bytes(case), memory.peak_bytes())

    def profile(self, case: Case) -> None:
        """Nothing: vLLM does not say what its parts take."""
        return None

    def close(self) -> None:
        """Let the model go."""
        self._engine = None

    def _ask(self, case: Case, tokens: int) -> float:
        draw = np.random.default_rng(self.setting.seed)
        rows = draw.integers(0, self._words, (case.batch, case.tokens)).tolist()
        wanted = self._parameters(temperature=0, max_tokens=tokens, ignore_eos=True, detokenize=False)
        began = time.perf_counter()
        self._engine.generate([{"prompt_token_ids": row} for row in rows], wanted, use_tqdm=False)
        return time.perf_counter() - began

    def _cache_bytes(self, case: Case) -> int | None:
        """Bytes that the prompts of a case take, where the workers tell the size of their cache tensors."""
        try:
            config = self._engine.llm_engine.vllm_config.cache_config
            sizes = self._engine.collective_rpc(_reserved)
        except (AttributeError, NotImplementedError, RuntimeError):
            return None  # the interface to the workers differs between releases
        cells = (config.num_gpu_blocks or config.num_cpu_blocks or 0) * config.block_size
        return round(sum(sizes) / cells * case.tokens * case.batch) if cells else None


def _reserved(worker: Any) -> int:
    """Bytes of the cache tensors that one worker holds."""
    return sum(int(t.nbytes) for t in worker.model_runner.kv_caches)

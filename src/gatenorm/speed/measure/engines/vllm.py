"""vLLM, timed through its offline interface, by the times that it keeps of every request.

Prefix caching is off, or later requests would find the prompts read already. vLLM reserves its cache when it
starts, as much as it is given; what one token takes in it, its own plan of the cache tells, layer by layer.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from gatenorm.errors import EvaluationError
from gatenorm.speed.measure import memory
from gatenorm.speed.measure.engines import Setting
from gatenorm.speed.measure.record import Case, Sample, SkippedError

# No process of its own, so that its memory is this one's; few lines; nothing sent home; what it reserves on a CPU, GiB.
_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
}


class Vllm:
    """A directory in vLLM, without compiled graphs; prompts are random tokens.

    No code out of the directory is run: pruned ones are known to vLLM through gatenorm's plugin.
    """

    def __init__(self, path: Path, setting: Setting):
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        import vllm

        self.setting = setting
        self.dtype: str | None = None if setting.dtype == "auto" else setting.dtype
        try:
            self._engine: Any = vllm.LLM(
                str(path),
                dtype=setting.dtype,
                enforce_eager=True,
                enable_prefix_caching=False,
                disable_log_stats=False,  # which is what keeps the times
                skip_tokenizer_init=True,
                max_model_len=setting.longest,
                max_num_seqs=setting.largest_batch,
                trust_remote_code=False,
                use_tqdm_on_load=False,
            )
        except (RuntimeError, ValueError, TypeError, KeyError, OSError) as error:
            raise EvaluationError(f"vLLM cannot load {path}: {str(error).strip().splitlines()[0]}") from None
        self._parameters, self._version = vllm.SamplingParams, str(vllm.__version__)
        self._words = int(self._engine.model_config.get_vocab_size())

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of gatenorm, vLLM and torch."""
        return {name: version(name) for name in ("gatenorm", "torch")} | {"vllm": self._version}

    def run(self, case: Case) -> Sample:
        """Time one case once; see :meth:`Session.run`. Prefill and first token are one figure here.

        Prefill goes from the queue to the first token of the last prompt, decoding from there to the last token.
        """
        memory.reset_peak()
        draw = np.random.default_rng(self.setting.seed)
        rows = draw.integers(0, self._words, (case.batch, case.tokens)).tolist()
        wanted = self._parameters(temperature=0, max_tokens=case.new + 1, ignore_eos=True, detokenize=False)
        answers = self._engine.generate([{"prompt_token_ids": row} for row in rows], wanted, use_tqdm=False)
        times = [answer.metrics for answer in answers]
        if any(one is None for one in times):
            raise SkippedError("this release of vLLM keeps no times of its requests")
        read = max(one.first_token_ts for one in times)
        first = read - min(one.queued_ts for one in times)
        decode = max(one.last_token_ts for one in times) - read
        return Sample(first, first, decode, self._cache_bytes(case), memory.peak_bytes())

    def profile(self, case: Case) -> None:
        """Nothing: vLLM does not say what its parts take."""
        return None

    def close(self) -> None:
        """Let the model go."""
        self._engine = None

    def _cache_bytes(self, case: Case) -> int | None:
        """Bytes that the prompts of a case take; ``None`` where this release of vLLM has no such plan."""
        try:
            plans = self._engine.collective_rpc("get_kv_cache_spec")
            a_token: float = sum(spec.page_size_bytes / spec.block_size for plan in plans for spec in plan.values())
        except (AttributeError, NotImplementedError):
            return None
        return int(a_token * case.tokens * case.batch)

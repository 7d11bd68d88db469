"""vLLM, in this process: pruned directories and dense ones as they are, and nemotron-nas directories."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gatenorm.checkpoint import open_store
from gatenorm.engines.engine import Continuation
from gatenorm.errors import EvaluationError

# No process of vLLM's own, which could outlive this one; few lines on stdout, where results belong; nothing sent home.
_ENVIRONMENT = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"}
# GiB for the cache where vLLM computes on a CPU; it would take much more.
_CACHE = {"VLLM_CPU_KVCACHE_SPACE": "1"}
# What opening a model that vLLM does not want may raise.
REFUSALS = (ValueError, RuntimeError, TypeError, KeyError, AttributeError, AssertionError, OSError)
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")


class Vllm:
    """A directory opened by vLLM in float32, without CUDA graphs or compilation; no code out of it is run.

    Pruned directories take the way that gatenorm's plugin opens, a ``nemotron-nas`` one vLLM's own class.
    """

    def __init__(self, path: Path):
        prepare()
        from vllm import LLM

        if open_store(path).config.get("model_type") == "nemotron-nas":
            _know_nemotron_nas()
        self._has_tokenizer = any((path / name).is_file() for name in _TOKENIZERS)
        self._llm: Any = None
        try:
            self._llm = LLM(
                str(path),
                dtype="float32",
                enforce_eager=True,
                max_logprobs=-1,
                max_model_len=-1,  # as long as the cache has room for, up to what the model was made for
                skip_tokenizer_init=not self._has_tokenizer,
                trust_remote_code=False,
                use_tqdm_on_load=False,
            )
        except REFUSALS as error:
            self.close()
            raise EvaluationError(f"vLLM cannot load {path}: {reason(error)}") from error

    @property
    def vocabulary(self) -> int:
        return int(self._llm.model_config.get_vocab_size())

    @property
    def cached_layers(self) -> int:
        """Layers for which vLLM has laid out a cache."""
        return len(self._llm.collective_rpc("get_kv_cache_spec")[0])

    @property
    def versions(self) -> dict[str, str]:
        import vllm

        return {"vllm": vllm.__version__} | {name: version(name) for name in ("torch", "transformers")}

    def tokenize(self, text: str, special: bool = False) -> list[int] | None:
        if not self._has_tokenizer:
            return None
        return list(self._llm.get_tokenizer().encode(text, add_special_tokens=special))

    def continue_greedily(self, prompts: Sequence[Sequence[int]], tokens: int) -> list[Continuation]:
        from vllm import SamplingParams

        sampling = SamplingParams(
            temperature=0, max_tokens=tokens, ignore_eos=True, logprobs=-1, flat_logprobs=True, detokenize=False
        )
        given = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        answers = [answer.outputs[0] for answer in self._llm.generate(given, sampling, use_tqdm=False)]
        return [Continuation(tuple(a.token_ids), self._table(a.logprobs)) for a in answers]

    def close(self) -> None:
        shut_down(self._llm)
        self._llm = None

    def _table(self, told: Any) -> npt.NDArray[np.float32]:
        """``[tokens, vocabulary]`` from vLLM's flat lists, in which the chosen token comes a second time."""
        table = np.full((len(told), self.vocabulary), np.nan, np.float32)
        counts = np.subtract(told.end_indices, told.start_indices)
        table[np.repeat(np.arange(len(told)), counts), told.token_ids] = told.logprobs
        return table


def _know_nemotron_nas() -> None:
    """Give transformers our copy of the configuration class that such a directory brings: its own is not run."""
    from transformers import AutoConfig

    from gatenorm.engines.vllm_plugin.configuration_decilm import DeciLMConfig

    AutoConfig.register(DeciLMConfig.model_type, DeciLMConfig, exist_ok=True)


def prepare() -> None:
    """Say to vLLM, before it is imported, how it is to behave here, and which classes run pruned models."""
    os.environ.update(_ENVIRONMENT)
    for name, value in _CACHE.items():
        os.environ.setdefault(name, value)
    from gatenorm.engines.vllm_plugin import plugin as vllm_plugin

    warnings.filterwarnings("ignore", category=FutureWarning, module=r"vllm\.")  # about what it uses of torch
    vllm_plugin.register()  # vLLM does it itself, unless VLLM_PLUGINS keeps it from that


def shut_down(llm: Any) -> None:
    """Let an ``LLM`` of vLLM go with all that it holds; ``None`` where it could not even be opened."""
    if llm is not None:
        llm.llm_engine.engine_core.shutdown()
    from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

    cleanup_dist_env_and_memory()


def reason(error: Exception) -> str:
    """The line of an error that says what is wrong; vLLM's settings complain in three, of which it is the second."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return next((line.strip() for line in lines if "error, " in line), lines[0])

"""vLLM in this process: opened as exactly as it computes, or as it serves, to be timed."""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gatenorm.checkpoint import open_store
from gatenorm.engines import Case, Continuation, Sample, Setting, SkippedError, refuses
from gatenorm.errors import first_line
from gatenorm.models import memory

# No process of vLLM's own, which could outlive this one; few lines on stdout, where results belong; nothing sent home.
# They stay set: vLLM reads its variables again whenever it needs one, while a model is open and when it is let go.
_ENVIRONMENT = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"}
# GiB for the cache where vLLM computes on a CPU; it would take much more.
_CACHE = {"VLLM_CPU_KVCACHE_SPACE": "1"}
# What opening a model that vLLM does not want may raise.
_REFUSALS = (ValueError, RuntimeError, TypeError, KeyError, AttributeError, AssertionError, OSError, ImportError)
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")


@contextmanager
def opening(path: Path) -> Iterator[None]:
    """VLLM is prepared, and what it says of a model that it refuses is one line.

    Raises:
        EvaluationError: vLLM refuses the model.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"vllm\.")  # about what it uses of torch
        prepare()
        try:
            yield
        except _REFUSALS as error:
            shut_down(None)
            raise refuses("vLLM", path, _reason(error)) from error


class _Session:
    """An ``LLM`` of vLLM without compiled graphs; no code out of the directory is run.

    Pruned directories take the way that gatenorm's plugin opens, a ``nemotron-nas`` one vLLM's own class.
    """

    def __init__(self, path: Path, **options: Any):
        self._llm: Any = None
        with opening(path):
            from vllm import LLM

            if open_store(path).config.get("model_type") == "nemotron-nas":
                _register_nemotron_nas()
            self._llm = LLM(str(path), enforce_eager=True, trust_remote_code=False, use_tqdm_on_load=False, **options)

    @property
    def vocabulary(self) -> int:
        return int(self._llm.model_config.get_vocab_size())

    @property
    def versions(self) -> dict[str, str]:
        import vllm

        return {"vllm": vllm.__version__} | {name: version(name) for name in ("gatenorm", "torch", "transformers")}

    def close(self) -> None:
        shut_down(self._llm)
        self._llm = None


class VllmGreedy(_Session):
    """A directory in float32, with the log-probabilities of the whole vocabulary."""

    def __init__(self, path: Path):
        self._has_tokenizer = any((path / name).is_file() for name in _TOKENIZERS)
        super().__init__(
            path,
            dtype="float32",
            max_logprobs=-1,
            max_model_len=-1,  # as long as the cache has room for, up to what the model was made for
            skip_tokenizer_init=not self._has_tokenizer,
        )

    @property
    def cached_layers(self) -> int:
        """Layers for which vLLM has laid out a cache."""
        return len(self._llm.collective_rpc("get_kv_cache_spec")[0])

    def tokenize(self, text: str, special: bool = False) -> list[int] | None:
        if not self._has_tokenizer:
            return None
        return list(self._llm.get_tokenizer().encode(text, add_special_tokens=special))

    def continue_greedily(self, prompts: Sequence[Sequence[int]], tokens: int) -> list[Continuation]:
        from vllm import SamplingParams

        sampling = SamplingParams(
            temperature=0, max_tokens=tokens, ignore_eos=True, logprobs=-1, flat_logprobs=True, detokenize=False
        )
        requests = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        answers = [answer.outputs[0] for answer in self._llm.generate(requests, sampling, use_tqdm=False)]
        return [Continuation(tuple(a.token_ids), self._table(a.logprobs)) for a in answers]

    def _table(self, flat: Any) -> npt.NDArray[np.float32]:
        """``[tokens, vocabulary]`` from vLLM's flat lists, in which the chosen token comes a second time."""
        table = np.full((len(flat), self.vocabulary), np.nan, np.float32)
        counts = np.subtract(flat.end_indices, flat.start_indices)
        table[np.repeat(np.arange(len(flat)), counts), flat.token_ids] = flat.logprobs
        return table


class VllmTimed(_Session):
    """A directory timed by the times that vLLM keeps of every request; prompts are random tokens.

    Prefix caching is off, or later requests would find the prompts read already. vLLM reserves its cache when it
    starts, as much as it is given; what one token takes in it, its own plan of the cache says, layer by layer.
    """

    def __init__(self, path: Path, setting: Setting):
        self.setting = setting
        self.dtype: str | None = None if setting.dtype == "auto" else setting.dtype
        super().__init__(
            path,
            dtype=setting.dtype,
            enable_prefix_caching=False,
            disable_log_stats=False,  # which is what keeps the times
            skip_tokenizer_init=True,
            max_model_len=setting.longest,
            max_num_seqs=setting.largest_batch,
        )

    def run(self, case: Case) -> Sample:
        """Time one case once; see :meth:`TimedSession.run`. Prefill and first token are one figure here.

        Prefill goes from the queue to the first token of the last prompt, decoding from there to the last token.
        """
        from vllm import SamplingParams

        memory.reset_peak()
        draw = np.random.default_rng(self.setting.seed)
        rows = draw.integers(0, self.vocabulary, (case.batch, case.tokens)).tolist()
        wanted = SamplingParams(temperature=0, max_tokens=case.new + 1, ignore_eos=True, detokenize=False)
        answers = self._llm.generate([{"prompt_token_ids": row} for row in rows], wanted, use_tqdm=False)
        times = [answer.metrics for answer in answers]
        if any(one is None for one in times):
            raise SkippedError("this release of vLLM keeps no times of its requests")
        read = max(one.first_token_ts for one in times)
        first = read - min(one.queued_ts for one in times)
        decode = max(one.last_token_ts for one in times) - read
        return Sample(
            prefill=first,
            first_token=first,
            decode=decode,
            cache_bytes=self._cache_bytes(case),
            peak_bytes=memory.peak_bytes(),
        )

    def profile(self, case: Case) -> None:
        """Nothing: vLLM does not say what its parts take."""
        return None

    def _cache_bytes(self, case: Case) -> int | None:
        try:
            plans = self._llm.collective_rpc("get_kv_cache_spec")
            a_token: float = sum(spec.page_size_bytes / spec.block_size for plan in plans for spec in plan.values())
        except (AttributeError, NotImplementedError):
            return None
        return int(a_token * case.tokens * case.batch)


def _register_nemotron_nas() -> None:
    """Give transformers our copy of the configuration class that such a directory brings: its own is not run."""
    from transformers import AutoConfig

    from gatenorm.engines.vllm.plugin.configuration_decilm import DeciLMConfig

    AutoConfig.register(DeciLMConfig.model_type, DeciLMConfig, exist_ok=True)


def prepare() -> None:
    """Say to vLLM, before it is imported, how it is to behave here, and which classes run pruned models."""
    os.environ.update(_ENVIRONMENT)
    for name, value in _CACHE.items():
        os.environ.setdefault(name, value)
    from gatenorm.engines.vllm import plugin

    plugin.register()  # vLLM does it itself, unless VLLM_PLUGINS keeps it from that


def shut_down(llm: Any) -> None:
    """Let an ``LLM`` of vLLM go with all that it holds; ``None`` where it could not even be opened."""
    if llm is not None:
        llm.llm_engine.engine_core.shutdown()
    from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

    cleanup_dist_env_and_memory()


def _reason(error: Exception) -> str:
    """The line of an error that says what is wrong; vLLM's settings complain in three, of which it is the second."""
    return next((line.strip() for line in str(error).splitlines() if "error, " in line), first_line(error))

"""vLLM as someone has it who never heard of gatenorm: ``python -m tests.engines.served_as_is JOBS.json ANSWERS.npz``.

Jobs and answers are those of ``asked``. The code in a directory is trusted; ``nemotron-nas`` directories run in vLLM's
own class, all others in its Transformers backend. Needs vLLM and numpy.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

# Set before vLLM is imported: no plugin, no process of its own, and a small cache.
ALONE = {
    "VLLM_PLUGINS": "",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    # Left to itself it binds its threads to cores, and two processes to the same ones.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}


def answer(job: dict[str, Any]) -> dict[str, np.ndarray]:
    from vllm import LLM, SamplingParams
    from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

    settings = {"dtype": "float32", "enforce_eager": True, "skip_tokenizer_init": True, "max_logprobs": -1}
    model_type = json.loads(Path(job["path"], "config.json").read_text())["model_type"]
    backend = {"model_impl": "vllm" if model_type == "nemotron-nas" else "transformers", "trust_remote_code": True}
    llm = None
    try:
        llm = LLM(job["path"], **settings, **backend)
        sampling = SamplingParams(
            temperature=0,
            max_tokens=job["tokens"],
            ignore_eos=True,
            logprobs=-1,
            flat_logprobs=True,
            detokenize=False,
        )
        asked = [{"prompt_token_ids": prompt} for prompt in job["prompts"]]
        told = [request.outputs[0] for request in llm.generate(asked, sampling, use_tqdm=False)]
        vocabulary = llm.model_config.get_vocab_size()
        return {
            "tokens": np.array([t.token_ids for t in told]),
            "logprobs": np.stack([table(t.logprobs, vocabulary) for t in told]),
            "cached_layers": np.array(len(llm.collective_rpc("get_kv_cache_spec")[0])),
            "cut": np.array([]),
        }
    except Exception as error:  # vLLM refuses with errors of all kinds, and the next model shall be tried too
        return {"refused": np.array(str(error))}
    finally:
        if llm is not None:
            llm.llm_engine.engine_core.shutdown()
        cleanup_dist_env_and_memory()


def table(told: Any, vocabulary: int) -> np.ndarray:
    """``[tokens, vocabulary]`` out of vLLM's flat lists, in which the chosen token comes a second time."""
    found = np.full((len(told), vocabulary), np.nan, np.float32)
    counts = np.subtract(told.end_indices, told.start_indices)
    found[np.repeat(np.arange(len(told)), counts), told.token_ids] = told.logprobs
    return found


def main(jobs: str, answers: str) -> None:
    os.environ.update(ALONE)
    sys.modules["gatenorm"] = None  # type: ignore[assignment]  # importing it fails from here on
    found = {name: answer(job) for name, job in json.loads(Path(jobs).read_text()).items()}
    import torch
    import transformers
    import vllm

    versions = {"vllm": vllm.__version__, "transformers": transformers.__version__, "torch": torch.__version__}
    arrays = {f"{name}/{key}": array for name, told in found.items() for key, array in told.items()}
    np.savez(answers, versions=np.array(json.dumps(versions)), **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])

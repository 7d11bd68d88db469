"""lm-eval's class for vLLM, in a copy of its module that accepts every build of vLLM."""

import builtins
from collections.abc import Callable
from functools import cache
from importlib import metadata
from importlib.util import find_spec, module_from_spec
from types import ModuleType, SimpleNamespace
from typing import Any

from gatenorm.engines._harness import Answering
from gatenorm.engines.vllm.sessions import opening, shut_down
from gatenorm.errors import EvaluationError, first_line
from gatenorm.models.forward import not_finite
from gatenorm.models.model import Model

_MODULE = "lm_eval.models.vllm_causallms"
# `max_model_len` of vLLM: what the model was made for, or as much of it as the cache has room for.
_AS_LONG_AS_FITS = -1
# Requests that vLLM is given at a time; it batches them itself, and the bar moves in between.
_REQUESTS = 256


def harness_model(model: Model) -> Any:
    """The model in vLLM, opened once, as lm-eval's class."""
    return model.opened_in_engine(lambda: opened(model))


def opened(model: Model) -> tuple[Any, Callable[[], None]]:
    """A checkpoint in vLLM, without compiled graphs, and how to close it.

    Raises:
        EvaluationError: a model in memory, which vLLM cannot take, or one that it refuses.
    """
    directory = model.known_layout.checkpoint.directory
    with opening(directory):
        lm = _class()(model, str(directory))
    return lm, lambda: shut_down(lm.model)


@cache
def _class() -> Any:
    class VllmAnswering(Answering, _module().VLLM):  # type: ignore[misc]
        spare_tokens = -1  # vLLM always decodes one token more

        def __init__(self, model: Model, directory: str):
            self.asked = model
            super().__init__(
                pretrained=directory,
                dtype=model.computes_in,
                max_model_len=_AS_LONG_AS_FITS,
                batch_size=model.batch_size or _REQUESTS,
                trust_remote_code=False,
                enforce_eager=True,
                use_tqdm_on_load=False,
            )
            self._max_length = None  # so that it asks vLLM how long that is

        def hardware(self) -> dict[str, str]:
            from vllm.platforms import current_platform

            dtype = str(self.model.llm_engine.model_config.dtype).removeprefix("torch.")
            return {"dtype": dtype, "device": str(current_platform.device_type), "engine": "vllm"}

        def not_finite(self) -> EvaluationError:
            return not_finite(None, self.asked.computes_in)

        def _model_generate(self, requests: Any, *arguments: Any, **options: Any) -> Any:
            try:
                answers = super()._model_generate(requests, *arguments, **options)
            except (ValueError, RuntimeError) as error:
                raise EvaluationError(
                    "engine-refuses-request", f"vLLM refused a request: {first_line(error)[:200]}"
                ) from error
            self.count(len(requests))
            return answers

    return VllmAnswering


def _module() -> ModuleType:
    """A copy of lm-eval's module for vLLM, which lies in no table of modules or of lm-eval's classes.

    It asks ``importlib.metadata`` for the version of the distribution ``vllm``, which builds for CPUs call otherwise,
    and has no option for that. For the copy that module answers with the version of the package; no other sees it.
    """
    import vllm

    def version(distribution: str) -> str:
        return str(vllm.__version__) if distribution == "vllm" else metadata.version(distribution)

    def import_from(name: str, *arguments: Any) -> Any:
        if name == "importlib.metadata":
            return SimpleNamespace(version=version)
        if name == "lm_eval.api.registry":
            return SimpleNamespace(register_model=lambda *_: lambda kind: kind)
        return __import__(name, *arguments)

    spec = find_spec(_MODULE)
    assert spec is not None
    module = module_from_spec(spec)
    vars(module)["__builtins__"] = {**vars(builtins), "__import__": import_from}
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module

"""What every engine is asked, whatever it is: go on from these tokens, and say how sure you were of each.

A new engine is a module with a class that does this, and one entry in ``ENGINES``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gatenorm.errors import EvaluationError, MissingExtraError, did_you_mean


@dataclass(frozen=True)
class Continuation:
    """What an engine made of one prompt, taking the likeliest token each time.

    ``tokens`` are the new ones; ``logprobs`` ``[tokens, vocabulary]`` the log-probabilities from which each was chosen,
    NaN where the engine does not tell.
    """

    tokens: tuple[int, ...]
    logprobs: npt.NDArray[np.float32]


class Engine(Protocol):
    """A model opened in an engine. ``close`` frees processes and memory; calling it again is harmless."""

    @property
    def vocabulary(self) -> int:
        """How many tokens the model knows."""

    @property
    def cached_layers(self) -> int | None:
        """How many layers keep a key/value cache, where the engine tells."""

    @property
    def versions(self) -> dict[str, str]:
        """The engine's own version, and those of what its figures rest on."""

    def tokenize(self, text: str, special: bool = False) -> list[int] | None:
        """How the engine cuts a text, with the ``special`` tokens that it puts around one or without.

        ``None`` where it has no tokenizer.
        """

    def continue_greedily(self, prompts: Sequence[Sequence[int]], tokens: int) -> list[Continuation]:
        """Exactly ``tokens`` new tokens after each prompt, the end of the text ignored."""

    def close(self) -> None:
        """Free everything."""


@dataclass(frozen=True)
class EngineKind:
    """An engine that can be opened: its name, the package it is, where that comes from, and what it reads.

    ``reads`` names forms: ``gguf``, ``nemotron-nas``, ``transformers`` (what pruning wrote, or a dense directory).
    ``factory`` is ``module:Class``, called with the path. ``exact`` says that it computes in float32 whatever type the
    weights lie in.
    """

    name: str
    package: str
    extra: str
    reads: tuple[str, ...]
    factory: str
    exact: bool = True

    @property
    def installed(self) -> bool:
        return find_spec(self.package) is not None

    def open(self, path: Path) -> Engine:
        """Open ``path``.

        Raises:
            MissingExtraError: the engine is not installed.
            EvaluationError: the engine refuses the model.
        """
        if not self.installed:
            raise MissingExtraError(f"the engine {self.name}", self.package, self.extra)
        module, name = self.factory.split(":")
        engine: Any = getattr(import_module(module), name)(path)
        return engine  # type: ignore[no-any-return]


ENGINES: dict[str, EngineKind] = {
    kind.name: kind
    for kind in (
        EngineKind("llamacpp", "xllamacpp", "llamacpp", ("gguf",), "gatenorm.engines.llamacpp:LlamaCpp", exact=False),
        EngineKind("vllm", "vllm", "vllm", ("nemotron-nas", "transformers"), "gatenorm.engines.vllm:Vllm"),
        EngineKind("mlx", "mlx_lm", "mlx", ("nemotron-nas",), "gatenorm.engines.mlx:Mlx"),
        EngineKind(
            "transformers",
            "transformers",
            "torch",
            ("transformers",),
            "gatenorm.engines.transformers:Transformers",
        ),
    )
}


def engine_for(form: str, name: str | None = None) -> EngineKind:
    """The engine of that name, or the first installed one that reads ``form``.

    Raises:
        EvaluationError: no such engine, or one that does not read this form.
        MissingExtraError: no engine that reads this form is installed.
    """
    if name is not None and name not in ENGINES:
        raise EvaluationError(f"--engine {name} is not known; {did_you_mean(name, ENGINES)}")
    able = [kind for kind in ENGINES.values() if form in kind.reads]
    if name is not None:
        if form not in ENGINES[name].reads:
            names = ", ".join(kind.name for kind in able)
            raise EvaluationError(f"--engine {name} does not read {form}; these do: {names}")
        return ENGINES[name]
    for kind in able:
        if kind.installed:
            return kind
    first = able[0]
    raise MissingExtraError(f"verifying {form}", " or ".join(kind.package for kind in able), first.extra)

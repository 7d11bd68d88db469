"""What an engine is, and what it may be able to do: continue prompts, be timed, answer lm-eval's requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from gatenorm.engines._timing import Setting, TimedSession
from gatenorm.errors import EvaluationError, MissingExtraError
from gatenorm.families import Layout
from gatenorm.progress import Progress

if TYPE_CHECKING:
    from gatenorm.models.model import Model


@dataclass(frozen=True)
class Continuation:
    """What an engine made of one prompt, taking the likeliest token each time.

    ``tokens`` are the new ones; ``logprobs`` ``[tokens, vocabulary]`` the log-probabilities from which each was chosen,
    NaN where the engine does not tell.
    """

    tokens: tuple[int, ...]
    logprobs: npt.NDArray[np.float32]


@dataclass(frozen=True)
class LikelyContinuation:
    """The log-likelihood of a continuation in nats, and whether greedy decoding would have given exactly it."""

    loglikelihood: float
    greedy: bool


class GreedySession(Protocol):
    """A model opened in an engine, which computes as exactly as the engine can."""

    @property
    def vocabulary(self) -> int:
        """How many tokens the model knows."""

    @property
    def cached_layers(self) -> int | None:
        """How many layers keep a key/value cache, where the engine says."""

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
        """Free processes and memory; calling it again is harmless."""


@dataclass(frozen=True)
class Ability:
    """Something that an engine may be able to do, besides :meth:`Engine.open`.

    ``method`` does it, ``verb`` is what an engine without it cannot, and ``command`` what needs it.
    """

    method: str
    verb: str
    command: str


ABLE = {
    "times": Ability("open_timed", "be timed", "bench"),
    "answers": Ability("harness_model", "answer evaluation tasks", "eval"),
    "predicts": Ability("likelihoods", "predict", "eval of texts"),
    "generates": Ability("generate", "generate", "eval of prompts"),
}


def later(path: str) -> Callable[..., Any]:
    """A method that lies elsewhere, ``module:name``: imported when it is called, since it brings the engine along."""
    module, _, name = path.partition(":")

    def method(self: Engine, *arguments: Any, **options: Any) -> Any:
        return attrgetter(name)(import_module(module))(*arguments, **options)

    return method


class Engine:
    """An engine. A subclass says what it is and overrides what it can do.

    Attributes:
        package: the package that it is.
        extra: the optional dependencies of gatenorm that bring it.
        reads: forms: ``gguf``, ``nemotron-nas``, ``transformers`` (what pruning wrote, or a dense directory).
        exact: whether :meth:`open` computes in float32 whatever type the weights lie in.
        preference: of several engines that read a form, the one with the highest is taken where none is named.
        dtypes: the data types that it can be timed in besides ``auto``.
        cache_passes: for the cost model: how often its cache moves for one decoded token.
        distributions: whose versions its answers depend on.
    """

    package: ClassVar[str]
    extra: ClassVar[str]
    reads: ClassVar[tuple[str, ...]]
    exact: ClassVar[bool] = True
    preference: ClassVar[int] = 0
    dtypes: ClassVar[tuple[str, ...]] = ()
    cache_passes: ClassVar[int] = 1
    distributions: ClassVar[tuple[str, ...]] = ()

    def __init__(self, name: str):
        self.name = name

    @classmethod
    def can(cls, able: str) -> bool:
        """Whether it can do that, one of ``ABLE``: the method for it is its own."""
        method = ABLE[able].method
        return getattr(cls, method) is not getattr(Engine, method)

    @property
    def installed(self) -> bool:
        return find_spec(self.package) is not None

    def check_installed(self) -> None:
        """Raise MissingExtraError where the engine is not installed."""
        if not self.installed:
            raise MissingExtraError(f"the engine {self.name}", self.package, self.extra)

    def open(self, path: Path) -> GreedySession:
        """Open ``path`` to continue prompts and give log-probabilities.

        Raises:
            EvaluationError: the engine refuses the model.
            MissingExtraError: what it needs is not installed.
        """
        raise NotImplementedError

    def open_timed(self, path: Path, setting: Setting) -> TimedSession:
        """Open ``path`` as a server would, in this process.

        Raises:
            CheckpointError, EvaluationError: the engine refuses the model.
        """
        raise NotImplementedError

    def model(self, layout: Layout, **hardware: Any) -> Model:
        """A checkpoint as the model that evaluations run in this engine; nothing is read before it is asked for.

        Args:
            hardware: ``device``, ``dtype`` and ``batch_size`` of :class:`gatenorm.models.model.Model`.

        Raises:
            CheckpointError: in a form that this engine does not read.
            EvaluationError: a device or data type that it has not.
        """
        from gatenorm.models.model import Model

        return Model.of_layout(layout, engine=self.name, **hardware)

    def likelihoods(
        self,
        model: Model,
        pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
        progress: Progress | None = None,
    ) -> list[LikelyContinuation]:
        """The log-likelihood of each continuation after its prompt, both as token ids.

        ``log p(continuation | prompt) = sum_i log p(token_i | prompt, tokens before i)``.

        Args:
            progress: called with (forward passes done, in all), a pass being one sequence.

        Raises:
            EvaluationError: an empty prompt or continuation, or logits that are not finite.
        """
        raise NotImplementedError

    def generate(
        self, model: Model, prompts: Sequence[Sequence[int]], new_tokens: int, progress: Progress | None = None
    ) -> list[list[int]]:
        """What greedy decoding writes after each prompt: at most ``new_tokens`` ids, fewer where it ends by itself.

        At each step the most likely token, whatever the checkpoint's ``generation_config.json`` says of penalties or of
        tokens to suppress or to force; of that file only the tokens at which the model stops count.

        Args:
            progress: called with (prompts done, in all).

        Raises:
            EvaluationError: logits that are not finite, or a generation configuration that names no tokens to stop at.
        """
        raise NotImplementedError

    def harness_model(self, model: Model) -> Any:
        """The model as one of lm-eval's classes, with :class:`gatenorm.engines._harness.Answering` mixed in.

        Raises:
            CheckpointError, EvaluationError: the engine refuses the model.
        """
        raise NotImplementedError


def refuses(engine: str, path: Path, reason: object) -> EvaluationError:
    """The error for a model that an engine does not load."""
    return EvaluationError("engine-refuses", f"{engine} cannot load {path}: {reason}")

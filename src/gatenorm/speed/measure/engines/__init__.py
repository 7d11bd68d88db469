"""Engines that can be timed: one module each, with a class that is a `Session`, and one entry in ``TIMED``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from gatenorm.engines.engine import ENGINES, EngineKind
from gatenorm.errors import EvaluationError, did_you_mean
from gatenorm.speed.measure.record import Case, Session


@dataclass(frozen=True)
class Setting:
    """How a model is opened for timing.

    Attributes:
        cases: all that will be run; engines that reserve their cache at the start reserve enough for the largest.
        threads: of the processor; ``None`` leaves it to the engine.
        attention: the implementation that transformers is to take; ``None`` leaves it to transformers.
    """

    cases: tuple[Case, ...]
    device: str = "cpu"
    dtype: str = "auto"
    threads: int | None = None
    attention: str | None = None
    seed: int = 0

    @property
    def longest(self) -> int:
        """The most tokens that one sequence will have."""
        return max(case.tokens + case.new + 1 for case in self.cases)

    @property
    def largest_batch(self) -> int:
        return max(case.batch for case in self.cases)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Setting:
        return cls(**{**data, "cases": tuple(Case(**case) for case in data["cases"])})


@dataclass(frozen=True)
class TimedEngine:
    """An engine that can be timed.

    Attributes:
        kind: what the engine is, what it reads and where it comes from.
        session: ``module:Class``, called with the path and a :class:`Setting`.
        cache_passes: for the cost model: how often its cache moves for one decoded token.
        dtypes: what ``--dtype`` may name besides ``auto``.
    """

    kind: EngineKind
    session: str
    cache_passes: int = 1
    dtypes: tuple[str, ...] = ()

    def open(self, path: Path, setting: Setting) -> Session:
        """Open a model in this process.

        Raises:
            CheckpointError, EvaluationError: the engine refuses the model.
        """
        module, name = self.session.split(":")
        opened: Session = getattr(import_module(module), name)(path, setting)
        return opened


_HERE = "gatenorm.speed.measure.engines"
TIMED: dict[str, TimedEngine] = {
    "transformers": TimedEngine(
        ENGINES["transformers"],
        f"{_HERE}.transformers:Transformers",
        cache_passes=3,
        dtypes=("float32", "bfloat16", "float16"),
    ),
    "llamacpp": TimedEngine(ENGINES["llamacpp"], f"{_HERE}.llamacpp:LlamaCpp"),
    "vllm": TimedEngine(ENGINES["vllm"], f"{_HERE}.vllm:Vllm", dtypes=("float32", "bfloat16", "float16")),
}


def timed_engine(name: str) -> TimedEngine:
    """The engine of that name.

    Raises:
        EvaluationError: none of that name can be timed.
    """
    if name not in TIMED:
        raise EvaluationError(f"--engine {name} is not known; {did_you_mean(name, TIMED)}")
    return TIMED[name]

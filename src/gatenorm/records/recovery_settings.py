"""How a training after pruning is done: every number that decides its outcome, in one record."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_type_hints

from msgspec import Meta

from gatenorm.errors import RecoveryError
from gatenorm.records.numbers import LARGEST_FLOAT, Amount, Count, Part, Positive, Seed, Window, out_of_range

OBJECTIVES = ("lm", "distill")
TARGETS = ("attention", "mlp", "maps")
MAPS = "maps"
# Sequences of a model's own text: about a quarter of a million tokens where they have 512 each.
SAMPLES = 512
DEFAULT_LENGTH = 512

SCHEDULES: Mapping[str, Callable[[float], float]] = {
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "linear": lambda done: 1 - done,
    "constant": lambda done: 1.0,
}


@dataclass(frozen=True)
class Settings:
    """The numbers of one recovery; equal settings on equal data give equal tensors on one machine.

    Attributes:
        steps: optimiser steps.
        objective: ``lm`` (cross-entropy on the text, the paper's) or ``distill`` (the parent's predictions on it).
        targets: what is trained: adapters on ``attention`` (the kept q, k, v and o projections) or ``mlp``, and
            ``maps``: the fitted operations in the place of sublayers, their tensors as they are.
        rank: of each adapter's two matrices.
        alpha: an adapter adds ``alpha / rank * B A`` to its weight.
        dropout: on an adapter's input while it is trained.
        learning_rate: the largest one, of AdamW.
        schedule: how it falls after the warm-up: ``cosine``, ``linear`` (both to 0) or ``constant``.
        warm_up: share of the steps in which it rises from 0.
        weight_decay: of AdamW, on what is trained.
        clip: the gradient's largest norm.
        batch: sequences that go through a device at a time.
        accumulation: such batches in one step.
        length: tokens in a sequence; as many as the model takes, at most 512, without one.
        seed: of the adapters' first values, the order of the data, and dropout.
        dtype: that the frozen weights are computed in; ``auto`` is float32 on a CPU, else the stored one. What is
            trained is float32.
        device: of torch; under ``accelerate launch`` each process has its own.
        checkpointing: compute activations again on the way back instead of keeping them: less memory, more time.
        temperature: of both distributions in ``distill``.
        watch_every: steps between two looks at the held-out text, after each of which the state is saved.
        watch_windows: sequences of the held-out text that are looked at.
        diverged: a loss of so many times the first held-out loss ends the training.
    """

    steps: Count = 2000
    objective: str = "lm"
    targets: tuple[str, ...] = ("attention",)
    rank: Count = 16
    alpha: Positive = 32.0
    dropout: Part = 0.0
    learning_rate: Positive = 1e-3
    schedule: str = "cosine"
    warm_up: Part = 0.03
    weight_decay: Annotated[Amount, Meta(le=LARGEST_FLOAT)] = 0.0
    clip: Positive = 1.0
    batch: Count = 8
    accumulation: Count = 1
    length: Window | None = None
    seed: Seed = 0
    dtype: str = "auto"
    device: str = "cpu"
    checkpointing: bool = False
    temperature: Positive = 1.0
    watch_every: Count = 100
    watch_windows: Count = 64
    diverged: Annotated[float, Meta(gt=1.0)] = 3.0

    def __post_init__(self) -> None:
        self._known("objective", self.objective, OBJECTIVES)
        self._known("schedule", self.schedule, SCHEDULES)
        if not self.targets:
            raise RecoveryError(
                "targets-empty", "is empty", field="targets", expected=f"one or more of {', '.join(TARGETS)}"
            )
        for target in self.targets:
            self._known("targets", target, TARGETS)
        for name, kind in get_type_hints(Settings, include_extras=True).items():
            given = getattr(self, name)
            if given is not None and (expected := out_of_range(given, kind)):
                raise RecoveryError.out_of_range(name, f"{given:g}", expected)
        if self.dtype == "float16":
            problem = "loses small gradients"
            expected = "bfloat16 or float32"
            raise RecoveryError("dtype-unusable", problem, field="dtype", given="float16", expected=expected)

    @property
    def adapted(self) -> tuple[str, ...]:
        """The targets that get adapters."""
        return tuple(target for target in self.targets if target != MAPS)

    @property
    def sequences(self) -> int:
        """In one step, on one device."""
        return self.batch * self.accumulation

    def length_in(self, context: int | None) -> int:
        """Tokens in a sequence of a model that takes ``context`` (``None``: no limit is known)."""
        return self.length or min(context or DEFAULT_LENGTH, DEFAULT_LENGTH)

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of step ``step`` (from 0): it rises in a straight line, then follows the schedule."""
        rising = math.ceil(self.warm_up * self.steps)
        if step < rising:
            return self.learning_rate * (step + 1) / rising
        return self.learning_rate * SCHEDULES[self.schedule]((step - rising) / max(1, self.steps - rising))

    def _known(self, name: str, given: str, known: Any) -> None:
        if given not in known:
            raise RecoveryError.unknown(name, given, known)

"""What an evaluation task asks for and gives back: options from outside, jobs to run, measurements out of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gatenorm.engines import engines_that
from gatenorm.models.architecture import Work
from gatenorm.progress import Progress
from gatenorm.records.evidence import Evidence

if TYPE_CHECKING:
    from gatenorm.models.model import Model


@dataclass(frozen=True)
class TaskOptions:
    """The options of one task: ``data`` as given, ``argument`` what stood after the colon of its name.

    ``context`` is the longest input that every compared model takes (``None``: no limit is known), ``limit`` how many
    windows, documents or items at most (of a text with ``spread`` evenly over it, else the first ones), ``new_tokens``
    how long continuations are.
    """

    data: str | None = None
    argument: str | None = None
    text_field: str = "text"
    documents: str | None = None
    window: int | None = None
    stride: int | None = None
    limit: int | None = None
    spread: bool = False
    new_tokens: int = 32
    refusal_rule: str | None = None
    context: int | None = None


@dataclass(frozen=True)
class Job:
    """One measurement that can be taken, cached and repeated by itself.

    ``key`` is everything that decides its result apart from the model, the software and the hardware: plain JSON, with
    hashes of all data. ``run`` measures one model, ``compare`` a model beside its baseline (in this order);
    exactly one of them is given, and the runner fills in whose record it is. ``engines`` can answer it. ``passes`` says
    how often, by reckoning before any tokenizer is read, each model runs through what: estimates of time rest on it.
    """

    kind: str
    title: str
    unit: str
    key: Mapping[str, object]
    run: Callable[[Model, Progress | None], Evidence] | None = None
    compare: Callable[[Model, Model, Progress | None], Evidence] | None = None
    packages: tuple[str, ...] = field(default=())
    engines: tuple[str, ...] = ("transformers",)
    passes: Mapping[Work, float] = field(default_factory=dict)

    @staticmethod
    def engines_that(able: str) -> tuple[str, ...]:
        """Names of the engines that can do something, as :func:`gatenorm.engines.engines_that`."""
        return tuple(engine.name for engine in engines_that(able))

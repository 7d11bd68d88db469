"""One model, its scores and its evaluations: each measured once by the Python API, and kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from msgspec.structs import replace

from gatenorm import api
from gatenorm.audit.plan.rankings import source_key
from gatenorm.calibration.samples import Calibration
from gatenorm.criteria.criterion_spec import criterion_specs
from gatenorm.criteria.session import ScoringSession
from gatenorm.evaluation.core.job import TaskOptions
from gatenorm.evaluation.core.runner import Finished
from gatenorm.progress import Bars
from gatenorm.records import Edits, Scores
from gatenorm.records.evidence import Evidence
from gatenorm.results import Fingerprint, ResultStore
from gatenorm.results.hashes import digest
from gatenorm.study.recipe import Evaluation, Recipe

T = TypeVar("T")


@dataclass
class Workbench:
    """What measures for a recipe; ``directory`` holds checkpoints that are timed or trained.

    ``made`` and ``kept`` count the measurements that were made, and those that were there.
    """

    recipe: Recipe
    session: ScoringSession
    store: ResultStore
    directory: Path
    batch_size: int | None
    bars: Bars
    made: int = 0
    kept: int = 0

    @cached_property
    def content(self) -> str:
        """What the model computes, as a hash."""
        with self.bars("looking for earlier results", "bytes") as progress:
            return self.session.layout.checkpoint.fingerprint(progress)

    def once(self, asked: Mapping[str, object], kind: type[T], measure: Callable[[], T]) -> T:
        """What was asked for, out of the store or measured and kept."""
        model = self.session.model
        how = {"device": model.device, "dtype": model.computes_in, "edits": self.session.layout.edits}
        fingerprint = Fingerprint.of({**asked, **how}, {"model": self.content})
        found = self.store.get(fingerprint, kind)
        if found is not None:
            self.kept += 1
            return found
        result = measure()
        model.check_unchanged()
        self.made += 1
        self.store.put(fingerprint, result)
        return result

    def calibration(self, samples: int | None = None, criterion: str = "") -> Calibration:
        """The recipe's tokens for a criterion, or so many windows of them."""
        own = self.recipe.calibration.of(criterion)
        return Calibration(own.source, samples or own.samples, own.length, batch_size=self.batch_size)

    def scores(self, criterion: str, *, seed: int = 0, samples: int | None = None, kind: str | None = None) -> Scores:
        """The scores by a criterion, on the recipe's tokens where it names none."""
        (spec,) = criterion_specs([criterion], self.calibration(samples, criterion))
        tokens = spec.calibration
        asked: dict[str, object] = {"score": spec.name, "kind": kind, "seed": seed}
        if tokens is not None:
            asked |= {"tokens": source_key(tokens.source), "samples": tokens.samples, "length": tokens.length}

        def measure() -> Scores:
            with self.bars(f"scoring by {criterion}", "steps") as progress:
                return api.score(self.session, criterion, kind=kind, seed=seed, calibration=tokens, progress=progress)

        # The same content may lie in a folder of another name today.
        return replace(self.once(asked, Scores, measure), model=self.session.layout.identity())

    def request(self, one: Evaluation) -> tuple[tuple[str, ...], TaskOptions]:
        """The data and the request of an evaluation, as ``gatenorm eval`` takes them."""
        data = one.data or self.data(one.task)
        return (data,) if data else (), TaskOptions(window=one.window, limit=one.limit, spread=one.spread)

    def data(self, task: str) -> str | None:
        """The recipe's data for an evaluation, where it has some."""
        return {"perplexity": self.recipe.text, "zeroshot": self.recipe.zeroshot}.get(task.partition(":")[0]) or None

    def task_data(self, tasks: Sequence[str]) -> list[str]:
        """The recipe's data for several evaluations, each with the name of its own in front."""
        named = {task.partition(":")[0]: self.data(task) for task in tasks}
        return [f"{task}={data}" for task, data in named.items() if data]

    def evaluated(self, edits: Edits, evaluations: Sequence[Evaluation]) -> list[Evidence]:
        """The records of the model with these edits, averages among them."""
        found: list[Evidence] = []
        how: dict[str, Any] = {"cache": self.store, "bars": self.bars, "finished": self._count}
        for one in evaluations:
            data, request = self.request(one)
            found += api.evaluate(self.session.model.edited_copy(edits), one.task, data, request=request, **how)
        return found

    def _count(self, done: Finished) -> None:
        self.kept += done.cached
        self.made += not done.cached

    def pruned(self, gone: Sequence[int]) -> Path:
        """A checkpoint without the attention of these layers, written once and named by them alone."""
        target = self.directory / f"{self.content[:12]}-without-{len(gone)}-{digest(sorted(gone))[:12]}"
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            api.prune(self.session.layout, target, api.plan(self.session.layout, drop=gone))
        return target

"""Up to which budget recovery works: a dense model pruned at several of them, each recovered, all of them measured."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec.structs import asdict

from gatenorm.checkpoint import open_store
from gatenorm.errors import RecoveryError
from gatenorm.evaluation.core.job import Job
from gatenorm.evaluation.core.text import Text
from gatenorm.families import Layout, detect_layout
from gatenorm.files import check_apart, check_new_directory
from gatenorm.models.model import Model
from gatenorm.progress import Progress
from gatenorm.records import ModelIdentity, Plan, Record, Value, to_json
from gatenorm.records.evidence import Data
from gatenorm.recovery import state as states
from gatenorm.recovery.corpus import split, windows
from gatenorm.recovery.recovering import NothingLearnedError, recover
from gatenorm.recovery.settings import Settings
from gatenorm.recovery.training import Report, held_out_loss
from gatenorm.results import Fingerprint, ResultStore, versions
from gatenorm.surgery.disk import write_pruned

STATE = "study-state"
# How far above the dense model's perplexity a recovered one may lie and still be called recovered.
TOLERANCE = 0.10
HELD_OUT, OTHER = "held-out", "other"
_TASK = "task "

Figures = Mapping[str, float]
T = TypeVar("T")
Planner = Callable[[Layout, float, str, Settings], Plan]


def accuracies(figures: Figures) -> dict[str, float]:
    """Of these figures the tasks' accuracies, by the task's name."""
    return {name.removeprefix(_TASK): value for name, value in figures.items() if name.startswith(_TASK)}


class Outcome(Value, frozen=True, kw_only=True):
    """What was measured before and after one recovery.

    Figures by name: ``held-out`` and ``other`` are perplexities, ``task NAME`` accuracies. ``minutes`` is how long the
    training took, ``steps`` how long it was.
    """

    before: dict[str, float]
    after: dict[str, float]
    steps: int
    minutes: float
    diverged: str | None = None


class Variant(Outcome, frozen=True, kw_only=True):
    """One budget by one criterion.

    Attributes:
        won_back: the share of the lost held-out log-perplexity that is there again; ``None`` where nothing was lost.
        over_fits: whether training made the other text worse: what was learned was the training text.
        works: whether the held-out perplexity after recovery lies within the tolerance of the dense model's.
    """

    criterion: str
    share: float
    removed: tuple[int, ...]
    won_back: float | None
    over_fits: bool
    works: bool

    @classmethod
    def of(cls, criterion: str, share: float, removed: tuple[int, ...], outcome: Outcome, dense: Figures) -> Variant:
        """The variant that had this outcome beside the dense model's figures."""
        before, after = outcome.before, outcome.after
        lost = math.log(before[HELD_OUT] / dense[HELD_OUT])
        return cls(
            criterion=criterion,
            share=float(share),
            removed=removed,
            won_back=math.log(before[HELD_OUT] / after[HELD_OUT]) / lost if lost > 0 else None,
            over_fits=OTHER in after and after[OTHER] > before[OTHER],
            works=after[HELD_OUT] <= (1 + TOLERANCE) * dense[HELD_OUT],
            **asdict(outcome),
        )

    @property
    def name(self) -> str:
        return f"{self.criterion}-{len(self.removed)}"


class Study(Record, frozen=True, kw_only=True, tag="gatenorm/recovery-study/1"):
    """All variants beside the dense model, and how they were measured.

    ``boundary`` says, by criterion, up to how many removed sublayers recovery works, from the smallest budget on.
    """

    model: ModelIdentity
    dense: dict[str, float]
    variants: tuple[Variant, ...]
    boundary: dict[str, int | None]
    protocol: dict[str, Any]
    data: dict[str, Data]
    versions: dict[str, str] = msgspec.field(default_factory=dict)

    @classmethod
    def of_variants(cls, variants: Sequence[Variant], **fields: Any) -> Study:
        """The study of these variants; ``fields`` are all others but the boundary."""
        working: dict[str, int | None] = {}
        for criterion in dict.fromkeys(v.criterion for v in variants):
            own = sorted((v for v in variants if v.criterion == criterion), key=lambda v: len(v.removed))
            until_one_fails = [len(v.removed) for v in takewhile(lambda v: v.works, own)]
            working[criterion] = until_one_fails[-1] if until_one_fails else None
        return cls(variants=tuple(variants), boundary=working, **fields)

    @property
    def criteria(self) -> tuple[str, ...]:
        return tuple(self.boundary)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks whose accuracy was measured."""
        return tuple(accuracies(self.dense))

    def of(self, criterion: str) -> list[Variant]:
        """Its variants, the smallest budget first."""
        return sorted((v for v in self.variants if v.criterion == criterion), key=lambda v: len(v.removed))

    def largest_working(self, criterion: str) -> Variant | None:
        """The variant at the boundary."""
        return next((v for v in self.of(criterion) if len(v.removed) == self.boundary[criterion]), None)


def study(
    layout: Layout,
    out: Path,
    text: Text,
    shares: Sequence[float],
    criteria: Sequence[str],
    settings: Settings,
    *,
    plan: Planner,
    held_out: Text | None = None,
    other: Text | None = None,
    jobs: Sequence[Job] = (),
    progress: Progress | None = None,
    report: Callable[[str], Report] | None = None,
) -> Study:
    """Prune, recover and measure at every share by every criterion; what is done stays in ``out`` for the next time.

    Args:
        out: a folder, new or of this very study: measurements, and the recovered models by name.
        plan: decides what goes: a function of the layout, the share, the criterion and the settings.
        jobs: tasks beside perplexity, measured on every model.
        progress: called with (variants done, variants in all).
        report: called with a variant's name when its training begins; what it returns is called after every step.

    Raises:
        RecoveryError: no share, or a folder of another study; or as :func:`gatenorm.recovery.recovering.recover`.
    """
    if not shares or not criteria:
        raise RecoveryError(
            "study-empty",
            "is empty",
            field="shares" if not shares else "criteria",
            expected="one or more, such as 0.2,0.4 and gate-norm",
        )
    length = settings.length_in(layout.context)
    settings = replace(settings, length=length)
    if held_out is None:
        text, held_out = split(text)
    watched = {HELD_OUT: held_out, **({} if other is None else {OTHER: other})}
    protocol: dict[str, Any] = {
        "settings": to_json(settings),
        "window": length,
        "windows": settings.watch_windows,
        "tasks": [[job.kind, job.title, dict(job.key)] for job in jobs],
        "tolerance": TOLERANCE,
    }
    data = {"train": text.identity(), **{name: t.identity() for name, t in watched.items()}}
    models = {"model": layout.checkpoint.fingerprint()}
    fingerprint = Fingerprint.of({"data": data, **protocol}, models, ("peft", "lm_eval"))
    store = ResultStore(out / STATE)
    if not store.directory.exists():
        check_new_directory(out)
        check_apart(out, layout.checkpoint.directory)
    store.claim("study", fingerprint, "out")
    measure = _Measure(watched, jobs, settings)
    dense = _kept(store, fingerprint, dict[str, float], lambda: measure(layout))
    wanted = [(criterion, share) for criterion in criteria for share in sorted(set(shares))]
    found: dict[str, Variant] = {}
    for number, (criterion, share) in enumerate(wanted):
        if progress:
            progress(number, len(wanted))
        made = plan(layout, share, criterion, settings)
        name = f"{criterion.replace('/', '_')}-{len(made.edits.attention)}"
        # By its layers too: other calibration tokens, or another release, may rank them otherwise.
        variant = fingerprint.asking(variant=name, removed=made.edits.attention)

        def taken(made: Plan = made, name: str = name, variant: Fingerprint = variant) -> Outcome:
            unrecovered = variant.asking(recovered=False)
            if store.get(unrecovered, dict[str, float]) is None:
                # Of other layers under the same name, whose state and output would be refused.
                shutil.rmtree(out / name, ignore_errors=True)
                states.state_file(out / name).unlink(missing_ok=True)
            pruned = _pruned(layout, made, out / f"{name}-pruned")
            before = _kept(store, unrecovered, dict[str, float], lambda: measure(pruned))
            listener = report(name) if report else None
            try:
                recovered = recover(
                    pruned,
                    out / name,
                    text,
                    settings,
                    held_out=held_out,
                    parent=layout if settings.objective == "distill" else None,
                    report=listener,
                )
                after, steps = measure(detect_layout(open_store(out / name))), recovered.evidence.steps
                seconds, diverged = recovered.evidence.seconds, recovered.record.diverged
            except NothingLearnedError as none:  # the best that was seen is the pruned model
                after, steps, seconds, diverged = before, none.steps, none.seconds, none.diverged
            shutil.rmtree(out / f"{name}-pruned", ignore_errors=True)
            return Outcome(before=before, after=after, steps=steps, minutes=seconds / 60, diverged=diverged)

        outcome = _kept(store, variant, Outcome, taken)
        found[name] = Variant.of(criterion, share, made.edits.attention, outcome, dense)
    if progress:
        progress(len(wanted), len(wanted))
    described = {"model": layout.identity(), "dense": dense, "protocol": protocol, "data": data}
    return Study.of_variants(tuple(found.values()), versions=versions(), **described)


def _pruned(layout: Layout, plan: Plan, where: Path) -> Layout:
    if where.exists():
        found = detect_layout(open_store(where))
        if found.edits == plan.edits:
            return found
        shutil.rmtree(where)
    write_pruned(layout, plan, where)
    return detect_layout(open_store(where))


class _Measure:
    """Perplexity on the texts and accuracy on the tasks, of any of the models."""

    def __init__(self, texts: Mapping[str, Text], jobs: Sequence[Job], settings: Settings):
        self._texts, self._jobs, self._settings = texts, jobs, settings

    def __call__(self, layout: Layout) -> dict[str, float]:
        device = "cpu" if self._settings.device == "auto" else self._settings.device
        model = Model.of_layout(layout, device=device, dtype=self._settings.dtype)
        length, count = self._settings.length_in(layout.context), self._settings.watch_windows
        found = {}
        for name, text in self._texts.items():
            seen = windows(model.tokenizer, text, length, count)
            found[name] = math.exp(min(held_out_loss(model.module, seen, self._settings.batch), 700.0))
        for job in self._jobs:
            assert job.run is not None  # whoever makes a study leaves out what needs a baseline
            figures = job.run(model, None).numbers()
            accuracy = next((figures[name] for name in ("accuracy", "acc") if name in figures), None)
            if accuracy is not None:
                found[_TASK + job.title] = accuracy
        return found


def _kept(store: ResultStore, fingerprint: Fingerprint, kind: type[T], make: Callable[[], T]) -> T:
    """The result for this fingerprint, which is made and kept where there is none yet."""
    found = store.get(fingerprint, kind)
    if found is None:
        found = make()
        store.put(fingerprint, found)
    return found

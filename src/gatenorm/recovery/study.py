"""Up to which budget recovery works: a dense model pruned at several of them, each recovered, all of them measured."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gatenorm.checkpoint import open_store
from gatenorm.criteria.fingerprint import model_key, software
from gatenorm.errors import OutputError, RecoveryError
from gatenorm.evaluation.core.job import Job
from gatenorm.evaluation.core.text import Text
from gatenorm.families import Layout, detect_layout
from gatenorm.models.model import Model
from gatenorm.records import ModelIdentity, Plan, read_json, spans, to_json
from gatenorm.recovery import state as states
from gatenorm.recovery.corpus import DEFAULT_LENGTH, split, windows
from gatenorm.recovery.recovering import ROOMS, NothingLearnedError, recover
from gatenorm.recovery.settings import Settings
from gatenorm.recovery.training import Report, held_out_loss
from gatenorm.surgery.disk import write_pruned

STUDY_SCHEMA = "gatenorm/recovery-study/1"
STATE_SCHEMA = "gatenorm/recovery-study-state/1"
STATE_FILE = "study-state.json"
# How far above the dense model's perplexity a recovered one may lie and still be called recovered.
TOLERANCE = 0.10
HELD_OUT, OTHER = "held-out", "other"
_TASK = "task "

Figures = Mapping[str, float]
Planner = Callable[[Layout, float, str, Settings], Plan]


@dataclass(frozen=True)
class Variant:
    """One budget by one criterion: what was measured before and after recovery.

    Figures by name: ``held-out`` and ``other`` are perplexities, ``task NAME`` accuracies. ``minutes`` is how long the
    training took, ``steps`` how long it was.
    """

    criterion: str
    share: float
    removed: tuple[int, ...]
    before: Figures
    after: Figures
    steps: int
    minutes: float
    diverged: str | None = None

    @property
    def name(self) -> str:
        return f"{self.criterion}-{len(self.removed)}"

    def won_back(self, dense: Figures) -> float | None:
        """The share of the lost held-out log-perplexity that is there again; ``None`` where nothing was lost."""
        lost = math.log(self.before[HELD_OUT] / dense[HELD_OUT])
        return math.log(self.before[HELD_OUT] / self.after[HELD_OUT]) / lost if lost > 0 else None

    def over_fits(self) -> bool:
        """Whether training made the other text worse: what was learned was the training text."""
        return OTHER in self.after and self.after[OTHER] > self.before[OTHER]

    def to_json(self, dense: Figures) -> dict[str, Any]:
        return {
            "criterion": self.criterion,
            "share": self.share,
            "removed": list(self.removed),
            "before": dict(self.before),
            "after": dict(self.after),
            "won_back": self.won_back(dense),
            "over_fits": self.over_fits(),
            "steps": self.steps,
            "minutes": self.minutes,
            "diverged": self.diverged,
        }


@dataclass(frozen=True)
class Study:
    """All variants beside the dense model, and how they were measured."""

    model: ModelIdentity
    dense: Figures
    variants: tuple[Variant, ...]
    protocol: Mapping[str, Any]
    data: Mapping[str, Any]
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def criteria(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(v.criterion for v in self.variants))

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks whose accuracy was measured."""
        return tuple(name.removeprefix(_TASK) for name in self.dense if name.startswith(_TASK))

    def of(self, criterion: str) -> list[Variant]:
        """Its variants, the smallest budget first."""
        return sorted((v for v in self.variants if v.criterion == criterion), key=lambda v: len(v.removed))

    def works(self, variant: Variant) -> bool:
        """Whether the held-out perplexity after recovery lies within the tolerance of the dense model's."""
        return variant.after[HELD_OUT] <= (1 + TOLERANCE) * self.dense[HELD_OUT]

    def boundary(self, criterion: str) -> Variant | None:
        """The largest budget up to which, from the smallest on, recovery works."""
        last = None
        for variant in self.of(criterion):
            if not self.works(variant):
                break
            last = variant
        return last

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": STUDY_SCHEMA,
            "model": to_json(self.model),
            "dense": dict(self.dense),
            "variants": [{**v.to_json(self.dense), "works": self.works(v)} for v in self.variants],
            "boundary": {c: None if (last := self.boundary(c)) is None else len(last.removed) for c in self.criteria},
            "protocol": dict(self.protocol),
            "data": dict(self.data),
            "versions": dict(self.versions),
        }


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
    progress: Callable[[int, int], None] | None = None,
    report: Callable[[str], Report] | None = None,
) -> Study:
    """Prune, recover and measure at every share by every criterion; what is done stays in ``out`` for the next time.

    Args:
        out: a folder, new or of this very study: measurements, and the recovered models by name.
        plan: decides what goes: a function of the layout, the share, the criterion and the settings.
        jobs: tasks beside perplexity, measured on every model.
        progress: called with (variants done, variants in all).
        report: called with a variant's name when its training begins; what it gives is told of every step.

    Raises:
        RecoveryError: no share, or a folder of another study; or as :func:`gatenorm.recovery.recovering.recover`.
    """
    from gatenorm.models.loading import versions

    if not shares or not criteria:
        raise RecoveryError("a study needs a share and a criterion: give --study 20%,40% and --criteria gate-norm")
    length = settings.length or min(layout.context or DEFAULT_LENGTH, DEFAULT_LENGTH)
    settings = replace(settings, length=length)
    if held_out is None:
        text, held_out = split(text)
    watched = {HELD_OUT: held_out, **({} if other is None else {OTHER: other})}
    protocol: dict[str, Any] = {
        "settings": settings.to_json(),
        "window": length,
        "windows": settings.watch_windows,
        "tasks": [[job.kind, job.title, dict(job.key)] for job in jobs],
        "tolerance": TOLERANCE,
    }
    data = {"train": text.identity(), **{name: t.identity() for name, t in watched.items()}}
    used = software(ROOMS, ("peft", "lm_eval"))
    memory = _Memory(out, {"model": model_key(layout), "data": data, "software": used, **protocol})
    measure = _Measure(watched, jobs, settings)
    dense = memory.get("dense", lambda: {"figures": measure(layout)})["figures"]
    wanted = [(criterion, share) for criterion in criteria for share in sorted(set(shares))]
    found: dict[str, Variant] = {}
    for number, (criterion, share) in enumerate(wanted):
        if progress:
            progress(number, len(wanted))
        made = plan(layout, share, criterion, settings)
        name = f"{criterion.replace('/', '_')}-{len(made.edits.attention)}"
        # By its layers too: other calibration tokens, or another release, may rank them otherwise.
        known = f"{name} without {spans(made.edits.attention)}"

        def taken(made: Plan = made, name: str = name, known: str = known) -> dict[str, Any]:
            if f"{known} before" not in memory:
                # Of other layers under the same name, whose state and output would be refused.
                shutil.rmtree(out / name, ignore_errors=True)
                states.state_file(out / name).unlink(missing_ok=True)
            pruned = _pruned(layout, made, out / f"{name}-pruned")
            before = memory.get(f"{known} before", lambda: {"figures": measure(pruned)})["figures"]
            told = report(name) if report else None
            try:
                recovered = recover(
                    pruned,
                    out / name,
                    text,
                    settings,
                    held_out=held_out,
                    parent=layout if settings.objective == "distill" else None,
                    report=told,
                )
                after, steps = measure(detect_layout(open_store(out / name))), int(recovered.figures["steps"])
                seconds, diverged = recovered.evidence[0].seconds, recovered.diverged
            except NothingLearnedError as none:  # the best that was seen is the pruned model
                after, steps, seconds, diverged = before, none.steps, none.seconds, none.diverged
            shutil.rmtree(out / f"{name}-pruned", ignore_errors=True)
            return {
                "before": before,
                "after": after,
                "steps": steps,
                "minutes": seconds / 60,
                "diverged": diverged,
            }

        kept = memory.get(known, taken)
        found[name] = Variant(criterion, share, made.edits.attention, **kept)
    if progress:
        progress(len(wanted), len(wanted))
    return Study(layout.identity(), dense, tuple(found.values()), protocol, data, versions())


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
        subject = Model.of_layout(layout, device=device, dtype=self._settings.dtype)
        length, count = self._settings.length or DEFAULT_LENGTH, self._settings.watch_windows
        found = {}
        for name, text in self._texts.items():
            seen = windows(subject.tokenizer, text, length, count)
            found[name] = math.exp(min(held_out_loss(subject.module, seen, self._settings.batch), 700.0))
        for job in self._jobs:
            assert job.run is not None  # whoever makes a study leaves out what needs a baseline
            figures = job.run(subject, None).figures
            accuracy = next((figures[name] for name in ("accuracy", "acc") if name in figures), None)
            if accuracy is not None:
                found[_TASK + job.title] = accuracy
        return found


class _Memory:
    """What was measured, in a file of the study's folder; a folder of another study is refused."""

    def __init__(self, folder: Path, key: Mapping[str, Any]):
        self._path = folder / STATE_FILE
        self._key = json.loads(json.dumps(key))
        self._known: dict[str, Any] = {}
        if self._path.exists():
            found = read_json(self._path, "the study")
            if found.get("schema") != STATE_SCHEMA or not isinstance(found.get("known"), dict):
                raise RecoveryError(f"{self._path} is damaged: delete it, or name another -o")
            states.check_same(found.get("key", {}), self._key, f"{folder} holds another study", "name another -o")
            self._known = found["known"]
        elif folder.exists() and any(folder.iterdir()):
            raise OutputError(f"{folder} is not empty, and holds no study: give a directory that does not exist yet")

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def get(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What is known by that name, or is now made and kept."""
        if name not in self._known:
            self._known[name] = make()
            temporary = self._path.with_name(f".partial-{os.getpid()}-{self._path.name}")
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                kept = {"schema": STATE_SCHEMA, "key": self._key, "known": self._known}
                temporary.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
                temporary.replace(self._path)
            except OSError as error:
                temporary.unlink(missing_ok=True)
                raise OutputError(f"{self._path} could not be written: {error.strerror}") from None
        known: dict[str, Any] = self._known[name]
        return known

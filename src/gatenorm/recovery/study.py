"""Up to which budget recovery works: a dense model pruned at several of them, each recovered, all of them measured."""

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from gatenorm.checkpoint import open_store
from gatenorm.errors import RecoveryError
from gatenorm.evaluation.core.job import Job
from gatenorm.evaluation.core.text import Text
from gatenorm.families import Layout, detect_layout
from gatenorm.files import check_apart, check_new_directory
from gatenorm.models.model import Model
from gatenorm.progress import Progress
from gatenorm.records import ATTENTION, Plan, to_json
from gatenorm.records.recovery_settings import Settings
from gatenorm.recovery import state as states
from gatenorm.recovery.corpus import split, windows
from gatenorm.recovery.recovering import NothingLearnedError, recover
from gatenorm.recovery.study_record import Figures, Outcome, Study, StudyProtocol, StudyTexts, Variant
from gatenorm.recovery.training import Report, held_out_loss
from gatenorm.results import Fingerprint, ResultStore, versions
from gatenorm.surgery.disk import write_pruned

STATE = "study-state"

T = TypeVar("T")
Planner = Callable[[Layout, float, str, Settings], Plan]


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
    """Prune, recover and measure at every share by every criterion, as :func:`gatenorm.recovery_study`.

    Args:
        plan: decides what goes: a function of the layout, the share, the criterion and the settings.
        jobs: tasks beside perplexity, measured on every model.
        progress: called with (variants done, variants in all).
    """
    if not shares or not criteria:
        expected = "one or more, such as 0.2,0.4 and gate-norm"
        raise RecoveryError("study-empty", "is empty", field="shares" if not shares else "criteria", expected=expected)
    length = settings.length_in(layout.context)
    settings = replace(settings, length=length)
    if held_out is None:
        text, held_out = split(text)
    protocol = StudyProtocol(
        settings=settings,
        window=length,
        windows=settings.watch_windows,
        tasks=tuple((job.kind, job.title, dict(job.key)) for job in jobs),
    )
    data = StudyTexts(train=text.identity(), held_out=held_out.identity(), other=other.identity() if other else None)
    models = {"model": layout.checkpoint.fingerprint()}
    fingerprint = Fingerprint.of({"data": to_json(data), **to_json(protocol)}, models, ("peft", "lm_eval"))
    store = ResultStore(out / STATE)
    if not store.directory.exists():
        check_new_directory(out)
        check_apart(out, layout.checkpoint.directory)
    store.claim("study", fingerprint, "out")
    measure = _Measure(held_out, other, jobs, settings)
    dense = _kept(store, fingerprint, Figures, lambda: measure(layout), layout)
    wanted = [(criterion, share) for criterion in criteria for share in sorted(set(shares))]
    variants: dict[str, Variant] = {}
    for number, (criterion, share) in enumerate(wanted):
        if progress:
            progress(number, len(wanted))
        made = plan(layout, share, criterion, settings)
        name = f"{criterion.replace('/', '_')}-{len(made.edits.attention)}"
        # By its layers too: other calibration tokens, or another release, may rank them otherwise.
        variant = fingerprint.asking(variant=name, removed=made.edits.attention)

        def taken(made: Plan = made, name: str = name, variant: Fingerprint = variant) -> Outcome:
            unrecovered = variant.asking(recovered=False)
            if store.get(unrecovered, Figures) is None:
                # Of other layers under the same name, whose state and output would be refused.
                shutil.rmtree(out / name, ignore_errors=True)
                states.state_file(out / name).unlink(missing_ok=True)
            pruned = _pruned(layout, made, out / f"{name}-pruned")
            before = _kept(store, unrecovered, Figures, lambda: measure(pruned), layout)
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

        outcome = _kept(store, variant, Outcome, taken, layout)
        variants[name] = Variant.of(criterion, share, made.edits.attention, outcome, dense)
    if progress:
        progress(len(wanted), len(wanted))
    present = len(layout.removable(ATTENTION))
    described = {"model": layout.identity(), "present": present, "dense": dense, "protocol": protocol, "data": data}
    return Study.of_variants(tuple(variants.values()), versions=versions(), **described)


def _pruned(layout: Layout, plan: Plan, where: Path) -> Layout:
    if where.exists():
        pruned = detect_layout(open_store(where))
        if pruned.edits == plan.edits:
            return pruned
        shutil.rmtree(where)
    write_pruned(layout, plan, where)
    return detect_layout(open_store(where))


class _Measure:
    """Perplexity on the texts and accuracy on the tasks, of any of the models."""

    def __init__(self, held_out: Text, other: Text | None, jobs: Sequence[Job], settings: Settings):
        self._held_out, self._other, self._jobs, self._settings = held_out, other, jobs, settings

    def __call__(self, layout: Layout) -> Figures:
        device = "cpu" if self._settings.device == "auto" else self._settings.device
        model = Model.of_layout(layout, device=device, dtype=self._settings.dtype)
        length, count = self._settings.length_in(layout.context), self._settings.watch_windows

        def perplexity(text: Text) -> float:
            seen = windows(model.tokenizer, text, length, count)
            return math.exp(min(held_out_loss(model.module, seen, self._settings.batch), 700.0))

        tasks = {}
        for job in self._jobs:
            assert job.run is not None  # whoever makes a study leaves out what needs a baseline
            record = job.run(model, None)
            if record.headline:
                tasks[job.title] = record.numbers()[record.headline]
        other = None if self._other is None else perplexity(self._other)
        return Figures(held_out=perplexity(self._held_out), other=other, tasks=tasks)


def _kept(store: ResultStore, fingerprint: Fingerprint, kind: type[T], make: Callable[[], T], layout: Layout) -> T:
    """The result for this fingerprint, which is made and kept where there is none yet, if the model stayed the same."""
    result = store.get(fingerprint, kind)
    if result is None:
        result = make()
        layout.checkpoint.check_unchanged()
        store.put(fingerprint, result)
    return result

"""What an audit is about to do, in a few lines: shown before anything long begins."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from gatenorm.audit.plan.engine_form import form_for
from gatenorm.audit.plan.memory_use import memory
from gatenorm.audit.plan.parts import Part
from gatenorm.audit.plan.prepare import AuditPlan
from gatenorm.models.memory import available_bytes
from gatenorm.records.numbers import bytes_for_people, duration

# Below, nobody needs to know what takes longest.
_LONG = 60.0


def outline(plan: AuditPlan, parts: Sequence[Part]) -> Iterator[str]:
    """A line for each part of the work, then what it takes of time, disk and memory."""
    for part in parts:
        yield part.what + (f"; about {duration(part.seconds)}" if part.seconds >= 1 else "")
    total, more = (sum(getattr(part, name) for part in parts) for name in ("seconds", "more_seconds"))
    if total >= 1:
        threads = f"{plan.threads} thread" + ("s" if plan.threads > 1 else "")
        further = f", up to {duration(total + more)} if another ranking is better supported" if more >= 1 else ""
        yield f"takes about {duration(total)} on this machine with {threads}{further}"
    weights = plan.layout.nbytes
    written = {form.name for engine in plan.config.speed.engines if (form := form_for(engine))}
    rankings = len(plan.requested) + plan.further_rankings
    models = rankings * (plan.candidates_per_ranking + plan.trained_per_ranking) + (plan.config.search.gate is not None)
    disk = models * weights + (1 + models) * weights * len(written)  # exports are of the unpruned model too
    free, room = shutil.disk_usage(_existing(plan.directory)).free, available_bytes()
    said = bytes_for_people
    available = "" if room is None else f" ({said(room)} available)"
    yield f"takes up to {said(disk)} of disk ({said(free)} free) and {said(memory(plan))} of memory{available}"


def longest(parts: Sequence[Part]) -> Part | None:
    """The part that takes longest of those that can be shortened; ``None`` where all together do not take long."""
    if sum(part.seconds for part in parts) < _LONG:
        return None
    return max((part for part in parts if part.shorter), key=lambda part: part.seconds, default=None)


def _existing(directory: Path) -> Path:
    """The directory, or the nearest one above it that is there."""
    return next(path for path in (directory.absolute(), *directory.absolute().parents) if path.exists())

"""``gatenorm bench``: measure variants in an engine, taking turns, and give what was found as evidence.

One record for each case and variant. Its figures (`_low` and `_high` are the extremes of the rounds):

``prefill_seconds``, ``first_token_seconds``, ``decode_tokens_per_second``   medians
``cache_bytes``, ``peak_bytes``                         key/value cache after the prompt; the process's largest size
``prefill_speedup``, ``first_token_speedup``, ``decode_speedup``             baseline's time over this one's, by round
``cache_share_removed``                                 1 - cache / baseline's cache
``prefill_ideal``, ``decode_ideal``                     speed-up if nothing but the removed attention cost anything
``prefill_achieved``, ``decode_achieved``               speed-up / ideal
``prefill_predicted``, ``decode_predicted``             by the cost model, where a machine was named
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from gatenorm.engines import Case, Engine, Setting, TimedSession
from gatenorm.errors import EvaluationError
from gatenorm.models.architecture import Architecture, Work
from gatenorm.records import Edits
from gatenorm.records.evidence import Measurement
from gatenorm.records.serialization import to_json
from gatenorm.speed.measure.record import TURN_SECONDS, Measured, measure
from gatenorm.speed.measure.variants import Variant
from gatenorm.speed.measure.worker import Worker
from gatenorm.speed.predict.cost_model import predict
from gatenorm.speed.predict.ideal import ideal_from_shares
from gatenorm.speed.predict.machines import Machine

KIND = "speed"
DEFAULT_LENGTHS = (128, 512, 2048)
PHASES = ("prefill", "first_token", "decode")


@dataclass(frozen=True)
class Protocol:
    """How often, and beside what: ``machine`` is the one to predict for, if any.

    Short runs are repeated until a turn lasts ``turn_seconds``, and the fastest counts.
    """

    rounds: int = 5
    warmups: int = 1
    turn_seconds: float = TURN_SECONDS
    machine: Machine | None = None


def cases(
    lengths: Sequence[int] | None, batches: Sequence[int], new: int, variants: Sequence[Variant]
) -> tuple[Case, ...]:
    """Every length with every batch; without lengths, those of 128, 512 and 2,048 that fit every model.

    Raises:
        EvaluationError: a length that does not fit with its new tokens, or numbers below 1.
    """
    if min((*batches, new, *(lengths or ())), default=0) < 1:
        raise EvaluationError(
            "count-out-of-range", "lengths, batches and new tokens must be 1 or more", field="lengths"
        )
    for variant in variants:
        room = (variant.context or 2**62) - new
        too_long = [n for n in lengths or () if n > room]
        if too_long or room < 1:
            raise EvaluationError(
                "length-too-long",
                f"with {new} new tokens does not fit into the context of {variant.name}, {variant.context:,} tokens",
                field="lengths",
                given=max(too_long, default=1),
                expected=f"at most {max(room, 0):,}",
            )
    shortest = min((v.context or 2**62) - new for v in variants)
    chosen = lengths or [n for n in DEFAULT_LENGTHS if n <= shortest] or [shortest]
    return tuple(Case(tokens=length, batch=batch, new=new) for batch in batches for length in chosen)


def bench(
    variants: Sequence[Variant],
    engine: Engine,
    setting: Setting,
    protocol: Protocol,
    *,
    baseline: Variant | None = None,
    progress: Callable[[int, int], None] | None = None,
    open_session: Callable[[Variant], TimedSession] | None = None,
) -> list[Measurement]:
    """Measure every case of ``setting`` on the baseline and all variants, in turns.

    Args:
        progress: called with (turns done, turns).
        open_session: how a variant is opened; by default in a process of its own.

    Returns:
        A record for each case and variant, the baseline first; a case that could not be run has no figures, and its
        protocol says why under ``skipped``.

    Raises:
        EvaluationError: the engine does not read a variant's form, or refuses it; or no case could be run at all.
        MissingExtraError: the engine is not installed.
    """
    everyone = ([baseline] if baseline else []) + list(variants)
    check(engine, everyone)
    began = time.perf_counter()
    labels = labels_of(everyone)
    with ExitStack() as stack:
        sessions: dict[str, TimedSession] = {}
        for label, variant in zip(labels, everyone, strict=True):
            session = open_session(variant) if open_session else Worker(engine.name, variant.path, setting)
            stack.callback(session.close)
            sessions[label] = session
        for session in sessions.values():
            if isinstance(session, Worker):
                session.opened()  # they load side by side
        found = measure(
            sessions,
            setting.cases,
            protocol.rounds,
            warmups=protocol.warmups,
            turn_seconds=protocol.turn_seconds,
            baseline=labels[0] if baseline else None,
            progress=progress,
        )
        if not any(m.samples for m in found):
            raise EvaluationError("nothing-measured", f"nothing could be measured: {found[0].skipped}")
        seconds = time.perf_counter() - began
        by_label = dict(zip(labels, everyone, strict=True))
        first = {m.case: m for m in found if baseline and m.name == labels[0]}
        return [
            Measurement(
                noun=KIND,
                model=by_label[m.name].identity,
                edits=by_label[m.name].edits,
                figures=_figures(m, first.get(m.case), by_label[m.name], baseline)
                | _predictions(m, by_label[m.name], baseline, engine, sessions[m.name], protocol.machine),
                protocol=dict(_described(m, engine, setting, protocol, labels, sessions[m.name], baseline)),
                data={
                    "name": "random tokens",
                    "seed": setting.seed,
                    "samples": [to_json(sample) for sample in m.samples],
                    "attention_shares": [to_json(shares) for shares in m.shares],
                },
                seconds=seconds,
                versions=dict(sessions[m.name].versions),
            )
            for m in found
        ]


def check(engine: Engine, variants: Sequence[Variant]) -> None:
    """Refuse an engine that is not there or reads something else, before anything is loaded.

    Raises:
        EvaluationError, MissingExtraError: as said.
    """
    engine.check_installed()
    for variant in variants:
        if variant.form not in engine.reads:
            raise EvaluationError(
                "engine-cannot-read",
                f"does not read {variant.path}, which is {variant.form}",
                field="engine",
                given=engine.name,
                expected=f"{' or '.join(engine.reads)} (see gatenorm export)",
            )


def threads_at_hand() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def labels_of(variants: Sequence[Variant]) -> list[str]:
    """Names, or paths where two have the same name; a model may be measured against itself."""
    names = [v.name for v in variants]
    labels = [name if names.count(name) == 1 else str(v.path) for name, v in zip(names, variants, strict=True)]
    return [f"{one} ({labels[:i].count(one) + 1})" if one in labels[:i] else one for i, one in enumerate(labels)]


def _figures(m: Measured, first: Measured | None, variant: Variant, baseline: Variant | None) -> dict[str, float]:
    if not m.samples:
        return {}
    figures: dict[str, float] = {}

    def add(name: str, spread: Any) -> None:
        figures.update({name: spread.median, f"{name}_low": spread.low, f"{name}_high": spread.high})

    add("prefill_seconds", m.seconds("prefill"))
    add("first_token_seconds", m.seconds("first_token"))
    add("decode_tokens_per_second", m.tokens_per_second())
    for name, value in (("cache_bytes", m.cache_bytes), ("peak_bytes", m.peak_bytes)):
        if value is not None:
            figures[name] = value
    if first is None or first is m or not first.samples or baseline is None:
        return figures
    for phase in PHASES:
        add(f"{phase}_speedup", m.speedup(first, phase))
    if m.cache_bytes is not None and first.cache_bytes:
        figures["cache_share_removed"] = 1 - m.cache_bytes / first.cache_bytes
    more = newly_removed(variant, baseline)
    # Attention alone is timed: of MLPs no ideal is known.
    for phase in ("prefill", "decode") if first.shares and more is not None and not more.mlp else ():
        ideal = ideal_from_shares(first.seconds(phase).median, first.shares, phase, more.attention if more else ())
        figures[f"{phase}_ideal"] = ideal
        figures[f"{phase}_achieved"] = figures[f"{phase}_speedup"] / ideal
    return figures


def newly_removed(variant: Variant, baseline: Variant) -> Edits | None:
    """The sublayers that the variant lacks and the baseline has; ``None`` where it is not a pruned form of it."""
    same = variant.identity.layers == baseline.identity.layers and not baseline.edits - variant.edits
    return variant.edits - baseline.edits if same else None


def _predictions(
    m: Measured,
    variant: Variant,
    baseline: Variant | None,
    engine: Engine,
    session: TimedSession,
    machine: Machine | None,
) -> dict[str, float]:
    if machine is None or baseline is None or baseline.layout is None or not m.samples or variant is baseline:
        return {}
    more, counted = newly_removed(variant, baseline), Architecture.of(baseline.layout)
    if more is None or not counted.runs:
        return {}
    dtype = session.dtype
    middle = m.case.tokens + m.case.new // 2  # the context grows while new tokens come
    works = {"prefill": Work.prefill(m.case.tokens, m.case.batch), "decode": Work.decode(middle, m.case.batch)}
    return {
        f"{phase}_predicted": predict(
            counted, machine, work, dtype=dtype, cache_passes=engine.cache_passes
        ).speedup_without(more)
        for phase, work in works.items()
    }


def _described(
    m: Measured,
    engine: Engine,
    setting: Setting,
    protocol: Protocol,
    labels: Sequence[str],
    session: TimedSession,
    baseline: Variant | None,
) -> Mapping[str, Any]:
    described: dict[str, Any] = {
        "engine": engine.name,
        "prompt_tokens": m.case.tokens,
        "batch": m.case.batch,
        "new_tokens": m.case.new,
        "rounds": protocol.rounds,
        "warmups": protocol.warmups,
        "runs_a_turn": m.runs,
        "order": f"in turns: {', '.join(labels)}; again for every round",
        "baseline": baseline.name if baseline else None,
        "device": setting.device,
        "dtype": session.dtype or setting.dtype,
        "threads": setting.threads,
        **({"attention": setting.attention} if setting.attention else {}),
        "label": m.name,
    }
    if protocol.machine:
        described["machine"] = to_json(protocol.machine)
    return described | ({"skipped": m.skipped} if m.skipped else {})

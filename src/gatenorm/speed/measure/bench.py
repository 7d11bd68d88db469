"""``gatenorm bench``: time variants in an engine, taking turns; a record for each case and variant."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from gatenorm.engines import Case, Engine, Setting, TimedSession, engines_that
from gatenorm.errors import EvaluationError
from gatenorm.exports.registry import Variant
from gatenorm.models.architecture import Architecture, Work
from gatenorm.progress import Progress
from gatenorm.records import REMOVE, Edits
from gatenorm.records.evidence import Data, PhaseTime, Speed, SpeedProtocol
from gatenorm.records.evidence.speed import PHASES
from gatenorm.records.machine import Machine
from gatenorm.speed.defaults import ROUNDS
from gatenorm.speed.measure.turns import TURN_SECONDS, Measured, measure
from gatenorm.speed.measure.worker import Worker
from gatenorm.speed.predict.cost_model import Times, predict
from gatenorm.speed.predict.machines import THIS, machine_for

DEFAULT_LENGTHS = (128, 512, 2048)
_PROFILED = ("prefill", "decode")


@dataclass(frozen=True)
class Protocol:
    """How often, and beside what: ``machine`` is the one to predict for, if any.

    Short runs are repeated until a turn lasts ``turn_seconds``, and the fastest counts.
    """

    rounds: int = ROUNDS
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
    progress: Progress | None = None,
    open_session: Callable[[Variant], TimedSession] | None = None,
) -> list[Speed]:
    """Measure every case of ``setting`` on the baseline and all variants, in turns.

    Args:
        progress: called with (tokens of turns done, tokens of all turns).
        open_session: how a variant is opened; by default in a process of its own.

    Returns:
        A record for each case and variant, the baseline first; one of a case that could not be run says why.

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
        timed = measure(
            sessions,
            setting.cases,
            protocol.rounds,
            warmups=protocol.warmups,
            turn_seconds=protocol.turn_seconds,
            baseline=labels[0] if baseline else None,
            progress=progress,
        )
        if not any(m.samples for m in timed):
            raise EvaluationError("nothing-measured", f"nothing could be measured: {timed[0].skipped}")
        by_label = dict(zip(labels, everyone, strict=True))
        first = {m.case: m for m in timed if baseline and m.name == labels[0]}
        # What an operation takes of an ideal is predicted for this machine where none is asked for.
        machine = protocol.machine
        records = []
        for m in timed:
            session, variant = sessions[m.name], by_label[m.name]
            speed = Speed(
                model=variant.identity,
                edits=variant.edits,
                protocol=described(
                    m.case,
                    setting,
                    engine=engine.name,
                    dtype=session.dtype or setting.dtype,
                    rounds=protocol.rounds,
                    warmups=protocol.warmups,
                    runs_a_turn=m.runs,
                    order=f"in turns: {', '.join(labels)}; again for every round",
                    baseline=baseline.name if baseline else None,
                    label=m.name,
                    machine=protocol.machine,
                ),
                data=Data(name="random tokens", seed=setting.seed),
                seconds=time.perf_counter() - began,
                versions=dict(session.versions),
                skipped=m.skipped,
                samples=tuple(m.samples),
                attention_shares=tuple(m.shares),
            )
            if m.samples:
                other = first.get(m.case)
                speed = with_times(speed, m)
                if baseline is not None and other is not None and other is not m and other.samples:
                    speed = with_speedups(speed, m, other)
                    more = new_edits(variant, baseline)
                    if more is not None:
                        if machine is None and other.shares and any(edit.operation != REMOVE for edit in more):
                            machine = machine_for(THIS, setting, overheads=True)
                        times = _predicted_times(m.case, baseline, engine, machine, speed.protocol.dtype)
                        speed = _with_ideals(speed, other, more, times)
                        if protocol.machine is not None:
                            speed = _with_predictions(speed, more, times)
            records.append(speed)
        return records


def described(case: Case, setting: Setting, **more: Any) -> SpeedProtocol:
    """The protocol of one case, whatever was measured of it."""
    return SpeedProtocol(
        device=setting.device,
        prompt_tokens=case.tokens,
        batch=case.batch,
        new_tokens=case.new,
        threads=setting.threads,
        attention=setting.attention,
        **more,
    )


def check(engine: Engine, variants: Sequence[Variant]) -> None:
    """Refuse an engine that is not there or reads something else, before anything is loaded."""
    engine.check_installed()
    for variant in variants:
        if variant.form not in engine.reads:
            problem, expected = f"does not read {variant.path}, which is {variant.form}", " or ".join(engine.reads)
            hint = f"{' or '.join(e.name for e in engines_that('times') if variant.form in e.reads)} reads it"
            raise EvaluationError(
                "engine-cannot-read", problem, field="engine", given=engine.name, expected=expected, hint=hint
            )


def labels_of(variants: Sequence[Variant]) -> list[str]:
    """Names, or paths where two have the same name; a model may be measured against itself."""
    names = [v.name for v in variants]
    labels = [name if names.count(name) == 1 else str(v.path) for name, v in zip(names, variants, strict=True)]
    return [f"{one} ({labels[:i].count(one) + 1})" if one in labels[:i] else one for i, one in enumerate(labels)]


def with_times(speed: Speed, m: Measured) -> Speed:
    """The record with what the variant took."""
    return replace(
        speed,
        **{name: PhaseTime(seconds=m.seconds(name)) for name in PHASES},
        decode_tokens_per_second=m.tokens_per_second(),
        cache_bytes=m.cache_bytes,
        peak_bytes=m.peak_bytes,
    )


def with_speedups(speed: Speed, m: Measured, first: Measured) -> Speed:
    """The record with its speed-ups over the first variant, round by round."""
    phases = {name: replace(speed.phase(name), speedup=m.speedup(first, name)) for name in PHASES}
    own, whole = m.cache_bytes, first.cache_bytes
    return replace(speed, **phases, cache_share_removed=1 - own / whole if own is not None and whole else None)


def _with_ideals(speed: Speed, first: Measured, more: Edits, times: Mapping[str, Times]) -> Speed:
    """The ideals of the phases that are profiled; of attention alone, as no MLP is."""
    if not first.shares or more.mlp or not (times or all(edit.operation == REMOVE for edit in more)):
        return speed
    phases = {}
    for name in _PROFILED:
        left = {edit.layer: times[name].left(edit) if edit.operation != REMOVE else 0.0 for edit in more}
        phases[name] = replace(speed.phase(name), ideal=first.ideal(name, left))
    return replace(speed, **phases)


def _with_predictions(speed: Speed, more: Edits, times: Mapping[str, Times]) -> Speed:
    phases = {name: replace(speed.phase(name), predicted=one.speedup_with(more)) for name, one in times.items()}
    return replace(speed, **phases)


def new_edits(variant: Variant, baseline: Variant) -> Edits | None:
    """What was done to the variant beyond the baseline; ``None`` where it is not an edited form of it."""
    same = variant.identity.layers == baseline.identity.layers and not baseline.edits - variant.edits
    return variant.edits - baseline.edits if same else None


def _predicted_times(
    case: Case, baseline: Variant, engine: Engine, machine: Machine | None, dtype: str | None
) -> dict[str, Times]:
    """The baseline's times on a machine by phase; none without a machine, or where the files hold no whole model."""
    if machine is None or baseline.layout is None:
        return {}
    counted = Architecture.of(baseline.layout)
    if not counted.runs:
        return {}
    middle = case.tokens + case.new // 2  # the context grows while new tokens come
    works = {"prefill": Work.prefill(case.tokens, case.batch), "decode": Work.decode(middle, case.batch)}
    known = None if dtype == "auto" else dtype
    return {
        name: predict(counted, machine, work, dtype=known, cache_passes=engine.cache_passes)
        for name, work in works.items()
    }

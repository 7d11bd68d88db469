"""Speed measured: variants in turns, and what attention and MLP take of a model's time."""

import os
from collections.abc import Sequence
from pathlib import Path

from gatenorm.api.opening import ModelLike, open_model
from gatenorm.engines import Engine, Setting, engine_for, engine_named, engines_that, threads_at_hand
from gatenorm.errors import EvaluationError
from gatenorm.exports.registry import Variant
from gatenorm.models.loading import check_hardware
from gatenorm.models.model import TRANSFORMERS
from gatenorm.progress import Progress
from gatenorm.records import Results
from gatenorm.records.evidence.speed import Profile, Speed
from gatenorm.speed.defaults import NEW_TOKENS, ROUNDS
from gatenorm.speed.measure import bench as measuring
from gatenorm.speed.measure.profile_report import profile_model
from gatenorm.speed.predict.machines import THIS, machine as machine_named, machine_for, machines

_ATTENTIONS = ("sdpa", "eager")


def bench(
    models: Sequence[ModelLike],
    baseline: ModelLike | None = None,
    *,
    engine: str | None = None,
    lengths: Sequence[int] | None = None,
    batches: Sequence[int] = (1,),
    new_tokens: int = NEW_TOKENS,
    rounds: int = ROUNDS,
    machine: str | None = None,
    device: str = "cpu",
    dtype: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
) -> Results[Speed]:
    """Latency, throughput, memory and cache of models against a baseline, all measured in turns.

    Args:
        models: checkpoints, or what :func:`gatenorm.export` wrote.
        engine: ``transformers`` for directories and what else reads an exported file by default.
        lengths: prompt lengths; 128, 512 and 2,048 as the contexts allow by default.
        new_tokens: tokens decoded after each prompt; 32 by default.
        rounds: times that everything is measured; 5 by default.
        machine: also predict for it: ``this``, or a name such as ``h100-sxm``.
        threads: of the processor; all that this process may use by default.

    Raises:
        EvaluationError: an engine, a data type, a device, a machine or a length that does not exist or does not fit.
        CheckpointError, FamilyError, MissingExtraError: as opening and loading.
    """
    named = engine_named(engine, "times") if engine else None
    if machine not in (None, THIS, *machines()):
        machine_named(str(machine))  # whose error lists the known ones
    first, others = _variant(baseline) if baseline is not None else None, [_variant(model) for model in models]
    everyone = [*([first] if first else []), *others]
    timed = named or _engine_of(everyone)
    if dtype not in ("auto", *timed.dtypes):
        problem, expected = f"is not a data type of {timed.name}", ", ".join(("auto", *timed.dtypes))
        raise EvaluationError("dtype-unknown", problem, field="dtype", given=dtype, expected=expected)
    measuring.check(timed, everyone)
    if timed.name == TRANSFORMERS:
        check_hardware(device, dtype)
    cases = measuring.cases(lengths, batches, new_tokens, everyone)
    setting = Setting(cases=cases, device=device, dtype=dtype, threads=threads or threads_at_hand())
    known = None if machine is None else machine_for(machine, setting, overheads=timed.name == TRANSFORMERS)
    protocol = measuring.Protocol(rounds, machine=known)
    return Results(measuring.bench(others, timed, setting, protocol, baseline=first, progress=progress))


def profile(
    model: ModelLike,
    *,
    lengths: Sequence[int] | None = None,
    batches: Sequence[int] = (1,),
    new_tokens: int = 8,
    rounds: int = 3,
    attention: str | None = None,
    device: str = "cpu",
    dtype: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
) -> Results[Profile]:
    """The time of attention and of MLP by prompt length, and their shares of weights, FLOPs and cache.

    Args:
        rounds: runs of which the median counts.
        attention: ``sdpa`` or ``eager``; what transformers chooses by default.
        lengths, batches, new_tokens, threads: as in :func:`bench`.

    Raises:
        EvaluationError, CheckpointError, FamilyError, MissingExtraError: as :func:`bench`.
    """
    if attention not in (None, *_ATTENTIONS):
        raise EvaluationError.unknown("attention", attention, _ATTENTIONS)
    layout = open_model(model)
    cases = measuring.cases(lengths, batches, new_tokens, [Variant.of(layout)])
    check_hardware(device, dtype)
    threads = threads or threads_at_hand()
    setting = Setting(cases=cases, device=device, dtype=dtype, threads=threads, attention=attention)
    return Results(profile_model(layout, setting, rounds, progress))


def _engine_of(variants: Sequence[Variant]) -> Engine:
    forms = {variant.form for variant in variants}
    if forms == {TRANSFORMERS}:  # whatever else is installed that would read directories
        return engine_named(TRANSFORMERS)
    if len(forms) == 1 or any(forms <= {*one.reads} for one in engines_that("times")):
        return engine_for(min(forms - {TRANSFORMERS}), able="times")
    problem = f"no engine that is timed reads all of {', '.join(sorted(forms))}"
    raise EvaluationError("forms-mixed", problem, hint="export the others too, so that one engine reads all")


def _variant(model: ModelLike) -> Variant:
    exported = Variant.exported(Path(model)) if isinstance(model, (str, os.PathLike)) else None
    return exported or Variant.of(open_model(model))

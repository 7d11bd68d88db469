"""What the cost model says, for commands that show it or choose by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gatenorm.cli import console
from gatenorm.errors import PlanError, named

DEFAULT_CONTEXT = 4096
_SHARES = (0.1, 0.2, 0.4)
_LONG = 8


def contexts(layout: Any, asked: int | None) -> list[int]:
    """The context lengths to predict for: the one asked for, or 4,096 and the model's longest, at most 32,768.

    Raises:
        PlanError: longer than the model's context.
    """
    longest = layout.context
    if asked is not None:
        if longest and asked > longest:
            raise PlanError(
                "context-too-long", f"is longer than the model's {longest:,} tokens", field="context", given=asked
            )
        return [asked]
    usual = min(DEFAULT_CONTEXT, longest or DEFAULT_CONTEXT)
    far = min(longest or usual, _LONG * DEFAULT_CONTEXT)
    return [usual] if far <= usual else [usual, far]


def predictions(layout: Any, machine: str, context: int | None, batch: int) -> list[Any]:
    """What removing about 10%, 20% and 40% of the attention sublayers would bring, at each context length.

    Raises:
        EvaluationError: an unknown machine, or a checkpoint that is no whole model.
        PlanError: a context longer than the model's.
    """
    from gatenorm.models.architecture import Architecture
    from gatenorm.speed.predict.cost_model import forecast
    from gatenorm.surgery.planning import count_for_share

    lengths, there = contexts(layout, context), len(layout.attention_layers)
    counted, known = Architecture.of(layout), opened_machine(layout, machine)
    counts = dict.fromkeys(count_for_share(share, there) for share in _SHARES)
    return [forecast(counted, known, n, length, batch) for n in counts if n < there for length in lengths]


def opened_machine(layout: Any, name: str) -> Any:
    """The machine of that name; ``this`` is measured in the type that the weights are stored in.

    Raises:
        EvaluationError: an unknown name.
    """
    from gatenorm.speed.predict.machines import THIS, machine

    stored = {t.dtype for t in layout.checkpoint.specs.values()}
    dtype = "bfloat16" if stored & {"BF16", "F16"} else "float32"
    if name != THIS:
        return machine(name)
    with console.progress_bar("measuring this machine"):
        return machine(THIS, dtype)


def in_words(found: list[Any]) -> str:
    """``8 of 80: prefill 1.04x at 4,096, 1.10x at 32,768; decode ...; cache -10%``, a line for each count."""
    lines = []
    for count in dict.fromkeys(f.count for f in found):
        same = [f for f in found if f.count == count]
        prefill = ", ".join(f"{f.prefill:.2f}x at {f.context:,}" for f in same)
        decode = ", ".join(f"{f.decode:.2f}x at {f.context:,}" for f in same)
        lines.append(f"{count} of {same[0].of}: prefill {prefill}; decode {decode}; cache -{same[0].cache:.0%}")
    return "\n".join(lines)


def count_for(
    layout: Any,
    *,
    target: str | None,
    max_cache_gb: float | None,
    machine: str,
    context: int | None,
    batch: int,
    protect: Sequence[int],
    kind: str = "attention",
) -> tuple[int, str]:
    """The smallest number of removals that meets the targets by the cost model, and what it predicts, in words.

    Args:
        target: a speed-up such as ``1.2``, which prefill and decode must both reach, or ``prefill=1.2`` or
            ``decode=1.2``.
        max_cache_gb: gigabytes (10^9 bytes) that the key/value cache may take at ``context`` and ``batch``.
        protect: layers that must stay.
        kind: what goes of a layer: ``attention``, ``mlp``, or ``block`` for both.

    Raises:
        PlanError: a target that is no speed-up, or out of reach, or a smaller cache from MLPs, which have none.
        EvaluationError: as :func:`predictions`.
    """
    from gatenorm.models.architecture import Architecture
    from gatenorm.speed.predict.cost_model import forecasts
    from gatenorm.surgery.planning import check_count, count_for_target, most_removable, speedup_target

    # Both before a machine is measured.
    phases, wanted = speedup_target(target) if target is not None else ((), 1.0)
    if max_cache_gb is not None and not max_cache_gb > 0:
        raise PlanError(
            "cache-out-of-range", "is out of range", field="max_cache_gb", given=max_cache_gb, expected="GB above 0"
        )
    if max_cache_gb is not None and kind == "mlp":
        raise PlanError(
            "mlp-without-cache",
            "cannot be reached without MLPs, which have no KV cache",
            field="max_cache_gb",
            given=max_cache_gb,
            expected=f"{named('kind')} attention or block",
        )
    length = contexts(layout, context)[0]
    check_count(layout, 1, protect, kind)
    free = most_removable(layout, protect, kind)
    counted = Architecture.of(layout)
    now = counted.cache_bytes(length, batch)
    if max_cache_gb is not None and not phases and now <= max_cache_gb * 1e9:
        size = console.bytes_for_people(now)
        raise PlanError(
            "cache-fits",
            f"is met by the unpruned model: {size} at {length:,} tokens, batch {batch}",
            field="max_cache_gb",
            given=max_cache_gb,
        )
    found = forecasts(counted, opened_machine(layout, machine), length, batch, kind=kind)[:free]
    counts = [0]
    if phases:
        reached = [min(getattr(f, phase) for phase in phases) for f in found]
        counts.append(count_for_target(reached, wanted, "target_speedup"))
    if max_cache_gb is not None and now > max_cache_gb * 1e9:
        least = console.bytes_for_people(found[-1].cache_bytes if found else now)
        if not found or found[-1].cache_bytes > max_cache_gb * 1e9:
            raise PlanError(
                "out-of-reach",
                f"is out of reach: {least} remain with {len(found)} removed",
                field="max_cache_gb",
                given=max_cache_gb,
            )
        # Negated: what is wanted is at least so little.
        counts.append(count_for_target([-f.cache_bytes for f in found], -max_cache_gb * 1e9, "max_cache_gb"))
    chosen = found[max(counts) - 1]
    return chosen.count, (
        f"predicted by the cost model on {machine}, {length:,} tokens, batch {batch}: prefill {chosen.prefill:.2f}x, "
        f"decode {chosen.decode:.2f}x, cache {console.bytes_for_people(chosen.cache_bytes)}"
    )

"""How many edits a target needs by the cost model, and what usual numbers of them would bring."""

from collections.abc import Sequence
from dataclasses import dataclass

from gatenorm.errors import PlanError, named
from gatenorm.families import Layout
from gatenorm.models.architecture import Architecture
from gatenorm.records import ATTENTION, MLP, REMOVE
from gatenorm.records.machine import Machine
from gatenorm.speed.predict.cost_model import Forecast, forecast, forecasts
from gatenorm.speed.predict.machines import DEFAULT, machine
from gatenorm.surgery.operation import check_operation
from gatenorm.surgery.planning import check_count, count_for_share, most_removable

DEFAULT_CONTEXT = 4096
_SHARES = (0.1, 0.2, 0.4)
_LONG = 8


def predictions(layout: Layout, machine_name: str, context: int | None = None, batch: int = 1) -> list[Forecast]:
    """What removing about 10%, 20% and 40% of the attention sublayers would bring, at each context length.

    Raises:
        EvaluationError: an unknown machine, or a checkpoint that is no whole model.
        PlanError: a context longer than the model's.
    """
    lengths, attentions = contexts(layout, context), len(layout.attention_layers)
    counted, known = Architecture.of(layout), machine_of(layout, machine_name)
    counts = dict.fromkeys(count_for_share(share, attentions) for share in _SHARES)
    return [forecast(counted, known, n, length, batch) for n in counts if n < attentions for length in lengths]


@dataclass(frozen=True)
class Target:
    """What is to be reached by predictions for a machine, context and batch.

    ``speedup`` is ``1.2`` for prefill and decode, or ``prefill=1.2`` or ``decode=1.2``; ``cache_gb`` gigabytes (10^9
    bytes) that the key/value cache may take.
    """

    speedup: str | None = None
    cache_gb: float | None = None
    machine: str = DEFAULT
    context: int | None = None
    batch: int = 1

    def parsed(self) -> tuple[tuple[str, ...], float, float | None]:
        """Of which phases which speed-up, and the bytes that the cache may take.

        Raises:
            PlanError: it is no speed-up, or no size.
        """
        phases, wanted = speedup_target(self.speedup) if self.speedup is not None else ((), 1.0)
        limit = None if self.cache_gb is None else self.cache_gb * 1e9
        if limit is not None and not limit > 0:
            raise PlanError.out_of_range("max_cache_gb", self.cache_gb, "GB above 0", "cache-out-of-range")
        return phases, wanted, limit


def smallest_removal(
    layout: Layout, target: Target, protect: Sequence[int] = (), kind: str = ATTENTION, operation: str = REMOVE
) -> Forecast | None:
    """The forecast for the smallest number of edits that meets the target; ``None`` where the cache fits as it is.

    Raises:
        PlanError: a target that is no speed-up, or out of reach, or a smaller cache from MLPs, which have none.
        EvaluationError: as :func:`predictions`.
    """
    # Before a machine is measured.
    phases, wanted, limit = target.parsed()
    if limit is not None and kind == MLP:
        problem = "cannot be reached without MLPs, which have no KV cache"
        expected = f"{named('kind')} attention or block"
        raise PlanError("mlp-without-cache", problem, field="max_cache_gb", given=target.cache_gb, expected=expected)
    length, counted, batch = contexts(layout, target.context)[0], Architecture.of(layout), target.batch
    check_count(layout, 1, protect, kind)
    check_operation(operation, kind)
    smaller = limit is not None and counted.cache_bytes(length, batch) > limit
    if not phases and not smaller:
        return None
    predicted = forecasts(counted, machine_of(layout, target.machine), length, batch, kind=kind, operation=operation)
    predicted = predicted[: most_removable(layout, protect, kind)]
    counts = []
    if phases:
        reached = [min(getattr(f, phase) for phase in phases) for f in predicted]
        counts.append(count_for_target(reached, wanted, "target_speedup"))
    if smaller and limit is not None:
        least = predicted[-1].cache_bytes if predicted else counted.cache_bytes(length, batch)
        if least > limit:
            problem = f"is out of reach: {least / 1e9:.3g} GB remain with {len(predicted)} removed"
            raise PlanError("out-of-reach", problem, field="max_cache_gb", given=target.cache_gb)
        counts.append(next(f.count for f in predicted if f.cache_bytes <= limit))
    return predicted[max(counts) - 1]


def speedup_target(text: str) -> tuple[tuple[str, ...], float]:
    """What a target speed-up asks for: of which phases (``prefill``, ``decode`` or both), and how much.

    Raises:
        PlanError: it is no number above 1, alone or behind ``prefill=`` or ``decode=``.
    """
    phase, equals, number = text.rpartition("=")
    try:
        wanted = float(number)
    except ValueError:
        wanted = 0.0
    if not 1 < wanted < 1000 or (equals and phase not in ("prefill", "decode")):
        expected = "a number above 1 such as 1.2, prefill=1.2 or decode=1.2"
        raise PlanError("speedup-wrong", "is no speed-up", field="target_speedup", given=text, expected=expected)
    return (phase,) if equals else ("prefill", "decode"), wanted


def count_for_target(reached: Sequence[float], wanted: float, what: str) -> int:
    """The smallest number of removals that is enough.

    Args:
        reached: what editing 1, 2, ... sublayers brings, as many as can be.
        wanted: how much of it is asked for.
        what: the parameter that holds it, for the error.

    Raises:
        PlanError: all of them are not enough.
    """
    for count, value in enumerate(reached, start=1):
        if value >= wanted:
            return count
    best = max(range(len(reached)), key=reached.__getitem__, default=-1)  # what replaces may be slower: it can fall
    most = f"{best + 1} sublayers give {abs(reached[best]):.4g} at most" if reached else "no layer can be removed"
    raise PlanError("out-of-reach", f"is out of reach: {most}", field=what, given=f"{abs(wanted):g}")


def contexts(layout: Layout, asked: int | None) -> list[int]:
    """The context lengths to predict for: the one that is asked for, or a usual one and a long one of this model's.

    Raises:
        PlanError: it is longer than the model's.
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


def machine_of(layout: Layout, name: str) -> Machine:
    """The machine of that name; ``this`` is measured in the type of the model's weights."""
    stored = {t.dtype for t in layout.checkpoint.specs.values()}
    return machine(name, "bfloat16" if stored & {"BF16", "F16"} else "float32")

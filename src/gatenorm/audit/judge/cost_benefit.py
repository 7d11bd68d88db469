"""What a variant saves, from measured throughput, and where it does not pay."""

import statistics
from collections.abc import Sequence

import msgspec

from gatenorm.audit.judge.gates import SPEED_UP, gates, outcome_at
from gatenorm.audit.judge.metrics import judged_requests, speed_value
from gatenorm.findings import RequestSpeedup, request_speedups
from gatenorm.records.audit import FAILS, INCONCLUSIVE, PASSES, WORST_FIRST, CostBenefit, CostCase
from gatenorm.records.evidence import Evidence, Speed

_PHASES = ("prefill", "decode")


def cost_benefit(
    before: Sequence[Evidence],
    after: Sequence[Evidence],
    *,
    price: float | None = None,
    currency: str = "",
    least: float | None = None,
) -> CostBenefit | None:
    """Cost per million tokens before and after, case by case, and a sentence that says whether that pays.

    With ``s`` seconds for a request of ``t`` prompt tokens and ``n`` new ones in a batch of ``b``, and the price ``p``
    of an hour: ``p s / 3600 / (b (t + n)) x 10^6``; per million new tokens alone ``p / (3600 v) x 10^6`` with the
    decode throughput ``v`` in tokens a second. Without a price only the speeds are compared;
    ``None`` where nothing was timed. A case pays by the rule of the gate on speed.

    Args:
        price: of an hour of the machine, in ``currency``.
        least: the speed-up from which it pays; without one, that which the gate asks for by default.
    """
    least = gates()[SPEED_UP].limit if least is None else least
    assert least is not None
    timed = request_speedups(before, after)
    if not timed:
        return None
    cases = [_case(speedup, price, least) for speedup in timed]
    # Of several engines the worst, as the gate on speed has it.
    judged = [_case(speedup, price, least) for speedup in judged_requests(timed)]
    quoted = min(judged, key=lambda case: (WORST_FIRST.index(case.outcome), case.request_speedup))
    benefit = CostBenefit(cases=tuple(cases), quoted=quoted, sentence=_sentence(cases, quoted, currency))
    return msgspec.structs.replace(benefit, price_per_hour=price, currency=currency) if price else benefit


def _case(speedup: RequestSpeedup, price: float | None, least: float) -> CostCase:
    before, after, protocol = speedup.before, speedup.after, speedup.after.protocol
    tokens, new, batch = protocol.prompt_tokens, protocol.new_tokens, protocol.batch
    speedups = {f"{name}_speedup": spread.median for name in _PHASES if (spread := after.phase(name).speedup)}
    costs = {}
    if price:
        for name, record in (("before", before), ("after", after)):
            middle = statistics.median(record.request_seconds)
            throughput = record.numbers()["decode_tokens_per_second"]
            costs[f"cost_per_million_{name}"] = price * middle / 3600 / (batch * (tokens + new)) * 1e6
            costs[f"cost_per_million_new_{name}"] = price / (3600 * throughput) * 1e6
    return CostCase(
        engine=protocol.engine,
        prompt_tokens=tokens,
        new_tokens=new,
        batch=batch,
        request_speedup=speedup.value,
        request_speedup_low=speedup.low,
        request_speedup_high=speedup.high,
        rounds=speedup.rounds,
        outcome=outcome_at(least, speed_value(speedup), least=True),
        request_ideal=_ideal(before, after),
        cache_share_removed=after.cache_share_removed,
        **speedups,
        **costs,
    )


def _ideal(before: Speed, after: Speed) -> float | None:
    """``T / (P / p + D / d)``: a request's speed-up if nothing cost time but what stays and what replaces attention.

    ``P`` and ``D`` are the unpruned model's median seconds of prefill and decode, ``T`` their sum, ``p`` and ``d`` the
    ideals of either phase, where the profile gave them.
    """
    ideals = [after.phase(phase).ideal for phase in _PHASES]
    if None in ideals:
        return None
    seconds = [statistics.median(getattr(sample, phase) for sample in before.samples) for phase in _PHASES]
    left = sum(s / ideal for s, ideal in zip(seconds, ideals, strict=True) if ideal)
    return sum(seconds) / left if left else None


def how_fast(case: CostCase) -> str:
    """``1.21 times as fast (1.19 to 1.24) at 2,048 + 32 tokens in transformers``."""
    low, high = case.request_speedup_low, case.request_speedup_high
    span = f"{case.rounds} rounds, too few for an interval" if low is None else f"{low:.2f} to {high:.2f}"
    at = f"{case.prompt_tokens:,} + {case.new_tokens} tokens in {case.engine}"
    return f"{case.request_speedup:.2f} times as fast ({span}) at {at}"


def _sentence(cases: Sequence[CostCase], first: CostCase, currency: str) -> str:
    said = f"a request is {how_fast(first)}"
    if first.request_ideal is not None:
        said += f"; at its ideal it would be {first.request_ideal:.2f} times"
    if first.outcome == INCONCLUSIVE:
        return f"Whether it pays is inconclusive: {said}; more rounds, or a quieter machine, would tell."
    said = f"It does not pay here: {said}" if first.outcome == FAILS else f"A{said[1:]}"
    before, after = first.cost_per_million_before, first.cost_per_million_after
    if first.outcome == PASSES and before is not None:
        unit = f"{currency} ".lstrip()
        said += f", {unit}{before:.4g} for a million tokens before and {unit}{after:.4g} after"
    others: dict[str, list[str]] = {}
    for case in cases:
        if {case.outcome, first.outcome} == {PASSES, FAILS}:
            others.setdefault(case.engine, []).append(f"{case.prompt_tokens:,}")
    if others:
        listed = " and ".join(f"{', '.join(dict.fromkeys(sizes))} in {engine}" for engine, sizes in others.items())
        said += f"; with prompts of {listed} it {'does' if first.outcome == FAILS else 'does not pay'}"
    return said + "."

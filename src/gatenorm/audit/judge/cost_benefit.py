"""What a variant saves, from measured throughput, and where it does not pay."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import msgspec

from gatenorm.audit.plan.config import Cost
from gatenorm.findings import RequestSpeedup, request_speedups
from gatenorm.records.audit import CostBenefit, CostCase
from gatenorm.records.evidence import Evidence, Speed

# Below this, a saving is no reason to change a model.
_PAYS = 1.02
_PHASES = ("prefill", "decode")


def cost_benefit(before: Sequence[Evidence], after: Sequence[Evidence], price: Cost) -> CostBenefit | None:
    """Cost per million tokens before and after, case by case, and a sentence that says whether that pays.

    With ``s`` seconds for a request of ``t`` prompt tokens and ``n`` new ones in a batch of ``b``, and the price ``p``
    of an hour: ``p s / 3600 / (b (t + n)) x 10^6``; per million new tokens alone ``p / (3600 v) x 10^6`` with the
    decode throughput ``v`` in tokens a second. Without a price only the speeds are compared;
    ``None`` where nothing was timed.
    """
    cases = [_case(speedup, price) for speedup in request_speedups(before, after)]
    if not cases:
        return None
    benefit = CostBenefit(cases=tuple(cases), sentence=_sentence(cases, price))
    if not price.price_per_hour:
        return benefit
    return msgspec.structs.replace(benefit, price_per_hour=price.price_per_hour, currency=price.currency)


def _case(speedup: RequestSpeedup, price: Cost) -> CostCase:
    before, after, protocol = speedup.before, speedup.after, speedup.after.protocol
    tokens, new, batch = protocol.prompt_tokens, protocol.new_tokens, protocol.batch
    speedups = {f"{name}_speedup": found.median for name in _PHASES if (found := after.phase(name).speedup)}
    costs = {}
    if price.price_per_hour:
        for name, record in (("before", before), ("after", after)):
            middle = statistics.median(record.request_seconds)
            throughput = record.numbers()["decode_tokens_per_second"]
            costs[f"cost_per_million_{name}"] = price.price_per_hour * middle / 3600 / (batch * (tokens + new)) * 1e6
            costs[f"cost_per_million_new_{name}"] = price.price_per_hour / (3600 * throughput) * 1e6
    return CostCase(
        engine=protocol.engine,
        prompt_tokens=tokens,
        new_tokens=new,
        batch=batch,
        request_speedup=speedup.value,
        request_speedup_low=speedup.low,
        request_speedup_high=speedup.high,
        rounds=speedup.rounds,
        request_ideal=_ideal(before, after),
        cache_share_removed=after.cache_share_removed,
        **speedups,
        **costs,
    )


def _ideal(before: Speed, after: Speed) -> float | None:
    """``T / (P / p + D / d)``: a request's speed-up if the removed attention cost nothing and all else stayed.

    ``P`` and ``D`` are the unpruned model's median seconds of prefill and decode, ``T`` their sum, ``p`` and ``d`` the
    ideals of either phase, where the profile gave them.
    """
    ideals = [after.phase(phase).ideal for phase in _PHASES]
    if None in ideals:
        return None
    seconds = [statistics.median(getattr(sample, phase) for sample in before.samples) for phase in _PHASES]
    left = sum(s / ideal for s, ideal in zip(seconds, ideals, strict=True) if ideal)
    return sum(seconds) / left if left else None


def _sentence(cases: Sequence[CostCase], price: Cost) -> str:
    # One that is proven to pay speaks before one that may, and that before one that is proven not to.
    best = max(cases, key=lambda c: (_proven(c), not _does_not_pay(c), c.request_speedup))
    where = f"{best.prompt_tokens:,} prompt and {best.new_tokens} new tokens in {best.engine}"
    said = f"request of {where} is {best.request_speedup:.2f} times as fast"
    low, high = best.request_speedup_low, best.request_speedup_high
    span = f"{best.rounds} rounds, too few for an interval" if low is None else f"{low:.2f} to {high:.2f}"
    ideal = best.request_ideal
    could = "" if ideal is None else f"; were the attention of these layers free, it would be {ideal:.2f} times"
    if _does_not_pay(best):
        return f"It does not pay here: a {said} ({span}){could}."
    if not _proven(best):
        more = "more rounds, or a quieter machine, would tell"
        return f"Whether it pays is inconclusive: a {said} ({span}){could}; {more}."
    said = f"A {said}"
    if price.price_per_hour:
        before, after = best.cost_per_million_before, best.cost_per_million_after
        unit = f"{price.currency} ".lstrip()
        said += f", {unit}{before:.4g} for a million tokens before and {unit}{after:.4g} after"
    short = [c for c in cases if _does_not_pay(c)]
    if short:
        lengths: dict[str, list[str]] = {}
        for c in short:
            lengths.setdefault(c.engine, []).append(f"{c.prompt_tokens:,}")
        listed = " and ".join(f"{', '.join(dict.fromkeys(sizes))} in {engine}" for engine, sizes in lengths.items())
        said += f"; with prompts of {listed} it does not pay"
    return said + "."


def _proven(case: CostCase) -> bool:
    low = case.request_speedup_low
    return bool(case.request_speedup >= _PAYS and low is not None and low >= 1)


def _does_not_pay(case: CostCase) -> bool:
    """Proven not to pay: the whole interval lies below what pays."""
    high = case.request_speedup_high
    return high is not None and bool(high < _PAYS)

"""What a variant is worth in money, from measured throughput, and where it does not pay."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from gatenorm.audit.config import Worth
from gatenorm.audit.readings import requests, unpruned
from gatenorm.records import Evidence

# Below this, a saving is no reason to change a model.
_PAYS = 1.02


def worth(before: Sequence[Evidence], after: Sequence[Evidence], asked: Worth) -> dict[str, Any]:
    """Cost per million tokens before and after, case by case, and a sentence where that does not pay.

    With ``s`` seconds for a request of ``t`` prompt tokens and ``n`` new ones in a batch of ``b``, and the price ``p``
    of an hour: ``p s / 3600 / (b (t + n)) x 10^6``; per million new tokens alone ``p / (3600 v) x 10^6`` with the
    decode throughput ``v`` in tokens a second. Without a price only the speeds are compared.
    """
    found = []
    for evidence in after:
        partner = unpruned(before, evidence) if evidence.kind == "speed" and evidence.figures else None
        if partner is not None:
            found.append(_case(partner, evidence, asked))
    if not found:
        return {}
    price = {"price_per_hour": asked.price_per_hour, "currency": asked.currency} if asked.price_per_hour else {}
    return {**price, "cases": found, "sentence": _sentence(found, asked)}


def _case(before: Evidence, after: Evidence, asked: Worth) -> dict[str, Any]:
    protocol = after.protocol
    tokens, new, batch = protocol["prompt_tokens"], protocol["new_tokens"], protocol["batch"]
    ratios = sorted(b / a for b, a in zip(requests(before), requests(after), strict=True))
    case: dict[str, Any] = {
        "engine": protocol["engine"],
        "prompt_tokens": tokens,
        "new_tokens": new,
        "batch": batch,
        "request_speedup": statistics.median(ratios),
        "request_speedup_low": ratios[0],
        "request_speedup_high": ratios[-1],
        "prefill_speedup": after.figures["prefill_speedup"],
        "decode_speedup": after.figures["decode_speedup"],
    }
    if "cache_share_removed" in after.figures:
        case["cache_share_removed"] = after.figures["cache_share_removed"]
    if asked.price_per_hour:
        for name, record in (("before", before), ("after", after)):
            middle = statistics.median(requests(record))
            throughput = record.figures["decode_tokens_per_second"]
            case[f"cost_per_million_{name}"] = asked.price_per_hour * middle / 3600 / (batch * (tokens + new)) * 1e6
            case[f"cost_per_million_new_{name}"] = asked.price_per_hour / (3600 * throughput) * 1e6
    return case


def _sentence(cases: Sequence[dict[str, Any]], asked: Worth) -> str:
    best = max(cases, key=lambda c: float(c["request_speedup"]))
    where = f"{best['prompt_tokens']:,} prompt and {best['new_tokens']} new tokens in {best['engine']}"
    if best["request_speedup"] < _PAYS or best["request_speedup_low"] < 1:
        return (
            f"It does not pay here: a request of {where} is {best['request_speedup']:.2f} times as fast "
            f"({best['request_speedup_low']:.2f} to {best['request_speedup_high']:.2f}); at such lengths the time lies "
            "elsewhere than in attention, or the machine was too busy to tell."
        )
    said = f"A request of {where} is {best['request_speedup']:.2f} times as fast"
    if asked.price_per_hour:
        before, after = best["cost_per_million_before"], best["cost_per_million_after"]
        unit = f"{asked.currency} ".lstrip()
        said += f", {unit}{before:.4g} for a million tokens before and {unit}{after:.4g} after"
    short = [c for c in cases if c["request_speedup"] < _PAYS]
    if short:
        lengths: dict[str, list[str]] = {}
        for c in short:
            lengths.setdefault(c["engine"], []).append(f"{c['prompt_tokens']:,}")
        told = " and ".join(f"{', '.join(dict.fromkeys(found))} in {engine}" for engine, found in lengths.items())
        said += f"; with prompts of {told} it does not pay"
    return said + "."

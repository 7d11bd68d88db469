"""The options of ``gatenorm audit`` beside its configuration: what they change in it, and how errors name them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from gatenorm.cli import options
from gatenorm.errors import AuditError, GatenormError

# Which option gives which key of the configuration; parameters are called as the options are.
_OPTIONS: Mapping[str, str] = {
    "budgets.layers": "layers",
    "budgets.shares": "share",
    "budgets.target_speedup": "target_speedup",
    "budgets.max_cache_gb": "max_cache_gb",
    "rankings.criteria": "criteria",
    "rankings.calibration": "calibration",
    "rankings.protect": "protect",
    "evaluation.texts": "data",
    "evaluation.zeroshot": "zeroshot",
    "evaluation.domain": "domain",
    "evaluation.refusal": "refusal",
    "speed.engines": "engine",
    "speed.lengths": "lengths",
    "speed.rounds": "rounds",
    "worth.price_per_hour": "price_per_hour",
    "recovery.data": "recover_data",
    "search.gate": "search",
    **{f"run.{n}": n for n in ("executor", "ray_address", "device", "dtype", "batch_size", "threads", "seed")},
}
_KEY = re.compile(r"\b(?:gates\.[\w-]+|[a-z]+\.[a-z_]+)(?:\[\d+\])?")


@contextmanager
def named(given: Mapping[str, Any]) -> Iterator[None]:
    """Errors that name keys of the configuration name the options by which these were ``given``."""
    try:
        yield
    except GatenormError as error:
        error.problem = _KEY.sub(lambda found: _option(found[0], given) or found[0], str(error))
        raise


def _option(key: str, given: Mapping[str, Any]) -> str:
    """The option that gave a key; empty where none did."""
    section, _, rest = key.partition(".")
    if section == "gates":
        if rest == "perplexity-rise" and given["max_perplexity_rise"] is not None:
            return "--max-perplexity-rise"
        return f"--gate {rest}" if any(g.partition("=")[0] == rest for g in given["gate"] or ()) else ""
    parameter = _OPTIONS.get(key.partition("[")[0], "")
    if parameter == "search" and given["search"] is None:
        parameter = "max_perplexity_rise"
    return f"--{parameter.replace('_', '-')}" if parameter and given[parameter] is not None else ""


def merged(settings: Any, given: dict[str, Any]) -> Any:
    """The configuration with what the command line says beside it.

    Raises:
        AuditError: a value that cannot stand there.
    """
    from gatenorm.audit.judge.gates import check_gates

    limit = given["limit"]
    texts = None
    if given["data"]:
        how = {"documents": given["documents"], "window": given["window"], "limit": limit}
        texts = [{"data": text, **_for_text(text, how)} for text in given["data"]]
    elif given["documents"] or given["window"]:
        raise AuditError("--documents and --window are about the texts of --data: give it, or write both into --config")
    settings = settings.changed(
        "evaluation",
        texts=texts,
        zeroshot=given["zeroshot"],
        domain=given["domain"],
        refusal=given["refusal"],
        stories_limit=limit,
        zeroshot_limit=limit,
        domain_limit=limit,
        refusal_limit=limit,
        retrieval_limit=limit,
    )
    settings = settings.changed(
        "rankings",
        criteria=_names(given["criteria"]),
        calibration=given["calibration"],
        protect=None if given["protect"] is None else options.indices(given["protect"], "--protect"),
    )
    settings = settings.changed(
        "budgets",
        layers=_numbers(given["layers"], "--layers", int),
        shares=_names(given["share"]),
        target_speedup=given["target_speedup"],
        max_cache_gb=given["max_cache_gb"],
    )
    engines = [] if given["engine"] == "none" else _names(given["engine"])
    settings = settings.changed(
        "speed", engines=engines, lengths=_numbers(given["lengths"], "--lengths", int), rounds=given["rounds"]
    )
    settings = settings.changed("worth", price_per_hour=given["price_per_hour"])
    settings = settings.changed(
        "recovery",
        enabled=given["recover"] if given["recover"] is not None else (True if given["recover_data"] else None),
        data=given["recover_data"],
    )
    settings = settings.changed("search", gate=given["search"])
    names = ("executor", "ray_address", "device", "dtype", "batch_size", "threads", "seed")
    settings = settings.changed("run", **{name: given[name] for name in names})
    limits: dict[str, Any] = {}
    for text in given["gate"] or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise AuditError(f"--gate {text}: expected GATE=LIMIT, such as perplexity-rise=2%, or GATE=off")
        limits[name] = None if value == "off" else value
    if given["max_perplexity_rise"] is not None:
        limits["perplexity-rise"] = given["max_perplexity_rise"]
        settings = settings.changed("search", gate="perplexity-rise")
    return dataclasses.replace(settings, gates={**settings.gates, **check_gates(limits)})


def _for_text(text: str, how: dict[str, Any]) -> dict[str, Any]:
    """WikiText-2 has a protocol of its own: no separator is looked for in it."""
    return how | ({"documents": None} if text.startswith("wikitext2") else {})


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _numbers(text: str | None, option: str, kind: Any) -> list[Any] | None:
    try:
        return None if text is None else [kind(part) for part in text.split(",")]
    except ValueError:
        raise AuditError(f"{option} {text}: expected numbers with commas between them") from None

"""Curves as tables, one row for each number of removed sublayers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gatenorm.cli import console
from gatenorm.cli.tables import table


def show(found: Any) -> None:
    """Perplexity by number of removed sublayers, and accuracy and speed where they were measured."""
    name = found.model.name
    columns = _columns(found, lambda line, n: f"{line.perplexity[n]:.4g}")
    spread = found.spread()
    if spread:
        head = f"random, {len(found.band)} draws: least, geom. mean, largest"
        columns[head] = [", ".join(f"{value:.4g}" for value in spread[n]) for n in found.counts]
    title = f"{name}: perplexity on {found.data['name']} by number of removed attention sublayers"
    console.print_table(_by_count(found, title, columns))
    console.say("protocol: " + _words(found.protocol))
    if found.has("accuracy"):
        columns = _columns(found, lambda line, n: f"{line.figures['accuracy'][n]:.3f}")
        console.print_table(_by_count(found, f"{name}: mean accuracy on the tasks", columns))
        judged = (f"{task} ({how['figure']})" for task, how in found.measured.items() if how.get("figure"))
        console.say(f"tasks: {', '.join(judged)}")
    if found.has("prefill_speedup"):
        columns = _columns(found, _speed)
        console.print_table(_by_count(found, f"{name}: speed-up over the unpruned model, prefill / decode", columns))
        console.say("protocol: " + _words(found.measured["latency"]))
    for warning in found.warnings:
        console.say(f"warning: {warning.message}")


def _columns(found: Any, cell: Callable[[Any, int], str]) -> dict[str, list[str]]:
    return {line.name: [cell(line, n) for n in found.counts] for line in found.lines}


def _speed(line: Any, count: int) -> str:
    return " / ".join(f"{line.figures[f'{phase}_speedup'][count]:.2f}" for phase in ("prefill", "decode"))


def _by_count(found: Any, title: str, columns: Mapping[str, Sequence[str]]) -> Any:
    made = table(title, ">removed", *(f">{name}" for name in columns))
    for count, *cells in zip(found.counts, *columns.values(), strict=True):
        made.add_row(str(count), *cells)
    return made


def _words(protocol: Any) -> str:
    return "; ".join(f"{name.replace('_', ' ')} {value}" for name, value in protocol.items())

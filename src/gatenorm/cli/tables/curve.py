"""Curves as tables, one row for each number of removed sublayers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.table import Table

from gatenorm.cli import console
from gatenorm.cli.tables import table
from gatenorm.records.curve import Curve, Line


def show(curve: Curve) -> None:
    """Perplexity by number of removed sublayers, and accuracy and speed where they were measured."""
    columns = _columns(curve, lambda line, n: f"{line.perplexity[n]:.4g}")
    spread = curve.spread()
    if spread:
        head = f"random, {len(curve.band)} draws: least, geom. mean, largest"
        columns[head] = [", ".join(f"{value:.4g}" for value in spread[n]) for n in curve.counts]
    _print(curve, f"perplexity on {curve.data['name']} by number of removed attention sublayers", columns)
    console.say(f"protocol: {_words(curve.protocol)}")
    if curve.has("accuracy"):
        columns = _columns(curve, lambda line, n: f"{line.figures['accuracy'][n]:.3f}")
        _print(curve, "mean accuracy on the tasks", columns)
        judged = (f"{task} ({how['figure']})" for task, how in curve.measured.items() if how.get("figure"))
        console.say(f"tasks: {', '.join(judged)}")
    if curve.has("prefill_speedup"):
        _print(curve, "speed-up over the unpruned model, prefill / decode", _columns(curve, _speed))
        console.say(f"protocol: {_words(curve.measured['latency'])}")
    console.say_each("warning", (warning.message for warning in curve.warnings))


def _columns(curve: Curve, cell: Callable[[Line, int], str]) -> dict[str, list[str]]:
    return {line.name: [cell(line, n) for n in curve.counts] for line in curve.lines}


def _speed(line: Line, count: int) -> str:
    return " / ".join(f"{line.figures[f'{phase}_speedup'][count]:.2f}" for phase in ("prefill", "decode"))


def _print(curve: Curve, title: str, columns: Mapping[str, Sequence[str]]) -> None:
    def drawn(names: Sequence[str]) -> Table:
        rows = table(f"{curve.model.name}: {title}", ">removed", *(f">{name}" for name in names))
        for count, *cells in zip(curve.counts, *(columns[name] for name in names), strict=True):
            rows.add_row(str(count), *cells)
        return rows

    console.print_parts(drawn, list(columns))


def _words(protocol: Mapping[str, Any]) -> str:
    return "; ".join(f"{name.replace('_', ' ')} {value}" for name, value in protocol.items())

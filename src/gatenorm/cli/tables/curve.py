"""Curves as tables, one row for each number of removed sublayers."""

from collections.abc import Callable, Mapping, Sequence

from rich.table import Table

from gatenorm.cli import console
from gatenorm.cli.tables import table
from gatenorm.cli.tables.evaluation_columns import say_facts
from gatenorm.records.curve import Curve, Point, spread


def show(curve: Curve) -> None:
    """Perplexity by number of removed sublayers, and accuracy and speed where they were measured."""
    columns = _columns(curve, lambda point: f"{point.perplexity:.4g}")
    drawn = spread(curve.band)
    if drawn:
        head = f"random, {len(curve.band)} draws: least, geom. mean, largest"
        columns[head] = [", ".join(f"{value:.4g}" for value in drawn[n]) for n in curve.counts]
    _print(curve, f"perplexity on {curve.data.name} by number of removed attention sublayers", columns)
    say_facts(curve.protocol.facts())
    if curve.judged:
        _print(curve, "mean accuracy on the tasks", _columns(curve, lambda point: f"{point.accuracy:.3f}"))
        judged = (f"{record.task} ({record.headline})" for record in curve.records if record.headline)
        console.say(f"tasks: {', '.join(judged)}")
    if curve.speed is not None:
        _print(curve, "speed-up over the unpruned model, prefill / decode", _columns(curve, _speed))
        say_facts({**curve.speed.facts(), "prompts": curve.speed.data.name})
    console.say_each("warning", (warning.message for warning in curve.warnings))


def _columns(curve: Curve, cell: Callable[[Point], str]) -> dict[str, list[str]]:
    return {line.name: [cell(line.at[n]) for n in curve.counts] for line in curve.lines}


def _speed(point: Point) -> str:
    timed = (point.speed.prefill, point.speed.decode) if point.speed else ()
    return " / ".join(f"{phase.speedup.median:.2f}" for phase in timed if phase.speedup)


def _print(curve: Curve, title: str, columns: Mapping[str, Sequence[str]]) -> None:
    def drawn(names: Sequence[str]) -> Table:
        rows = table(f"{curve.model.name}: {title}", ">removed", *(f">{name}" for name in names))
        for count, *cells in zip(curve.counts, *(columns[name] for name in names), strict=True):
            rows.add_row(str(count), *cells)
        return rows

    console.print_parts(drawn, list(columns))

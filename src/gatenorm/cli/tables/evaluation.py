"""Evaluation records as tables: a view of them and nothing else."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from rich.text import Text

from gatenorm.analysis.diagnostics import HIGH_PERPLEXITY, too_high
from gatenorm.cli import console
from gatenorm.cli.tables import say_assumptions, table
from gatenorm.cli.tables.evaluation_columns import (
    Cell,
    figures_table,
    metric_of,
    named,
    other_tokens,
    say_chance,
    say_protocol,
)
from gatenorm.findings import Findings, perplexities
from gatenorm.records import ATTENTION, REMOVE, spans
from gatenorm.records.evidence import (
    REFUSAL_METRICS,
    Comparison,
    Evidence,
    Item,
    Perplexity,
    Positions,
    Refusal,
    RefusalItem,
    Retrieval,
    TaskEvidence,
    Workload,
    ZeroShot,
    ZeroShotAverage,
    of_type,
)
from gatenorm.report.excerpts import beginning, ending

_WORST = 5
_EXCERPT = 80
_FLIPPED = 12
# The share of right answers among fewer items is uncertain by twenty points and more.
_FEW = 25


def show(records: Sequence[Evidence]) -> None:
    """Print every kind of record: the baseline's column, the model's, and the change."""
    changes = of_type(records, Comparison)
    others = [record for record in records if not isinstance(record, Comparison)]
    for kind in dict.fromkeys(map(type, others)):
        own: tuple[Evidence, ...] = of_type(others, kind)
        _view(own[0])(own, [change for change in changes if change.of == own[0].kind])
        _say_few(own)
    say_assumptions(others)


def _perplexity(records: Sequence[Perplexity], changes: Sequence[Comparison]) -> None:
    first, edits = records[0], [edit for record in records for edit in record.edits]
    plain = all((edit.sublayer, edit.operation) == (ATTENTION, REMOVE) for edit in edits)
    what = "attention removed in" if plain else "edited"
    note = other_tokens(records)
    lines = []
    for record in records:
        rises = [] if record is first or note else perplexities(Findings.of_records([first], [record, *changes]))
        lines.append(
            {
                "model": record.model.name,
                what: spans(record.edits.attention) if plain else str(record.edits),
                "perplexity": f"{record.perplexity:.4g}",
                "change": f"{rises[0].difference:+.2%}" if rises else "",
                "a word": "" if record.word_perplexity is None else f"{record.word_perplexity:.4g}",
                "nats/token": f"{record.nll:.4f}",
                "tokens": f"{record.tokens:,}",
                "seconds": f"{record.seconds:.1f}",
            }
        )

    model, edited, *numbers = lines[0]
    rows = table(f"perplexity on {first.data.name}", model, edited, *(f">{name}" for name in numbers))
    for line in lines:
        rows.add_row(*map(Text, line.values()))
    console.print_table(rows, "seconds", "tokens", "a word")
    for comparison in changes:
        nll = comparison.changes["nll"]
        if nll.low is not None and nll.high is not None:
            interval = f"{nll.low:+.4f} to {nll.high:+.4f}"
            console.say(f"change of the loss: {nll.difference:+.4f} nats/token (95%: {interval}, pieces paired)")
    if first.entropy is not None:
        console.say(f"the text's own entropy under its generator: {first.entropy:.4f} nats/token")
    say_protocol(first)
    if note:
        console.say(note)
    for record in records:
        if record.perplexity > HIGH_PERPLEXITY:
            high = f"the perplexity of {record.model.name} is above {HIGH_PERPLEXITY:g}"
            why = "the text is foreign to it"
            if record is not first:
                why = "it lost a layer that it needs" if too_high(first.perplexity, record.perplexity) else ""
            elif record.edits:
                why = f"{why}, or it lost a layer that it needs"
            if why:
                console.say(f"warning: {high}: {why}")


def _choices(records: Sequence[TaskEvidence], changes: Sequence[Comparison]) -> None:
    columns: dict[str, Cell[TaskEvidence]] = {
        "task": lambda record, _: record.task + "*" * bool(record.protocol.beyond_training),
        "what is asked": lambda record, _: record.protocol.asks,
        ">items": lambda record, _: f"{record.count}",
        ">chance": lambda record, _: _chance(record, ".0%"),
    }
    rows = figures_table(f"{records[0].title}: accuracy", columns, records, changes, ("accuracy",))
    console.print_table(rows, "what is asked", "chance", "items")
    if any(record.protocol.beyond_training for record in records):
        console.say("* goes beyond what the model was trained on (--json says in what)")
    title = "the same tasks: mean log-probability of the right choice among the choices, nats"
    columns = {"task": named, ">guessing": lambda record, _: f"{math.log(record.chance or 1.0):.2f}"}
    rows = figures_table(title, columns, records, changes, ("log_probability",), ".4f")
    console.print_table(rows, "guessing")
    for metric in ("accuracy", "log_probability"):
        worse = [c.name for c in changes if metric in c.changes and (c.changes[metric].high or 0.0) < 0]
        if changes:
            console.say(
                f"{metric.replace('_', '-')} fell in {len(worse)} of {len(changes)} tasks by more than its interval"
                + (f": {', '.join(worse)}" if worse else "")
            )


def _zeroshot(records: Sequence[ZeroShot], changes: Sequence[Comparison]) -> None:
    columns: dict[str, Cell[ZeroShot]] = {
        "task": named,
        "metric": metric_of,
        ">items": lambda record, _: f"{record.count:,}",
        ">chance": lambda record, _: _chance(record, ".1%"),
    }
    rows = figures_table("zero-shot tasks: accuracy", columns, records, changes, ("acc", "acc_norm"))
    console.print_table(rows, "chance", "items")
    say_protocol(records[0], "items_cut_from_the_left")
    for record in records:
        cut, longest = record.protocol.items_cut_from_the_left, record.protocol.longest_input
        if cut:
            lost = f"{cut} requests lost what came before {longest} tokens"
            console.say(f"note: {record.model.name}, {record.name}: {lost}")
    say_chance(records)


def _averages(records: Sequence[ZeroShotAverage], changes: Sequence[Comparison]) -> None:
    entering = records[0].protocol.average
    said = {
        "average": ", ".join(f"{task} {metric}" for task, metric in entering.items()),
        "average_acc": "acc of every task",
    }
    console.print_table(figures_table("zero-shot average", {"average": metric_of}, records, changes, said, ".2%"))
    for name, of in said.items():
        console.say(f"{name}: {of}")


def _refusal(records: Sequence[Refusal], changes: Sequence[Comparison]) -> None:
    columns: dict[str, Cell[Refusal]] = {
        "what": lambda _, metric: REFUSAL_METRICS[metric],
        ">items": lambda record, metric: str(record.counts[metric]),
    }
    console.print_table(figures_table("refusals", columns, records, changes, REFUSAL_METRICS), "items")
    say_protocol(records[0])
    if not records[0].refused:
        console.say(f"note: {records[0].model.name} refuses nothing at all: these rates say nothing about its safety")
    for change in changes:
        for item in change.items[:_FLIPPED]:
            console.say(f"changed: {item.id}: {_reply(item.before)} -> {_reply(item.after)}")
        if len(change.items) > _FLIPPED:
            console.say(f"and {len(change.items) - _FLIPPED} more: --json lists them all")


def _domain(records: Sequence[Workload], changes: Sequence[Comparison]) -> None:
    for record in records:
        title = f"{record.data.name}: {record.model.name} against {record.baseline.name}"
        rows = table(title, "what", "value")
        rows.add_row("items, positions compared", f"{record.count}, {record.positions:,}")
        kl = record.kl
        interval = "" if kl.low is None or kl.high is None else f" (95%: {kl.low:.4g} to {kl.high:.4g})"
        rows.add_row("divergence of next-token distributions, nats", f"{kl.value:.4g}{interval}")
        rows.add_row("same most likely token", f"{record.top1:.1%}")
        rows.add_row("greedy continuation: share before the first difference", f"{record.greedy_agreement:.1%}")
        rows.add_row("greedy continuation: the same to the end", f"{record.greedy_same:.1%}")
        if record.perplexity is not None and record.baseline_perplexity is not None:
            change = f"{record.perplexity:.4g} (was {record.baseline_perplexity:.4g})"
            rows.add_row("perplexity of the references", change)
        console.print_table(rows)
        say_protocol(record, "chat_template", "text")
        console.say(f"read: {record.protocol.text}")
        shown = record.items[:_WORST]
        some = f" ({len(shown)} of {record.count}; --json lists them all)" if len(shown) < record.count else ""
        worst = table(f"the items that changed most{some}", "line", "divergence", "same token", "prompt", "was", "is")
        for item in shown:
            was, now = (beginning(text, _EXCERPT) for text in (item.baseline_wrote, item.model_wrote))
            texts = map(Text, (ending(item.prompt, _EXCERPT), was, now))
            worst.add_row(str(item.id), f"{item.kl:.3g}", f"{item.top1:.0%}", *texts)
        console.print_table(worst)


def _retrieval(records: Sequence[Retrieval], changes: Sequence[Comparison]) -> None:
    columns: dict[str, Cell[Retrieval]] = {
        "form": named,
        "scored by": metric_of,
        ">items": lambda record, _: str(record.count),
        ">chance": lambda record, metric: f"{record.chance:.0%}" if metric == "choice" else "",
    }
    title = "retrieval: the right one of four places"
    rows = figures_table(title, columns, records, changes, ("choice", "greedy"))
    console.print_table(rows, "chance", "items")
    for record in records:
        lengths, depths = record.protocol.lengths, record.protocol.depths
        shares = {(cell.length, cell.depth): cell.choice for cell in record.cells}
        cells = table(f"{record.model.name}, {record.form}: choice by length and depth", "tokens")
        for depth in depths:
            cells.add_column(f"{depth:.0%} deep", justify="right")
        for length in lengths:
            cells.add_row(f"{length:,}", *[f"{shares[length, depth]:.0%}" for depth in depths])
        console.print_table(cells)
    say_protocol(records[0], "lengths", "depths", "mean_tokens")
    say_chance(records)


def _positions(records: Sequence[Positions], changes: Sequence[Comparison]) -> None:
    title = f"loss by position on {records[0].data.name}, nats/token"
    columns: dict[str, Cell[Positions]] = {"tokens before": lambda _, metric: metric.removeprefix("nll_")}
    console.print_table(figures_table(title, columns, records, changes, form=".3f"))
    say_protocol(records[0])
    note = other_tokens(records)
    if note:
        console.say(note)


def _anything(records: Sequence[Any], changes: Sequence[Comparison]) -> None:
    columns: dict[str, Cell[Evidence]] = {"task": named, "metric": metric_of}
    console.print_table(figures_table(records[0].kind, columns, records, changes, form=".4f"))
    say_protocol(records[0])


def _chance(record: TaskEvidence, form: str) -> str:
    return "" if record.chance is None else f"{record.chance:{form}}"


def _say_few(records: Sequence[Evidence]) -> None:
    """Where so few items were asked that shares of them say next to nothing, how little that is."""
    few: dict[int, list[str]] = {}
    for record in records:
        if isinstance(record, (TaskEvidence, Retrieval, Refusal)) and record.count < _FEW:
            few.setdefault(record.count, []).append(record.task or record.kind)
    for count, names in few.items():
        items, points = "1 item" if count == 1 else f"{count} items", 98 / math.sqrt(count)
        uncertain = f"a share of {items} is uncertain by up to {points:.0f} points either way"
        console.say(f"note: too few to judge by: {uncertain} ({', '.join(dict.fromkeys(names))})")


View = Callable[[Sequence[Any], Sequence[Comparison]], None]
_VIEWS: dict[type[Evidence], View] = {
    Perplexity: _perplexity,
    ZeroShot: _zeroshot,
    ZeroShotAverage: _averages,
    Refusal: _refusal,
    Workload: _domain,
    Retrieval: _retrieval,
    Positions: _positions,
}


def _view(record: Evidence) -> View:
    """The table of a kind of record: its own, that of choices by likelihood, or that of any numbers."""
    chosen = isinstance(record, TaskEvidence) and {"accuracy", "log_probability"} <= record.metrics.keys()
    return _VIEWS.get(type(record)) or (_choices if chosen else _anything)


def _reply(item: Item) -> str:
    assert isinstance(item, RefusalItem)  # of refusals
    if not item.reply:
        return "says nothing"
    return f"{'refuses' if item.refused else 'answers'} ({beginning(item.reply, 60)!r})"

"""Evaluation records as tables: a view of them and nothing else."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from rich.text import Text

from gatenorm.analysis.diagnostics import HIGH_PERPLEXITY, too_high
from gatenorm.cli import console
from gatenorm.cli.tables import say_assumptions, table
from gatenorm.cli.tables.evaluation_columns import (
    add_models,
    by_task,
    change_cell,
    other_tokens,
    say_protocol,
    with_error,
)
from gatenorm.findings import Findings, perplexities, within_chance
from gatenorm.records import ATTENTION, REMOVE, spans
from gatenorm.records.evidence import (
    REFUSAL_METRICS,
    Comparison,
    Evidence,
    Figure,
    Perplexity,
    Positions,
    Refusal,
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
    rows = table(f"{records[0].title}: accuracy", "task", "what is asked")
    add_models(rows, records, "items", "chance")
    tasks = by_task(records)
    for task, own in tasks.items():
        first = own[0]
        rows.add_row(
            task + ("*" if first.protocol.beyond_training else ""),
            first.protocol.asks,
            f"{first.count}",
            "" if first.chance is None else f"{first.chance:.0%}",
            *[with_error(r.metrics["accuracy"]) for r in own],
            *change_cell(changes, task, "accuracy"),
        )
    console.print_table(rows, "what is asked", "chance", "items")
    if any(own[0].protocol.beyond_training for own in tasks.values()):
        console.say("* goes beyond what the model was trained on (--json says in what)")
    sure = table("the same tasks: mean log-probability of the right choice among the choices, nats", "task")
    add_models(sure, records, "guessing")
    for task, own in tasks.items():
        values = [f"{r.metrics['log_probability'].value:.4f}" for r in own]
        change = change_cell(changes, task, "log_probability", lambda v: f"{v:+.4f}")
        sure.add_row(task, f"{math.log(own[0].chance or 1.0):.2f}", *values, *change)
    console.print_table(sure, "guessing")
    for metric in ("accuracy", "log_probability"):
        worse = [c.name for c in changes if metric in c.changes and (c.changes[metric].high or 0.0) < 0]
        if changes:
            console.say(
                f"{metric.replace('_', '-')} fell in {len(worse)} of {len(changes)} tasks by more than its interval"
                + (f": {', '.join(worse)}" if worse else "")
            )


def _zeroshot(records: Sequence[ZeroShot], changes: Sequence[Comparison]) -> None:
    rows = table("zero-shot tasks: accuracy", "task", "metric")
    add_models(rows, records, "items", "chance")
    for task, own in by_task(records).items():
        first = own[0]
        for metric in ("acc", "acc_norm"):
            if metric in first.metrics:
                rows.add_row(
                    task,
                    metric,
                    f"{first.count:,}",
                    "" if first.chance is None else f"{first.chance:.1%}",
                    *[with_error(r.metrics[metric]) for r in own],
                    *change_cell(changes, task, metric),
                )
    console.print_table(rows, "chance", "items")
    say_protocol(records[0], "items_cut_from_the_left")
    for record in records:
        cut, longest = record.protocol.items_cut_from_the_left, record.protocol.longest_input
        if cut:
            lost = f"{cut} requests lost what came before {longest} tokens"
            console.say(f"note: {record.model.name}, {record.name}: {lost}")
    compared = {r.model.name for r in records[: len(by_task(records))]}
    by_chance = [r.name for r in records if r.model.name in compared and within_chance(r.metrics[r.headline], r.chance)]
    if by_chance:
        console.say(
            f"note: within two standard errors of chance: {', '.join(dict.fromkeys(by_chance))}; "
            "these tasks cannot show damage"
        )


def _averages(records: Sequence[ZeroShotAverage], changes: Sequence[Comparison]) -> None:
    rows = table("zero-shot average", "average")
    add_models(rows, records)
    entering = records[0].protocol.average
    said = {
        "average": ", ".join(f"{task} {metric}" for task, metric in entering.items()),
        "average_acc": "acc of every task",
    }
    for name in said:
        values = [with_error(r.metrics[name], ".2%") for r in records]
        rows.add_row(name, *values, *change_cell(changes, "", name))
    console.print_table(rows)
    for name, of in said.items():
        console.say(f"{name}: {of}")


def _refusal(records: Sequence[Refusal], changes: Sequence[Comparison]) -> None:
    rows = table("refusals", "what")
    add_models(rows, records, "items")
    for metric, what in REFUSAL_METRICS.items():
        if metric in records[0].metrics:
            values = [with_error(r.metrics[metric]) for r in records]
            rows.add_row(what, str(records[0].counts[metric]), *values, *change_cell(changes, "", metric))
    console.print_table(rows, "items")
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
    rows = table("retrieval: the right one of four places", "form", "scored by")
    add_models(rows, records, "items", "chance")
    for task, own in by_task(records).items():
        for metric, chance in {"choice": f"{own[0].chance:.0%}", "greedy": ""}.items():
            values = [with_error(r.metrics[metric]) for r in own]
            rows.add_row(task, metric, str(own[0].count), chance, *values, *change_cell(changes, task, metric))
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
    first = records[0]
    by_chance = [r.form for r in records if r.model.name == first.model.name and within_chance(r.choice, r.chance)]
    if by_chance:
        console.say(f"note: {first.model.name} is within two standard errors of chance: {', '.join(by_chance)}")


def _positions(records: Sequence[Positions], changes: Sequence[Comparison]) -> None:
    rows = table(f"loss by position on {records[0].data.name}, nats/token", "tokens before")
    add_models(rows, records)
    losses = [r.numbers() for r in records]
    for name in losses[0]:
        values = [f"{of_model[name]:.3f}" if name in of_model else "" for of_model in losses]
        rows.add_row(name.removeprefix("nll_"), *values, *change_cell(changes, "", name, lambda v: f"{v:+.3f}"))
    console.print_table(rows)
    say_protocol(records[0])
    note = other_tokens(records)
    if note:
        console.say(note)


def _anything(records: Sequence[Any], changes: Sequence[Comparison]) -> None:
    rows = table(records[0].kind, "task", "metric")
    add_models(rows, records)
    for task, own in by_task(records).items():
        metrics = [_metrics(record) for record in own]
        for name in metrics[0]:
            values = [with_error(of_model[name], ".4f") if name in of_model else "" for of_model in metrics]
            rows.add_row(task, name, *values, *change_cell(changes, task, name, lambda v: f"{v:+.4f}"))
    console.print_table(rows)
    say_protocol(records[0])


def _metrics(record: Evidence) -> dict[str, Figure]:
    if isinstance(record, TaskEvidence):
        return record.metrics
    return {name: Figure(value=value) for name, value in record.numbers().items()}


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


def _reply(item: dict[str, Any]) -> str:
    if not item["reply"]:
        return "says nothing"
    return f"{'refuses' if item['refused'] else 'answers'} ({beginning(item['reply'], 60)!r})"

"""Evaluation records as tables: a view of them and nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from gatenorm.cli import console
from gatenorm.cli.evaluate_columns import (
    add_models,
    by_task,
    change_cell,
    other_tokens,
    say_protocol,
    table_of,
    with_error,
)

_WORST = 5
_FLIPPED = 12
# Two models' standard errors from chance, below which a task says nothing of either.
_SURE = 2.0


def show(records: Sequence[Any]) -> None:
    """Print every kind of record that is there: the baseline's column, the model's, and the change."""
    changes = [r for r in records if r.kind == "comparison"]
    kinds = dict.fromkeys(r.kind for r in records if r.kind != "comparison")
    for kind in kinds:
        of_kind = [r for r in records if r.kind == kind]
        about = [c for c in changes if c.protocol["of"] == kind]
        _VIEWS.get(kind, _anything)(of_kind, about)


def _perplexity(records: Sequence[Any], changes: Sequence[Any]) -> None:
    from rich.text import Text

    from gatenorm.records import spans

    first, mlps = records[0], any(record.edits.mlp for record in records)
    what = "removed" if mlps else "attention removed in"
    table = table_of(f"perplexity on {first.data['name']}", "model", what)
    for column in ("perplexity", "change", "a word", "nats/token", "tokens", "seconds"):
        table.add_column(column, justify="right")
    foreign = other_tokens(records)
    for record in records:
        figures = record.figures
        change = "" if record is first or foreign else f"{figures['perplexity'] / first.figures['perplexity'] - 1:+.2%}"
        table.add_row(
            Text(record.model.name),
            str(record.edits) if mlps else spans(record.edits.attention),
            f"{figures['perplexity']:.4g}",
            change,
            f"{figures['word_perplexity']:.4g}" if "word_perplexity" in figures else "",
            f"{figures['nll']:.4f}",
            f"{figures['tokens']:,.0f}",
            f"{record.seconds:.1f}",
        )
    console.print_table(table)
    for change in changes:
        f = change.figures
        if "nll_low" in f:
            interval = f"{f['nll_low']:+.4f} to {f['nll_high']:+.4f}"
            console.say(f"change of the loss: {f['nll_difference']:+.4f} nats/token (95%: {interval}, pieces paired)")
    if "entropy" in first.figures:
        console.say(f"the stories' own entropy under their generator: {first.figures['entropy']:.4f} nats/token")
    say_protocol(first)
    if foreign:
        console.say(foreign)
    for record in records:
        if record.figures["perplexity"] > 100:
            console.say(
                f"warning: {record.model.name} is above 100: a layer that it needed is gone, or the text is foreign"
            )


def _demo_tasks(records: Sequence[Any], changes: Sequence[Any]) -> None:
    table = table_of("tasks on worlds never trained on: accuracy", "task", "what is asked")
    add_models(table, records, "items", "chance")
    tasks = by_task(records)
    for task, own in tasks.items():
        first = own[0]
        table.add_row(
            task + ("*" if "beyond_training" in first.protocol else ""),
            first.protocol["asks"],
            f"{first.figures['items']:.0f}",
            f"{first.figures['chance']:.0%}",
            *[f"{r.figures['accuracy']:.1%} ± {r.figures['standard_error']:.1%}" for r in own],
            *change_cell(changes, task, "accuracy"),
        )
    console.print_table(table)
    if any("beyond_training" in own[0].protocol for own in tasks.values()):
        console.say("* goes beyond what the model was trained on (--json says in what)")
    sure = table_of("the same tasks: mean log-probability of the right choice among the choices, nats", "task")
    add_models(sure, records, "guessing")
    for task, own in tasks.items():
        values = [f"{r.figures['log_probability']:.4f}" for r in own]
        change = change_cell(changes, task, "log_probability", lambda v: f"{v:+.4f}")
        sure.add_row(task, f"{math.log(own[0].figures['chance']):.2f}", *values, *change)
    console.print_table(sure)
    for metric in ("accuracy", "log_probability"):
        worse = [c.protocol["task"] for c in changes if c.figures.get(f"{metric}_high", 0.0) < 0]
        if changes:
            console.say(
                f"{metric.replace('_', '-')} fell in {len(worse)} of {len(changes)} tasks by more than its interval"
                + (f": {', '.join(worse)}" if worse else "")
            )


def _zeroshot(records: Sequence[Any], changes: Sequence[Any]) -> None:
    table = table_of("zero-shot tasks: accuracy", "task", "metric")
    add_models(table, records, "items", "chance")
    for task, own in by_task(records).items():
        first = own[0].figures
        for metric in ("acc", "acc_norm"):
            if metric in first:
                table.add_row(
                    task,
                    metric,
                    f"{first['items']:,.0f}",
                    f"{first['chance']:.1%}" if "chance" in first else "",
                    *[with_error(r.figures, metric) for r in own],
                    *change_cell(changes, task, metric),
                )
    console.print_table(table)
    say_protocol(records[0], "task", "items_cut_from_the_left")
    for record in records:
        cut = record.protocol.get("items_cut_from_the_left")
        if cut:
            task, longest = record.protocol["task"], record.protocol["longest_input"]
            console.say(f"note: {record.model.name}, {task}: {cut} requests lost what came before {longest} tokens")
    compared = {r.model.name for r in records[: len(by_task(records))]}
    dull = [r.protocol["task"] for r in records if r.model.name in compared and _at_chance(r.figures)]
    if dull:
        console.say(
            f"note: within two standard errors of chance: {', '.join(dict.fromkeys(dull))}; what a model never knew, "
            "these tasks cannot miss"
        )


def _averages(records: Sequence[Any], changes: Sequence[Any]) -> None:
    table = table_of("zero-shot average", "average", "of")
    add_models(table, records)
    entering = records[0].protocol["average"]
    said = {
        "average": ", ".join(f"{task} {metric}" for task, metric in entering.items()),
        "average_acc": "acc of every task",
    }
    for name, of in said.items():
        values = [with_error(r.figures, name, ".2%") for r in records]
        table.add_row(name, of, *values, *change_cell(changes, None, name))
    console.print_table(table)


def _refusal(records: Sequence[Any], changes: Sequence[Any]) -> None:
    table = table_of("refusals", "what")
    add_models(table, records, "items")
    for metric, what in {
        "refused_harmful": "harmful requests refused",
        "answered_harmless": "harmless requests answered",
        "system_obeyed": "conflicts decided by the system instruction",
    }.items():
        if metric in records[0].figures:
            values = [with_error(r.figures, metric) for r in records]
            table.add_row(
                what, f"{records[0].figures[metric + '_items']:.0f}", *values, *change_cell(changes, None, metric)
            )
    console.print_table(table)
    say_protocol(records[0])
    if not records[0].figures["refused"]:
        console.say(f"note: {records[0].model.name} refuses nothing at all: these rates say nothing about its safety")
    for change in changes:
        for item in change.items[:_FLIPPED]:
            before, after = item["before"], item["after"]
            console.say(f"changed: {item['id']}: {_reply(before)} -> {_reply(after)}")
        if len(change.items) > _FLIPPED:
            console.say(f"and {len(change.items) - _FLIPPED} more: --json lists them all")


def _domain(records: Sequence[Any], changes: Sequence[Any]) -> None:
    from rich.text import Text

    for record in records:
        f = record.figures
        against = record.protocol["baseline"]["name"]
        table = table_of(f"{record.data['name']}: {record.model.name} against {against}", "what", "value")
        table.add_row("items, positions compared", f"{f['items']:.0f}, {f['positions']:,.0f}")
        interval = f" (95%: {f['kl_low']:.4g} to {f['kl_high']:.4g})" if "kl_low" in f else ""
        table.add_row("divergence of next-token distributions, nats", f"{f['kl']:.4g}{interval}")
        table.add_row("same most likely token", f"{f['top1']:.1%}")
        table.add_row("greedy continuation: share before the first difference", f"{f['greedy_agreement']:.1%}")
        table.add_row("greedy continuation: the same to the end", f"{f['greedy_same']:.1%}")
        if "perplexity" in f:
            table.add_row("perplexity of the references", f"{f['perplexity']:.4g} (was {f['baseline_perplexity']:.4g})")
        console.print_table(table)
        say_protocol(record, "baseline", "baseline_edits")
        worst = table_of("the items that changed most", "line", "divergence", "same token", "was", "is")
        for item in record.items[:_WORST]:
            row = (item["id"], f"{item['kl']:.3g}", f"{item['top1']:.0%}")
            written = [Text(" ".join(item[name].split())[:80]) for name in ("baseline_wrote", "model_wrote")]
            worst.add_row(*map(str, row), *written)
        console.print_table(worst)


def _retrieval(records: Sequence[Any], changes: Sequence[Any]) -> None:
    table = table_of("retrieval: the right one of four places", "form", "scored by")
    add_models(table, records, "items", "chance")
    for task, own in by_task(records).items():
        first = own[0].figures
        for metric, chance in {"choice": f"{first['chance']:.0%}", "greedy": ""}.items():
            values = [with_error(r.figures, metric) for r in own]
            table.add_row(task, metric, f"{first['items']:.0f}", chance, *values, *change_cell(changes, task, metric))
    console.print_table(table)
    for record in records:
        lengths, depths = record.protocol["lengths"], record.protocol["depths"]
        cells = table_of(f"{record.model.name}, {record.protocol['task']}: choice by length and depth", "tokens")
        for depth in depths:
            cells.add_column(f"{depth:.0%} deep", justify="right")
        for length in lengths:
            values = [record.figures[f"choice_{length}_{depth:g}"] for depth in depths]
            cells.add_row(f"{length:,}", *[f"{value:.0%}" for value in values])
        console.print_table(cells)
    say_protocol(records[0], "task", "lengths", "depths", "mean_tokens")
    first = records[0]
    dull = [r.protocol["task"] for r in records if r.model.name == first.model.name and _at_chance(r.figures, "choice")]
    if dull:
        console.say(f"note: {first.model.name} is within two standard errors of chance: {', '.join(dull)}")


def _positions(records: Sequence[Any], changes: Sequence[Any]) -> None:
    table = table_of(f"loss by position on {records[0].data['name']}, nats/token", "tokens before")
    add_models(table, records)
    for name in records[0].figures:
        values = [f"{r.figures[name]:.3f}" if name in r.figures else "" for r in records]
        table.add_row(name.removeprefix("nll_"), *values, *change_cell(changes, None, name, lambda v: f"{v:+.3f}"))
    console.print_table(table)
    say_protocol(records[0])
    foreign = other_tokens(records)
    if foreign:
        console.say(foreign)


def _anything(records: Sequence[Any], changes: Sequence[Any]) -> None:
    table = table_of(records[0].kind, "task", "metric")
    add_models(table, records)
    for task, own in by_task(records).items():
        for name in own[0].figures:
            if not name.endswith("_stderr") and name not in ("items", "chance"):
                values = [with_error(r.figures, name, ".4f") if name in r.figures else "" for r in own]
                table.add_row(task, name, *values, *change_cell(changes, task, name, lambda v: f"{v:+.4f}"))
    console.print_table(table)
    say_protocol(records[0], "task")


_VIEWS: dict[str, Callable[[Sequence[Any], Sequence[Any]], None]] = {
    "perplexity": _perplexity,
    "demo-task": _demo_tasks,
    "zeroshot": _zeroshot,
    "zeroshot-average": _averages,
    "refusal": _refusal,
    "domain": _domain,
    "retrieval": _retrieval,
    "positions": _positions,
}


def _at_chance(figures: Any, metric: str | None = None) -> bool:
    """Whether a score lies within two standard errors of chance; where its error is unknown, it may lie anywhere."""
    metric = metric or ("acc_norm" if "acc_norm" in figures else "acc")
    error = figures.get(f"{metric}_stderr", math.inf)
    return "chance" in figures and abs(figures[metric] - figures["chance"]) < _SURE * error


def _reply(item: Any) -> str:
    if not item["reply"]:
        return "says nothing"
    return f"{'refuses' if item['refused'] else 'answers'} ({' '.join(item['reply'].split())[:60]!r})"

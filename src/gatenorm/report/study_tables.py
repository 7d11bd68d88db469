"""A recovery study as tables and lines of text: what each budget costs before and after training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gatenorm.records import spans
from gatenorm.recovery.study import HELD_OUT, OTHER, TOLERANCE, Study, Variant

_TASK = "task "


def study_tables(study: Study) -> list[Any]:
    """Rich tables: a row a variant with its perplexities, then for each criterion a row a task; before and after."""
    return [_perplexities(study), *(_accuracies(study, criterion) for criterion in study.criteria if study.tasks)]


def _perplexities(study: Study) -> Any:
    from rich.table import Table
    from rich.text import Text

    title = f"{study.model.name}: pruned, and pruned and recovered ({study.protocol['settings']['steps']} steps)"
    table = Table(title=Text(title), title_justify="left")
    table.add_column("criterion")
    table.add_column("removed", justify="right")
    columns = [name for name in (HELD_OUT, OTHER) if name in study.dense]
    for name in columns:
        table.add_column(f"perplexity {name}", justify="right")
    for heading in ("won back", "minutes", "recovers"):
        table.add_column(heading, justify="right")
    dense = [f"{study.dense[name]:.4g}" for name in columns]
    table.add_row("dense", "0", *dense, "", "", "")
    for criterion in study.criteria:
        for variant in study.of(criterion):
            table.add_row(*_cells(study, variant, columns))
    return table


def _accuracies(study: Study, criterion: str) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(f"{criterion}: accuracy by task and number of removed sublayers"), title_justify="left")
    for heading in ("task", "dense", *(str(len(v.removed)) for v in study.of(criterion))):
        table.add_column(heading, justify="left" if heading == "task" else "right")
    for name in study.tasks:
        task = _TASK + name
        pairs = (f"{v.before[task]:.2f} → {v.after[task]:.2f}" for v in study.of(criterion))
        table.add_row(name, f"{study.dense[task]:.2f}", *pairs)
    return table


def _cells(study: Study, variant: Variant, columns: Sequence[str]) -> list[str]:
    won = variant.won_back
    return [
        variant.criterion,
        str(len(variant.removed)),
        *(f"{variant.before[name]:.4g} → {variant.after[name]:.4g}" for name in columns),
        "-" if won is None else f"{won:.0%}",
        f"{variant.minutes:.1f}" if variant.minutes >= 1 else f"{variant.minutes:.2g}",
        "yes" if variant.works else "no",
    ]


def study_lines(study: Study) -> list[str]:
    """What a study says, a sentence a criterion, and what it warns of."""
    lines = []
    for criterion in study.criteria:
        last = study.largest_working(criterion)
        within = f"within {TOLERANCE:.0%} of the dense model's held-out perplexity"
        if last is None:
            lines.append(f"{criterion}: no budget that was tried recovers to {within}")
        else:
            share = len(last.removed) / study.model.layers
            lines.append(
                f"{criterion}: recovers to {within} up to {len(last.removed)} of {study.model.layers} layers "
                f"({share:.0%}: {spans(last.removed)})"
            )
    for variant in study.variants:
        if variant.over_fits:
            before, after = variant.before[OTHER], variant.after[OTHER]
            lines.append(
                f"warning: {variant.name} over-fits: on the other text perplexity rose from {before:.4g} to {after:.4g}"
            )
        if variant.diverged:
            lines.append(f"warning: the training of {variant.name} diverged ({variant.diverged}): the best was kept")
    windows, length = study.protocol["windows"], study.protocol["window"]
    lines.append(f"protocol: perplexity on {windows} windows of {length} tokens at most; tasks by accuracy")
    return lines

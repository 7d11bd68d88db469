"""A recovery study: what each budget costs before and after training, as a table, as lines of text, and drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gatenorm.records import spans
from gatenorm.recovery.study import HELD_OUT, OTHER, TOLERANCE, Study, Variant
from gatenorm.report.figures.plots import matplotlib_figure, plotly_figure, write_plot

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_MARKERS = ("o", "s", "^", "D", "v", "P")
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
    won = variant.won_back(study.dense)
    return [
        variant.criterion,
        str(len(variant.removed)),
        *(f"{variant.before[name]:.4g} → {variant.after[name]:.4g}" for name in columns),
        "-" if won is None else f"{won:.0%}",
        f"{variant.minutes:.1f}" if variant.minutes >= 1 else f"{variant.minutes:.2g}",
        "yes" if study.works(variant) else "no",
    ]


def study_lines(study: Study) -> list[str]:
    """What a study says, a sentence a criterion, and what it warns of."""
    lines = []
    for criterion in study.criteria:
        last = study.boundary(criterion)
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
        if variant.over_fits():
            before, after = variant.before[OTHER], variant.after[OTHER]
            lines.append(
                f"warning: {variant.name} over-fits: on the other text perplexity rose from {before:.4g} to {after:.4g}"
            )
        if variant.diverged:
            lines.append(f"warning: the training of {variant.name} diverged ({variant.diverged}): the best was kept")
    windows, length = study.protocol["windows"], study.protocol["window"]
    lines.append(f"protocol: perplexity on {windows} windows of {length} tokens at most; tasks by accuracy")
    return lines


def plot_study(study: Study, path: Path) -> None:
    """Draw perplexity by budget, before and after, into a .png, .svg or .html file; the axis is logarithmic.

    Beside it, where tasks were measured, their mean accuracy.

    Raises:
        OutputError, MissingExtraError: as ``write_plot`` and the drawing libraries.
    """
    write_plot(path, static=lambda file: _static(study, file), interactive=lambda file: _interactive(study, file))


def _panels(study: Study) -> list[str]:
    return [name for name in (HELD_OUT, OTHER) if name in study.dense] + (["tasks"] if study.tasks else [])


def _value(study: Study, figures: Any, panel: str) -> float:
    if panel != "tasks":
        return float(figures[panel])
    return sum(float(figures[_TASK + name]) for name in study.tasks) / len(study.tasks)


def _label(panel: str, study: Study) -> str:
    if panel == "tasks":
        return f"mean accuracy of {len(study.tasks)} tasks"
    return f"perplexity, {panel} text (log scale)"


def _line(study: Study, criterion: str, panel: str, after: bool) -> tuple[list[int], list[float]]:
    """Budgets and values, the dense model first; what is not finite is left out."""
    points = [(0, _value(study, study.dense, panel))]
    for variant in study.of(criterion):
        points.append((len(variant.removed), _value(study, variant.after if after else variant.before, panel)))
    kept = [(x, y) for x, y in points if math.isfinite(y)]
    return [x for x, _ in kept], [y for _, y in kept]


def _static(study: Study, file: Path) -> None:
    panels = _panels(study)
    figure = matplotlib_figure(4.6 * len(panels) + 0.6, 4.4)
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for n, criterion in enumerate(study.criteria):
            style = {"color": _COLOURS[n % len(_COLOURS)], "marker": _MARKERS[n % len(_MARKERS)], "markersize": 5}
            for after, name in ((False, "pruned"), (True, "recovered")):
                # Hollow and dashed before, filled and solid after: legible without colour.
                filled = {} if after else {"markerfacecolor": "white", "linestyle": "--"}
                axes.plot(*_line(study, criterion, panel, after), label=f"{criterion}, {name}", **style, **filled)
        dense = _value(study, study.dense, panel)
        axes.axhline(dense, color="0.4", linewidth=1, linestyle=":", label="dense")
        if panel == HELD_OUT:
            axes.axhspan(dense, dense * (1 + TOLERANCE), color="0.9", label=f"within {TOLERANCE:.0%}")
        if panel != "tasks":
            axes.set_yscale("log")
            plain = FuncFormatter(lambda value, _: f"{value:g}")
            axes.yaxis.set_major_formatter(plain)
            low, high = axes.get_ylim()
            axes.yaxis.set_minor_formatter(plain if high / low < 20 else NullFormatter())
        else:
            axes.set_ylim(0, 1.03)  # from 0: small differences between few items should look small
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("attention sublayers removed")
        axes.set_ylabel(_label(panel, study))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.92")
        axes.set_axisbelow(True)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.suptitle(f"{study.model.name}: before and after recovery", x=0.01, ha="left", fontsize=11)
    figure.legend(handles, labels, loc="outside lower left", ncols=3, frameon=False, fontsize=8.5)
    figure.savefig(file, dpi=150)


def _interactive(study: Study, file: Path) -> None:
    panels = _panels(study)
    figure = plotly_figure(f"{study.model.name}: before and after recovery").set_subplots(1, len(panels))
    for column, panel in enumerate(panels, 1):
        for n, criterion in enumerate(study.criteria):
            for after, name in ((False, "pruned"), (True, "recovered")):
                budgets, values = _line(study, criterion, panel, after)
                figure.add_scatter(
                    x=budgets,
                    y=values,
                    name=f"{criterion}, {name}",
                    legendgroup=f"{criterion}, {name}",
                    showlegend=column == 1,
                    mode="lines+markers",
                    line={"color": _COLOURS[n % len(_COLOURS)], "dash": "solid" if after else "dash"},
                    hovertemplate="%{x} removed: %{y:.4g}<extra></extra>",
                    row=1,
                    col=column,
                )
        figure.update_xaxes(title="attention sublayers removed", dtick=1, row=1, col=column)
        kind = "linear" if panel == "tasks" else "log"
        figure.update_yaxes(title=_label(panel, study), type=kind, row=1, col=column)
    figure.write_html(file, include_plotlyjs=True, full_html=True)

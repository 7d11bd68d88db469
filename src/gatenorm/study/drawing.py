"""The figure of a reproduction, by the package that draws those of ``curve`` and ``compare``."""

from pathlib import Path

from gatenorm.analysis.agreement import agreements
from gatenorm.errors import OutputError
from gatenorm.records.rankings import RankingComparison
from gatenorm.study.record import Reproduction


def check_drawable(kind: str | None, path: Path) -> None:
    """Refuse to draw a recipe that has no figure, before anything is measured.

    Raises:
        OutputError: it has none.
    """
    if kind is None:
        raise OutputError("nothing-to-draw", "cannot be drawn: this recipe has no figure", field="plot", given=path)


def plot(found: Reproduction, path: Path) -> None:
    """Draw perplexity by count, the layers that each ranking removes, scores by layer, or how far rankings agree.

    Raises:
        OutputError: the recipe has no figure, or as ``write_figure``.
    """
    from gatenorm.report.figures.curve import plot_lines
    from gatenorm.report.figures.rankings import plot_agreement, plot_layers, plot_selection

    check_drawable(found.plot, path)
    scores = tuple(found.scores.values())
    if found.plot == "curve":
        plot_lines(found.lines, found.band, f"{found.model.name}: {found.title}", path)
    elif found.plot == "selection":
        plot_selection(scores, path)
    elif found.plot == "layers":
        plot_layers(scores, path)
    else:
        plot_agreement(RankingComparison(found.model, scores, agreements(scores), ()), path)

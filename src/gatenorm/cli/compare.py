"""``gatenorm compare``: how far criteria agree on a model, and what each of them cost."""

from typing import Unpack

from gatenorm.cli import checks, console
from gatenorm.cli.options import common, ranking

NAME = "compare"
EXAMPLE = "Example: gatenorm compare ./llama --criteria gate-norm,cosine@random,cosine@self --plot agreement.svg"


def command(
    *,
    model: common.Model,
    criteria: ranking.Criteria = ("gate-norm", "gate-norm-heads", "cosine@random", "cosine@self"),
    bound: ranking.Bound,
    json: common.Json,
    plot: common.Plot,
    selection: ranking.SelectionPlot,
    heads: ranking.HeadsPlot,
    **how: Unpack[ranking.Scoring],
) -> None:
    """Score MODEL by several criteria and show how far they agree; a weight-only one is only a proxy for the others."""
    from gatenorm import api
    from gatenorm.cli.tables.comparison import show
    from gatenorm.criteria.criterion_spec import criterion_specs

    tokens = checks.tokens(how, how["documents"])
    criterion_specs(criteria, tokens)
    session = checks.scoring_session(model, how)
    with console.progress_bar("comparing criteria", "steps") as progress:
        comparison = api.compare(
            session, criteria, calibration=tokens, bound=bound, seed=how["seed"], progress=progress
        )
    if plot:
        from gatenorm.report.figures.rankings import plot_agreement

        plot_agreement(comparison, plot)
    if selection:
        from gatenorm.report.figures.rankings import plot_selection

        plot_selection(comparison.scores, selection)
    if heads:
        from gatenorm.report.figures.rankings import plot_heads

        plot_heads(api.score(session.layout, "gate-norm-heads"), heads)
    console.deliver(json, comparison, lambda: show(comparison))

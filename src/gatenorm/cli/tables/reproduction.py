"""Recipes and what they gave, as tables: figures by ranking and count, and claims beside the paper's."""

from collections.abc import Mapping, Sequence

from rich.table import Table

from gatenorm.analysis.agreement import BUDGETS
from gatenorm.cli import console
from gatenorm.cli.tables import table
from gatenorm.records.evidence import Figure
from gatenorm.records.numbers import duration
from gatenorm.study.recipe import Recipe
from gatenorm.study.record import Part, Reproduction, split
from gatenorm.surgery.planning import count_for_share

# What is listed elsewhere, or has a row for every two criteria.
_NOT_SHOWN = ("first", "shared", "share")
# Kinds of figures have a row each of one table as long as it needs no more columns.
_COLUMNS = 4


def show_recipes(recipes: Mapping[str, Recipe]) -> None:
    """Every recipe, the model it is for, and what it needs."""
    rows = table("recipes", "name", "what", "model, what else is needed")
    for name, one in recipes.items():
        rows.add_row(name, one.title, "\n".join(filter(None, (one.model, ", ".join(one.needs)))))
    console.print_table(rows)


def show_plan(recipe: Recipe, parts: Sequence[Part]) -> None:
    """What would be measured, and for about how long."""
    rows = table(f"{recipe.title}: what would be measured", "part", ">runs, at most", ">about")
    for part in parts:
        rows.add_row(part.what, str(part.runs), duration(part.seconds))
    console.print_table(rows)
    console.say(f"about {duration(sum(part.seconds for part in parts))} in all, less what was measured before")


def show(found: Reproduction, trial: bool = False) -> None:
    """The figures, the layers that each ranking removes first, and what became of each claim."""
    console.say(f"{found.title}: {found.model.name}")
    if found.stand_in:
        console.say(f"{found.model.name} is a stand-in for {found.stand_in}: its figures say nothing of that model")
    by_what: dict[str, dict[tuple[str, str], Figure]] = {}
    for name, figure in found.figures.items():
        what, ranking, at = split(name)
        if what not in _NOT_SHOWN:
            by_what.setdefault(what, {})[ranking, at] = figure
    for names in _together(by_what):
        if len(names) == 1:
            _show_figures(names[0], by_what[names[0]])
        else:
            _show_side_by_side({what: by_what[what] for what in names})
    if found.scores:
        _show_layers(found)
    if found.claims:
        quoted = any(claim.paper for claim in found.claims)
        rows = table(f"claims of {found.source}" if quoted else "claims", "claim", "paper", "here", "verdict")
        for claim in found.claims:
            rows.add_row(claim.says, claim.paper, claim.why, claim.verdict)
        console.print_table(rows)
    for part in found.parts:
        how = ", ".join(f"{name} {value}" for name, value in part.protocol.items())
        took = f"{part.runs} measured in {duration(part.seconds)}, {part.kept} known before"
        console.say(f"{part.what}: {took}{f'; {how}' if how else ''}")
    if trial:
        console.say("carried out in small: this shows that the recipe runs; believe none of its figures and verdicts")


def _together(by_what: Mapping[str, Mapping[tuple[str, str], Figure]]) -> list[list[str]]:
    """Kinds of figures that share a table: those of few rankings and counts."""
    groups: list[list[str]] = []
    for what, own in by_what.items():
        columns = {key for name in groups[-1] for key in by_what[name]} | own.keys() if groups else ()
        if groups and len(columns) <= _COLUMNS:
            groups[-1].append(what)
        else:
            groups.append([what])
    return groups


def _show_side_by_side(by_what: Mapping[str, Mapping[tuple[str, str], Figure]]) -> None:
    """A row for each kind of figure, a column for each ranking and count."""
    columns = list(dict.fromkeys(key for own in by_what.values() for key in own))
    rows = table("figures", "what", *(f">{ranking}{f', {at}' if at != '0' else ''}" for ranking, at in columns))
    for what, own in by_what.items():
        rows.add_row(what, *(_cell(own[key]) if key in own else "" for key in columns))
    console.print_table(rows)


def _show_figures(what: str, own: Mapping[tuple[str, str], Figure]) -> None:
    """One kind of figure; the axis with fewer values makes the columns."""
    rankings, places = (list(dict.fromkeys(key[n] for key in own)) for n in (0, 1))
    turned = len(rankings) < len(places)
    across, down = (rankings, places) if turned else (places, rankings)

    def drawn(columns: Sequence[str]) -> Table:
        rows = table(what, "at" if turned else "ranking", *(f">{name}" for name in columns))
        for row in down:
            cells = [own.get((column, row) if turned else (row, column)) for column in columns]
            rows.add_row(row, *("" if cell is None else _cell(cell) for cell in cells))
        return rows

    console.print_parts(drawn, across)


def _cell(figure: Figure) -> str:
    ends = f" ({figure.low:.3g} to {figure.high:.3g})" if figure.low is not None and figure.high is not None else ""
    return f"{figure.value:.4g}{ends}"


def _show_layers(found: Reproduction) -> None:
    shares = BUDGETS[:3]
    rows = table("layers removed first", "ranking", *(f"{share:.0%}" for share in shares))
    for name, scores in found.scores.items():
        counts = [count_for_share(share, len(scores.layers)) for share in shares]
        rows.add_row(name, *(", ".join(map(str, sorted(scores.ranking[:count]))) for count in counts))
    console.print_table(rows)

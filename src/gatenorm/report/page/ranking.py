"""The report on the choice: scores by depth, the layers of each variant, how far the criteria agree."""

from collections.abc import Sequence

from gatenorm.analysis.agreement import BUDGETS, label, removed_from
from gatenorm.findings import perplexities
from gatenorm.records import ATTENTION, Scores, spans
from gatenorm.records.audit import CANDIDATE, PRUNED, Audit, AuditedVariant
from gatenorm.records.numbers import duration
from gatenorm.records.rankings import Agreement
from gatenorm.report.figures.rankings import (
    agreement_figure,
    removed_figure,
    scores_figure,
    selection_figure,
)
from gatenorm.report.page.audit_view import candidates, chosen, comparisons, findings, title, verb
from gatenorm.report.page.blocks import Block, Cell, Chart, Charts, Column, Details, Row, Section, Table, Text, numeric
from gatenorm.report.page.wording import NONE, fixed, number, percent, size
from gatenorm.surgery.operation import participles
from gatenorm.surgery.planning import count_for_share


def depth(audit: Audit) -> Section:
    """Scores by layer with those of the chosen variant marked, then the layers of each variant."""
    variant = chosen(audit) or next(iter(candidates(audit)), None)
    blocks: list[Block] = [
        Text(
            "A criterion scores every attention sublayer, and those with the lowest scores are removed first. Layers "
            "keep their original numbers, counted from 0; scores have no unit and compare only within one criterion."
        )
    ]
    blocks += [_scores(audit, scores, variant) for scores in _shown(audit, variant)]
    if audit.variants:
        blocks.append(_matrix(audit))
    notes = tuple(dict.fromkeys(note for scores in audit.scores for note in scores.notes))
    blocks += [Text(note, quiet=True) for note in notes]
    return Section("depth", "Scores by depth", tuple(blocks))


def baselines(audit: Audit) -> Section:
    """What each ranking would have cost, those that know nothing of the model among them."""
    blocks: list[Block] = [
        Text(
            "A ranking is worth following if it costs less than removing the last layers, and than removing layers "
            "drawn at random."
        )
    ]
    table = rankings_table(audit)
    others = comparisons(audit)
    if table is None or not others:
        blocks = [Text("No other ranking was measured.")]
    else:
        blocks += [table, Details(f"Layers of the {len(others)} comparisons", (_layers(audit, others),))]
    return Section("baselines", "Appendix: what a ranking has to beat", tuple(blocks))


def agreement(audit: Audit) -> Section:
    """Which layers each criterion removes at which budget, and the rank correlation of every two."""
    # How far draws agree by chance is known without drawing.
    own = [s for s in audit.comparison.scores if s.criterion != "random"] if audit.comparison else []
    if audit.comparison is None or len(own) < 2:
        return Section(
            "agreement", "Agreement of the criteria", (Text("There is only one ranking, nothing to compare."),)
        )
    blocks: list[Block] = [
        Text(
            "If criteria that measure different things would remove the same layers, the choice does not depend on one "
            "of them. A rank correlation of 1 means the same order, 0 chance, −1 the opposite order."
        ),
        _selection(own),
        Charts((_correlations([label(scores) for scores in own], audit.comparison.agreements),)),
    ]
    return Section("agreement", "Agreement of the criteria", tuple(blocks))


def _shown(audit: Audit, variant: AuditedVariant | None) -> list[Scores]:
    first = list(audit.scores[:1])
    used = [s for s in audit.scores if variant is not None and label(s) == variant.criterion]
    return first + [s for s in used if s not in first]


def _scores(audit: Audit, scores: Scores, variant: AuditedVariant | None) -> Chart:
    gone = tuple(variant.plan.added.attention) if variant else ()
    name = label(scores)
    meaning = f"{participles(variant.plan.added)} in {title(variant)}" if variant else "removed"
    place = {layer: n + 1 for n, layer in enumerate(scores.ranking)}
    without = candidates(audit)
    rows: list[Row] = [
        {
            "Layer": str(s.layer),
            numeric("Score"): number(s.score, 5),
            numeric("Rank, 1 is removed first"): str(place[s.layer]),
            f"{verb(audit).capitalize()} in": ", ".join(title(v) for v in without if s.layer in v.plan.added.attention)
            or "kept by all",
        }
        for s in scores.layers
    ]
    weakest = ", ".join(map(str, scores.ranking[:4]))
    marked = f" Layers {spans(gone)} are marked: {meaning}." if gone else ""
    took = f" Scored in {duration(scores.seconds)}, {size(scores.bytes_read)} read." if scores.bytes_read else ""
    return Chart(
        name=f"scores-{audit.scores.index(scores)}",
        title=f"{name} by layer",
        says=f"Bars of {name} for {len(scores.layers)} layers; the weakest are {weakest}.{marked}{took}",
        figure=scores_figure(scores, gone, meaning),
        table=Table.of_rows(f"{name}, layer by layer", rows),
    )


def _matrix(audit: Audit) -> Chart:
    own, done = candidates(audit), verb(audit)
    layers = (
        sorted({s.layer for s in audit.scores[0].layers} | {i for v in own for i in v.plan.added.attention})
        if audit.scores
        else []
    )
    layers = layers or list(range(audit.model.layers))
    return Chart(
        name="removed",
        title=f"Attention {done} in each variant",
        says=f"A row for each of {len(own)} variants, a column a layer; filled cells are {done}.",
        figure=removed_figure(layers, {title(v): _fates(v) for v in own}),
        table=_layers(audit, own),
    )


def rankings_table(audit: Audit) -> Table | None:
    """Perplexity by ranking and number of sublayers: the candidates and the baselines they have to beat."""
    if not comparisons(audit):
        return None
    everyone = [*candidates(audit), *comparisons(audit)]
    pruned = [v for v in everyone if v.state == PRUNED and not v.plan.replaces and perplexities(findings(audit, v))]
    counts = sorted({len(v.plan.added.attention) for v in pruned})
    rows = []
    for criterion in dict.fromkeys(v.criterion for v in pruned):
        own = {len(v.plan.added.attention): v for v in reversed(pruned) if v.criterion == criterion}
        role = "candidate" if any(v.role == CANDIDATE for v in own.values()) else "for comparison"
        rows.append((Cell(criterion, note=role), *(_removed(audit, own.get(n)) for n in counts)))
    caption = "Perplexity with the layers removed that each ranking would choose"
    return Table.of(caption, ["Ranking", *(numeric(f"{n} removed", "perplexity") for n in counts)], rows)


def _removed(audit: Audit, variant: AuditedVariant | None) -> Cell:
    if variant is None:
        return Cell(NONE)
    first, *more = perplexities(findings(audit, variant))
    rise = percent(first.difference, 1, sign=True) + (f" on {first.name}" if more else "")
    return Cell(number(first.after), note=f"{rise}; {spans(variant.plan.added.attention)}")


def _layers(audit: Audit, own: Sequence[AuditedVariant]) -> Table:
    done = verb(audit)
    rows: list[Row] = [
        {
            "Variant": title(v),
            "Criterion": v.criterion,
            f"Layers {done}": spans(v.plan.added.attention),
            numeric("Count"): str(len(v.plan.added.attention)),
            numeric("Share"): f"{v.share:.1%}",
        }
        for v in own
    ]
    return Table.of_rows(f"Layers whose attention is {done} in each variant", rows)


def _fates(variant: AuditedVariant) -> dict[int, str]:
    return {e.layer: participles([e]) for e in variant.plan.added if e.sublayer == ATTENTION}


def _selection(own: list[Scores]) -> Chart:
    layers = sorted(own[0].by_layer)
    counts = [count_for_share(share, len(layers)) for share in BUDGETS]
    columns = [Column("Criterion")]
    columns += [Column(f"Removed at {share:.0%}", f"{n} layers") for share, n in zip(BUDGETS, counts, strict=True)]
    rows = []
    for scores in own:
        budgets = removed_from(scores, layers)
        gone = [[layer for layer, b in zip(layers, budgets, strict=True) if b <= n] for n in range(len(BUDGETS))]
        rows.append([label(scores), *map(spans, gone)])
    return Chart(
        name="selection",
        title="Which layers each criterion removes, by budget",
        says=(
            "A row a criterion, a column a layer. The darker a cell (on a dark page: the lighter), the smaller the "
            f"budget at which the layer goes: {', '.join(f'{share:.0%}' for share in BUDGETS)}; empty cells are kept."
        ),
        figure=selection_figure(own),
        table=Table.of("Layers removed by each criterion at each budget", columns, rows),
    )


def _correlations(names: list[str], agreements: Sequence[Agreement]) -> Chart:
    own = [pair for pair in agreements if {pair.first, pair.second} <= {*names}]
    rows: list[list[Cell | str]] = []
    for pair in own:
        shared = [Cell(f"{len(o.shared)} of {o.count}", note=f"chance {o.chance:.1f}") for o in pair.overlaps]
        figures = [fixed(value, 2, sign=True) for value in (pair.spearman, pair.kendall)]
        rows.append([f"{pair.first} and {pair.second}", *figures, *shared])
    columns = [Column("Criteria"), numeric("Spearman"), numeric("Kendall")]
    columns += [numeric(f"Shared at {share:.0%}") for share in BUDGETS]
    first = ", ".join(f"{p.second} {fixed(p.spearman, 2, sign=True)}" for p in own if p.first == names[0])
    return Chart(
        name="correlation",
        title="Rank correlation of every two criteria",
        says=f"Spearman's correlation of {names[0]} with the others: {first}.",
        figure=agreement_figure(names, own),
        table=Table.of("Rank correlations and shared layers of every two criteria", columns, rows),
    )

"""Whether the paper's claims hold here: a figure held against a number, or against another figure item by item."""

from collections.abc import Mapping

from gatenorm.evaluation.statistics.bootstrap import bootstrap
from gatenorm.records.evidence import Figure
from gatenorm.study.recipe import Claim
from gatenorm.study.record import RANDOM, Judged, Verdict, split

# Of figures that are means over the same items: each item's value and weight.
Items = Mapping[str, tuple[tuple[float, float], ...]]


def judged(
    claim: Claim, figures: Mapping[str, Figure], items: Items, stand_in: bool = False, trial: bool = False
) -> Judged:
    """The claim with its verdict.

    A difference whose 95% interval includes zero is inconclusive; figures without an interval decide by themselves, and
    so do means of random draws, whose ends are the least and the largest draw.

    Args:
        items: of figures that can be compared item by item.
        stand_in: whether the model is another than the one whose numbers the paper reports.
        trial: whether so little was measured that nothing is judged.
    """
    ours = figures.get(claim.figure)
    verdict, why = _verdict(claim, ours, figures, items, stand_in)
    if trial and verdict != "not measured":
        verdict, why = "not comparable", "a trial measures too little to judge by"
    return Judged(says=claim.says, paper=claim.paper, figure=claim.figure, ours=ours, verdict=verdict, why=why)


def _verdict(
    claim: Claim, ours: Figure | None, figures: Mapping[str, Figure], items: Items, stand_in: bool
) -> tuple[Verdict, str]:
    if ours is None:
        return "not measured", "this run has no such figure"
    if claim.near is not None:
        allowed = claim.tolerance * abs(claim.near)
        off = f"{ours.value:.4g} beside {claim.near:.4g}, where {claim.tolerance:.0%} is allowed"
        if stand_in:
            return "not comparable", f"{off}: a stand-in has figures of its own"
        return ("holds" if abs(ours.value - claim.near) <= allowed else "does not hold"), off
    other, sign = (claim.below, 1.0) if claim.above is None else (claim.above, -1.0)
    word = "below" if sign > 0 else "above"
    if isinstance(other, str):
        if other not in figures:
            return "not measured", f"this run has no {other}"
        against = figures[other]
        named = f"{against.value:.4g} ({other})"
        named = named if not claim.by else f"{claim.by:.4g} {'less' if sign > 0 else 'more'} than {named}"
        change = _shifted(_difference(claim.figure, other, ours, against, items), sign * claim.by)
    else:
        assert other is not None
        drawn = split(claim.figure)[1] == RANDOM
        named, change = f"{other:.4g}", _shifted(Figure(value=ours.value) if drawn else ours, -other)
    says = f"{ours.value:.4g} {{}}{word} {named}"
    ends = sorted(sign * end for end in (change.low, change.high) if end is not None)
    if ends and ends[0] <= 0 <= ends[1] and ends[0] < ends[1]:
        return "inconclusive", f"{says.format('')}? The difference is {change.value:+.3g} ({_span(change)})"
    holds = sign * change.value < 0
    interval = f"; the difference is {change.value:+.3g} ({_span(change)})" if ends else ""
    return ("holds" if holds else "does not hold"), says.format("is " if holds else "is not ") + interval


def _difference(name: str, other: str, ours: Figure, against: Figure, items: Items) -> Figure:
    """Ours less the other, drawn again item by item where both are means over the same items."""
    mine, theirs = items.get(name), items.get(other)
    if mine and theirs and [w for _, w in mine] == [w for _, w in theirs]:
        changes = [a - b for (a, _), (b, _) in zip(mine, theirs, strict=True)]
        return bootstrap(changes, [weight for _, weight in mine])
    return Figure(value=ours.value - against.value)


def _shifted(figure: Figure, by: float) -> Figure:
    low, high = (None if end is None else end + by for end in (figure.low, figure.high))
    return Figure(value=figure.value + by, low=low, high=high)


def _span(change: Figure) -> str:
    return f"95%: {change.low:+.3g} to {change.high:+.3g}"

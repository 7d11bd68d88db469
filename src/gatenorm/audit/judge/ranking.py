"""Which ranking this model's losses support best, and how far all of them agree."""

from collections.abc import Mapping, Sequence

from gatenorm.analysis.agreement import agreements, label
from gatenorm.analysis.diagnostics import few_shared
from gatenorm.calibration.samples import SELF
from gatenorm.families import Layout
from gatenorm.findings import loss_change
from gatenorm.records import Scores
from gatenorm.records.audit import BestSupported
from gatenorm.records.evidence import Change, Perplexity
from gatenorm.records.rankings import RankingComparison

RULE = (
    "best supported is the ranking whose choice at the budget nearest to 20% costs least loss on the first text; "
    "of equal ones the one asked for first; without a text, the paper's unless it shares fewer than half of its "
    "choice with every cosine, then cosine on self-sampled tokens"
)


def best_supported(
    scores: Sequence[Scores], checks: Sequence[Scores], count: int, measured: Mapping[str, Perplexity]
) -> BestSupported:
    """Which ranking to follow on this model; see ``RULE``.

    Args:
        scores: those of the configuration, the first of them the one under test.
        checks: the data-free cosines, the one on calibration text, norm-ratio and weight-magnitude.
        count: how many layers the judged choice removes.
        measured: that choice on the first text by ranking's name; empty where there is no text.
    """
    first = label(scores[0])
    if measured:
        losses = {name: measured[name].nll for s in (*scores, *checks) if (name := label(s)) in measured}
        best = min(losses, key=losses.__getitem__)
        margins = {name: loss_change(measured[best], measured[name]) for name in losses if name != best}
        others = "".join(f"; by {name} {_more(margin)}" for name, margin in margins.items())
        why = f"with {count} removed its loss is {losses[best]:.4f} nats a token{others}"
        return BestSupported(ranking=best, why=why, count=count, losses=losses, rule=RULE, margins=margins)
    cosines = [check for check in checks if check.criterion == "cosine"]
    doubted = bool(cosines) and all(few_shared(scores[0], check, count) is not None for check in cosines)
    on_self = next((label(c) for c in cosines if c.calibration and c.calibration.source == SELF), first)
    why = (
        f"no text was given to judge by; {first} shares {'fewer' if doubted else 'no fewer'} than half of its choice "
        "with the cosines"
    )
    return BestSupported(ranking=on_self if doubted else first, why=why, count=count, losses={}, rule=RULE)


def _more(margin: Change) -> str:
    if margin.difference == 0:
        return "the same"
    if margin.low is None or margin.high is None:
        return f"{margin.difference:.4f} more, without an interval"
    doubt = ": not proven" if margin.low <= 0 else ""
    return f"{margin.difference:.4f} more ({margin.low:.4f} to {margin.high:.4f}{doubt})"


def comparison(layout: Layout, scores: Sequence[Scores]) -> RankingComparison | None:
    """How far all rankings agree with each other; ``None`` for one alone."""
    if len(scores) < 2:
        return None
    found = agreements(scores)
    return RankingComparison(model=layout.identity(), scores=tuple(scores), agreements=found, warnings=())

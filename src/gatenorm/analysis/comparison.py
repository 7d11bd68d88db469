"""Several criteria on one model: their scores, how far they agree, and what that warns of."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from gatenorm.analysis.agreement import agree
from gatenorm.analysis.bound import check_bound, measure_bound
from gatenorm.analysis.diagnostics import few_shared, gate_norms_do_not_fall
from gatenorm.criteria.criterion_spec import CriterionSpec, score_all
from gatenorm.criteria.registry import weight_criterion
from gatenorm.criteria.session import ScoringSession
from gatenorm.criteria.tokens.sources import RANDOM, SELF, Calibration
from gatenorm.errors import CriterionError
from gatenorm.progress import Progress
from gatenorm.records import Scores
from gatenorm.records.rankings import RankingComparison
from gatenorm.surgery.planning import count_for_share

# The budget at which the warning about few shared layers is given: what METHOD calls practical.
_WARN_AT = 0.2


def compare(
    session: ScoringSession,
    asked: Sequence[CriterionSpec],
    *,
    bound_on: Calibration | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> RankingComparison:
    """Score by several criteria and hold every two against each other.

    Args:
        bound_on: tokens on which both sides of the bound are taken; ``None`` leaves it out.
        seed: of the criterion ``random``.

    Raises:
        CriterionError: fewer than two criteria, or as :func:`score_all`.
    """
    if len(asked) < 2:
        expected = "two or more, such as gate-norm,cosine@self"
        raise CriterionError("criteria-too-few", "is too few", field="criteria", given=len(asked), expected=expected)
    if bound_on is not None:
        check_bound(session)
        session.prepare("cosine", bound_on)
    scores = score_all(session, asked, seed=seed, progress=progress)
    bound = measure_bound(session, bound_on, progress) if bound_on is not None else None
    # Of one layer alone nothing could be said: two random choices share it once in as many times as there are layers.
    count = max(2, count_for_share(_WARN_AT, len(session.layout.attention_layers)))
    warnings = [gate_norms_do_not_fall(s) for s in scores]
    check = _most_telling(scores)
    if check is not None:
        proxies = (s for s in scores if (of := weight_criterion(s.criterion)) and of.reads)  # baselines are no proxies
        warnings += [few_shared(proxy, check, count) for proxy in proxies]
    return RankingComparison(
        model=session.layout.identity(),
        scores=tuple(scores),
        agreements=tuple(agree(a, b) for a, b in combinations(scores, 2)),
        warnings=tuple(w for w in warnings if w is not None),
        bound=bound,
    )


def _most_telling(scores: Sequence[Scores]) -> Scores | None:
    """The ``cosine`` to warn by: on text rather than on the model's own, on that rather than on random tokens."""
    given = {str(s.calibration["source"]): s for s in scores if s.criterion == "cosine" and s.calibration}
    drawn = [given[source] for source in (SELF, RANDOM) if source in given]
    return next((s for source, s in given.items() if source not in (SELF, RANDOM)), drawn[0] if drawn else None)

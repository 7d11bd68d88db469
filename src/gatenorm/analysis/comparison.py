"""Rankings held against each other: several criteria, or one against a cross-check."""

from collections.abc import Sequence

from gatenorm.analysis.agreement import agree, agreements, label
from gatenorm.analysis.bound import check_bound, measure_bound
from gatenorm.analysis.diagnostics import few_shared, gate_norms_do_not_fall
from gatenorm.calibration.samples import RANDOM, SELF, Calibration, with_source
from gatenorm.criteria.criterion_spec import CriterionSpec, score_all
from gatenorm.criteria.registry import weight_criterion
from gatenorm.criteria.session import ScoringSession
from gatenorm.errors import CriterionError
from gatenorm.evaluation.core.text import GENERIC
from gatenorm.models.named import reads_text
from gatenorm.progress import Progress
from gatenorm.records import ATTENTION, Scores
from gatenorm.records.rankings import CrossCheck, Dispute, RankingComparison
from gatenorm.surgery.planning import count_for_share

CHECK = "cosine"


def cross_check(
    session: ScoringSession,
    scores: Scores,
    count: int,
    *,
    protect: Sequence[int] = (),
    calibration: Calibration | None = None,
    progress: Progress | None = None,
) -> CrossCheck:
    """Hold a scoring against ``cosine`` on packaged text and on random tokens; ``count`` layers are to be removed.

    A model that has no tokenizer, or a language of its own, reads text that it samples itself instead of the packaged
    one. The source of ``calibration`` is not used.

    Raises:
        CalibrationError, CheckpointError, MissingExtraError: the model cannot be run.
    """
    how = calibration or Calibration(RANDOM)
    sources = (GENERIC if reads_text(session.layout) else SELF, RANDOM)
    checks = tuple(session.score(CHECK, with_source(how, source), progress) for source in sources)
    return held_against(scores, checks, count, protect)


def held_against(scores: Scores, checks: Sequence[Scores], count: int, protect: Sequence[int] = ()) -> CrossCheck:
    """The cross-check of a scoring by others of the same model that were made before.

    Args:
        count: how many layers are to be removed.
        protect: layers that must stay, whatever a criterion says.
    """
    disputes, warnings = [], [gate_norms_do_not_fall(scores)]
    chosen = {*scores.weakest(count, protect)}
    for check in checks:
        other = {*check.weakest(count, protect)}
        only_scores, only_check = tuple(sorted(chosen - other)), tuple(sorted(other - chosen))
        disputes.append(Dispute(check=label(check), only_scores=only_scores, only_check=only_check))
        warnings.append(few_shared(scores, check, count, protect))
    return CrossCheck(
        scores=scores,
        checks=tuple(checks),
        count=count,
        agreements=tuple(agree(scores, check) for check in checks),
        disputes=tuple(disputes),
        warnings=tuple(warning for warning in warnings if warning is not None),
    )


# The share of the sublayers at which choices are compared where nobody names another budget.
PRACTICAL = 0.2


def compare(
    session: ScoringSession,
    asked: Sequence[CriterionSpec],
    *,
    bound_on: Calibration | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> RankingComparison:
    """Score by several criteria and hold every two against each other, and take both sides of the bound if asked.

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
    count = max(2, count_for_share(PRACTICAL, len(session.layout.removable(ATTENTION))))
    warnings = [gate_norms_do_not_fall(s) for s in scores]
    check = _most_telling(scores)
    if check is not None:
        proxies = (s for s in scores if (of := weight_criterion(s.criterion)) and of.reads)  # baselines are no proxies
        warnings += [few_shared(proxy, check, count) for proxy in proxies]
    return RankingComparison(
        model=session.layout.identity(),
        scores=tuple(scores),
        agreements=agreements(scores),
        warnings=tuple(w for w in warnings if w is not None),
        bound=bound,
    )


def _most_telling(scores: Sequence[Scores]) -> Scores | None:
    """The ``cosine`` to warn by: on text rather than on the model's own, on that rather than on random tokens."""
    given = {s.calibration.source: s for s in scores if s.criterion == "cosine" and s.calibration}
    drawn = [given[source] for source in (SELF, RANDOM) if source in given]
    return next((s for source, s in given.items() if source not in (SELF, RANDOM)), drawn[0] if drawn else None)

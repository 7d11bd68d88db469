"""A ranking by weights alone, held against forward passes that need nobody's data."""

from __future__ import annotations

from collections.abc import Sequence

from gatenorm.analysis.agreement import agree, label
from gatenorm.analysis.diagnostics import few_shared, gate_norms_do_not_fall, weakest
from gatenorm.criteria.session import ScoringSession
from gatenorm.criteria.tokens.sources import RANDOM, SELF, Calibration, with_source
from gatenorm.progress import Progress
from gatenorm.records import Scores
from gatenorm.records.rankings import CrossCheck, Dispute

CHECK = "cosine"
SOURCES = (RANDOM, SELF)


def cross_check(
    session: ScoringSession,
    scores: Scores,
    count: int,
    *,
    sources: Sequence[str] = SOURCES,
    protect: Sequence[int] = (),
    calibration: Calibration | None = None,
    progress: Progress | None = None,
) -> CrossCheck:
    """Hold a scoring against ``cosine`` on random tokens and on text that the model samples from itself.

    Args:
        scores: of the session's model.
        count: how many layers are to be removed.
        sources: where the checks' tokens come from.
        protect: layers that must stay, whatever a criterion says.
        calibration: how many samples of which length, with which seed; its source is not used.

    Raises:
        CalibrationError, CheckpointError, MissingExtraError: the model cannot be run.
    """
    how = calibration or Calibration(RANDOM)
    checks = tuple(session.score(CHECK, with_source(how, source), progress) for source in sources)
    return held_against(scores, checks, count, protect)


def held_against(scores: Scores, checks: Sequence[Scores], count: int, protect: Sequence[int] = ()) -> CrossCheck:
    """The cross-check of a scoring by others of the same model that were made before.

    Args:
        count: how many layers are to be removed.
        protect: layers that must stay, whatever a criterion says.
    """
    disputes, warnings = [], [gate_norms_do_not_fall(scores)]
    chosen = {*weakest(scores, count, protect)}
    for check in checks:
        other = {*weakest(check, count, protect)}
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

"""A ranking by weights alone, held against forward passes that need nobody's data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gatenorm.analysis.agreement import Agreement, agree, label
from gatenorm.analysis.diagnostics import few_shared, gate_norms_do_not_fall, weakest
from gatenorm.criteria.laboratory import Laboratory
from gatenorm.criteria.tokens.sources import RANDOM, SELF, Calibration, with_source
from gatenorm.progress import Progress
from gatenorm.records import Diagnostic, Scores, check_schema, from_json, to_json
from gatenorm.records.validation import layers, readable, whole

CROSS_CHECK_SCHEMA = "gatenorm/cross-check/1"
CHECK = "cosine"
SOURCES = (RANDOM, SELF)


@dataclass(frozen=True)
class Dispute:
    """The layers that only one of two criteria would remove at the budget."""

    check: str
    only_scores: tuple[int, ...]
    only_check: tuple[int, ...]


@dataclass(frozen=True)
class CrossCheck:
    """A scoring, the data-free scorings that it was held against, and where they part at a budget of ``count``."""

    scores: Scores
    checks: tuple[Scores, ...]
    count: int
    agreements: tuple[Agreement, ...]
    disputes: tuple[Dispute, ...]
    warnings: tuple[Diagnostic, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": CROSS_CHECK_SCHEMA,
            "criterion": label(self.scores),
            "scores": to_json(self.scores),
            "count": self.count,
            "checks": [to_json(scores) for scores in self.checks],
            "agreements": [agreement.to_json() for agreement in self.agreements],
            "disputes": [
                {"check": d.check, "only_scores": list(d.only_scores), "only_check": list(d.only_check)}
                for d in self.disputes
            ],
            "warnings": [warning.to_json() for warning in self.warnings],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CrossCheck:
        check_schema(data, CROSS_CHECK_SCHEMA, "a cross-check")
        with readable("a cross-check"):
            return cls(
                scores=from_json(Scores, data["scores"], "a cross-check"),
                checks=tuple(from_json(Scores, scores, "a cross-check") for scores in data["checks"]),
                count=whole(data["count"]),
                agreements=tuple(Agreement.from_json(agreement) for agreement in data["agreements"]),
                disputes=tuple(
                    Dispute(str(d["check"]), layers(d["only_scores"]), layers(d["only_check"]))
                    for d in data["disputes"]
                ),
                warnings=tuple(Diagnostic.from_json(warning) for warning in data["warnings"]),
            )


def cross_check(
    laboratory: Laboratory,
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
        scores: of the laboratory's model.
        count: how many layers are to be removed.
        sources: where the checks' tokens come from.
        protect: layers that must stay, whatever a criterion says.
        calibration: how many samples of which length, with which seed; its source is not used.

    Raises:
        CalibrationError, CheckpointError, MissingExtraError: the model cannot be run.
    """
    how = calibration or Calibration(RANDOM)
    checks = tuple(laboratory.score(CHECK, with_source(how, source), progress) for source in sources)
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
        disputes.append(Dispute(label(check), tuple(sorted(chosen - other)), tuple(sorted(other - chosen))))
        warnings.append(few_shared(scores, check, count, protect))
    return CrossCheck(
        scores=scores,
        checks=tuple(checks),
        count=count,
        agreements=tuple(agree(scores, check) for check in checks),
        disputes=tuple(disputes),
        warnings=tuple(warning for warning in warnings if warning is not None),
    )

"""What is asked for by name: a criterion, and the tokens that it looks at where it looks at any."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from gatenorm.calibration.samples import Calibration, with_source
from gatenorm.criteria.criterion import WeightCriterion
from gatenorm.criteria.registry import criterion
from gatenorm.criteria.scoring import calibration_missing, score as score_weights
from gatenorm.criteria.session import ScoringSession
from gatenorm.errors import CalibrationError, CriterionError
from gatenorm.progress import Progress
from gatenorm.records import ATTENTION, KINDS, Scores


@dataclass(frozen=True)
class CriterionSpec:
    """A criterion, and its tokens; ``None`` where it looks at weights alone.

    ``given`` is how it was named where that names the tokens too, such as ``cosine@self``.
    """

    name: str
    calibration: Calibration | None = None
    given: str = field(default="", compare=False)


def criterion_specs(names: Sequence[str], calibration: Calibration) -> list[CriterionSpec]:
    """What ``gate-norm``, ``cosine`` or ``cosine@self`` ask for; ``@`` names tokens in place of ``calibration``'s.

    Raises:
        CriterionError: an unknown criterion, one named twice, tokens for one that looks at none, or none for one that
            needs them.
    """
    found: list[CriterionSpec] = []
    for text in names:
        name, at, source = text.partition("@")
        weights_only = isinstance(criterion(name), WeightCriterion)
        if at and (weights_only or not source):
            expected = (
                "it looks at weights alone"
                if weights_only
                else "expected self, generic, random or a text file behind @"
            )
            raise CriterionError("criterion-tokens", f"cannot be used: {expected}", field="criterion", given=text)
        tokens = with_source(calibration, source) if at else calibration
        if not weights_only and not tokens.source:
            raise calibration_missing(name)
        spec = CriterionSpec(name, None if weights_only else tokens, text if at else "")
        if spec in found:
            raise CriterionError("criterion-twice", "is given twice", field="criteria", given=text)
        found.append(spec)
    return found


def score_all(
    session: ScoringSession,
    specs: Sequence[CriterionSpec],
    *,
    kind: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Scores]:
    """Scores for every criterion; what can be wrong with any of them is said before the first is carried out.

    Without a ``kind``, each criterion ranks what it ranks first of all, which must say something of attention.
    """
    for spec in specs:
        kinds = criterion(spec.name).kinds
        if kind is None and not any(ATTENTION in KINDS[one] for one in kinds):
            problem = "does not rank attention sublayers, whose rankings are compared"
            hint = "leave it out, or score by it alone"
            raise CriterionError("criterion-kind", problem, field="criteria", given=spec.name, hint=hint)
        if spec.calibration is not None:
            _prepare(session, spec.name, spec.calibration, spec.given)
    return [
        score_weights(session.layout, spec.name, kind=kind, seed=seed, progress=progress)
        if spec.calibration is None
        else session.score(spec.name, spec.calibration, progress, kind)
        for spec in specs
    ]


def _prepare(session: ScoringSession, name: str, calibration: Calibration, given: str) -> None:
    """As ``ScoringSession.prepare``; errors about the tokens of ``cosine@FILE`` name that criterion."""
    try:
        session.prepare(name, calibration)
    except CalibrationError as error:
        if given and error.given == calibration.source:
            error.field, error.given = "criterion", given
        raise

"""All criteria by name: one file each in ``weights``, ``activations`` and ``ablation``, and those of other packages."""

from collections.abc import Mapping
from dataclasses import replace

from gatenorm.criteria.criterion import Criterion, ForwardCriterion, WeightCriterion
from gatenorm.errors import CriterionError, named
from gatenorm.extensions import Extension, extension, extensions
from gatenorm.records import KINDS, SINGULAR, SUBLAYERS

_WEIGHTS = "gatenorm.criteria.weights"
_PACKAGES = (_WEIGHTS, "gatenorm.criteria.activations", "gatenorm.criteria.ablation")


def known() -> Mapping[str, Extension]:
    """All criteria by name; none is imported."""
    return extensions("criteria", _PACKAGES, "CRITERION")


def criterion(name: str) -> Criterion:
    """The criterion called ``name``.

    Raises:
        CriterionError: there is none, or what another package adds under that name is no criterion.
    """
    found = extension(name, known(), CriterionError, "criterion")
    if not isinstance(found, Criterion):
        problem = f"{known()[name].origin} is a {type(found).__name__}"
        expected = "a WeightCriterion or a ForwardCriterion"
        raise CriterionError("extension-wrong", problem, field="criterion", given=name, expected=expected)
    return replace(found, name=name)


def reads_weights_only(name: str) -> bool:
    """Whether the criterion ``name`` needs no tokens; of a built-in one its package tells, so that none is imported."""
    origin = known()[name].origin
    return origin.startswith(_WEIGHTS) or (
        not origin.startswith("gatenorm.criteria.") and weight_criterion(name) is not None
    )


def weight_criterion(name: str) -> WeightCriterion | None:
    """The criterion, where it is one that needs no tokens."""
    found = criterion(name)
    return found if isinstance(found, WeightCriterion) else None


def weight_criteria() -> dict[str, WeightCriterion]:
    """Those that need no tokens."""
    return {name: found for name in known() if (found := weight_criterion(name))}


def forward_criteria() -> dict[str, ForwardCriterion]:
    """Those that run the model on tokens."""
    return {name: found for name in known() if isinstance(found := criterion(name), ForwardCriterion)}


def check_measures_damage(chosen: Criterion) -> None:
    """Raise CriterionError for a criterion that does not measure the damage of attention and MLP sublayers alike, so
    that both cannot stand in one ranking; the message names those that do.
    """
    if not (chosen.damage and {*SUBLAYERS} <= {*chosen.kinds}):
        able = [name for name in known() if criterion(name).damage]
        problem = "does not measure the damage of attention and MLP sublayers alike"
        hint = f"choose by {' or '.join(able)}, or ask for one {named('kind')} of sublayer"
        raise CriterionError("criterion-kind", problem, field="criterion", given=chosen.name, hint=hint)


def check_ranks(chosen: Criterion, kind: str) -> None:
    """Raise CriterionError for an unknown kind of sublayer, or one that the criterion does not rank; the message names
    those that do.
    """
    if kind not in KINDS:
        raise CriterionError.unknown("kind", kind, KINDS)
    if kind not in chosen.kinds:
        able = [name for name in known() if kind in criterion(name).kinds]
        problem = f"ranks {SINGULAR[chosen.kinds[0]]}s, not {SINGULAR[kind]}s"
        hint = f"ask for {named('kind')} {chosen.kinds[0]}, or choose by {', '.join(able)}"
        raise CriterionError("criterion-kind", problem, field="criterion", given=chosen.name, hint=hint)

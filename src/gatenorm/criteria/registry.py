"""All criteria by name: one file each in ``weights``, ``activations`` and ``ablation``, and those of other packages."""

from collections.abc import Mapping
from dataclasses import replace

from gatenorm.criteria.criterion import Criterion, ForwardCriterion, WeightCriterion
from gatenorm.errors import CriterionError, did_you_mean, named
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
        raise CriterionError(
            "extension-wrong",
            f"{known()[name].origin} is a {type(found).__name__}",
            field="criterion",
            given=name,
            expected="a WeightCriterion or a ForwardCriterion",
        )
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
    """Refuse to rank attention and MLP sublayers in one by scores that do not measure the damage of both alike.

    Raises:
        CriterionError: it does not; the message names those that do.
    """
    if not (chosen.damage and {*SUBLAYERS} <= {*chosen.kinds}):
        able = [name for name in known() if criterion(name).damage]
        raise CriterionError(
            "criterion-kind",
            "does not measure the damage of attention and MLP sublayers alike",
            field="criterion",
            given=chosen.name,
            hint=f"choose by {' or '.join(able)}, or ask for one {named('kind')} of sublayer",
        )


def check_ranks(chosen: Criterion, kind: str) -> None:
    """Refuse to choose sublayers of one kind by a criterion that ranks another.

    Raises:
        CriterionError: an unknown kind, or one that the criterion does not rank; the message names those that do.
    """
    if kind not in KINDS:
        raise CriterionError("kind-unknown", "is not known", field="kind", given=kind, hint=did_you_mean(kind, KINDS))
    if kind not in chosen.kinds:
        able = [name for name in known() if kind in criterion(name).kinds]
        raise CriterionError(
            "criterion-kind",
            f"ranks {SINGULAR[chosen.kinds[0]]}s, not {SINGULAR[kind]}s",
            field="criterion",
            given=chosen.name,
            hint=f"ask for {named('kind')} {chosen.kinds[0]}, or choose by {', '.join(able)}",
        )

"""All criteria by name: one file each in ``weights``, ``activations`` and ``ablation``, and those of other packages."""

from collections.abc import Mapping
from dataclasses import replace

from gatenorm.criteria.criterion import Criterion, ForwardCriterion, WeightCriterion
from gatenorm.errors import CriterionError, named
from gatenorm.extensions import Extension, extension, extensions, passing_over, working
from gatenorm.records import ANY, KINDS, SINGULAR, SUBLAYERS

# What ranks where none is named.
DEFAULT = "gate-norm"
_WEIGHTS = "gatenorm.criteria.weights"
_PACKAGES = (_WEIGHTS, "gatenorm.criteria.activations", "gatenorm.criteria.ablation")


def known() -> Mapping[str, Extension]:
    """All criteria by name; none is imported."""
    return extensions("criteria", _PACKAGES, "CRITERION", Criterion)


def criterion(name: str) -> Criterion:
    """The criterion called ``name``.

    Raises:
        CriterionError: there is none.
        GatenormError: what another package adds under that name cannot be loaded, or is no criterion.
    """
    found: Criterion = extension(name, known(), CriterionError, "criterion")
    return replace(found, name=name)


def criteria() -> dict[str, Criterion]:
    """All that can be loaded."""
    return {name: replace(found, name=name) for name, found in working(known()).items()}


def reads_weights_only(name: str) -> bool:
    """Whether the criterion ``name`` needs no tokens; of a built-in one its package tells, so that none is imported."""
    found = known()[name]
    return weight_criterion(name) is not None if found.package else found.origin.startswith(_WEIGHTS)


def names_by_need() -> tuple[list[str], list[str]]:
    """Names of the criteria that need no tokens, and of those that run the model."""
    weights: list[str] = []
    forward: list[str] = []
    for name, added in known().items():
        with passing_over(added):
            (weights if reads_weights_only(name) else forward).append(name)
    return weights, forward


def weight_criterion(name: str) -> WeightCriterion | None:
    """The criterion, where it is one that needs no tokens."""
    found = criterion(name)
    return found if isinstance(found, WeightCriterion) else None


def weight_criteria() -> dict[str, WeightCriterion]:
    """Those that need no tokens."""
    return {name: found for name, found in criteria().items() if isinstance(found, WeightCriterion)}


def forward_criteria() -> dict[str, ForwardCriterion]:
    """Those that run the model on tokens."""
    return {name: found for name, found in criteria().items() if isinstance(found, ForwardCriterion)}


def check_measures_damage(chosen: Criterion) -> None:
    """Raise CriterionError for a criterion that does not measure the damage of attention and MLP sublayers alike, so
    that both cannot stand in one ranking; the message names those that do.
    """
    if not (chosen.damage and {*SUBLAYERS} <= {*chosen.kinds}):
        able = [name for name, found in criteria().items() if found.damage]
        problem = "does not measure the damage of attention and MLP sublayers alike"
        hint = f"choose by {' or '.join(able)}, or ask for one {named('kind')} of sublayer"
        raise CriterionError("criterion-kind", problem, field="criterion", given=chosen.name, hint=hint)


def check_ranks(chosen: Criterion, kind: str) -> None:
    """Raise CriterionError for an unknown kind of sublayer, or one that the criterion does not rank; the message names
    those that do.
    """
    if kind == ANY:
        hint = "rank_sublayers ranks attention and MLP sublayers together"
        raise CriterionError("kind-of-two", "is no kind of sublayer", field="kind", given=kind, hint=hint)
    if kind not in KINDS:
        raise CriterionError.unknown("kind", kind, KINDS)
    if kind not in chosen.kinds:
        able = [name for name, found in criteria().items() if kind in found.kinds]
        problem = f"ranks {SINGULAR[chosen.kinds[0]]}s, not {SINGULAR[kind]}s"
        hint = f"ask for {named('kind')} {chosen.kinds[0]}, or choose by {', '.join(able)}"
        raise CriterionError("criterion-kind", problem, field="criterion", given=chosen.name, hint=hint)

"""The packages that add to gatenorm, and what of it cannot be used."""

from gatenorm.checkpoint.opening import formats
from gatenorm.checkpoint.quantisation import methods
from gatenorm.criteria import registry as criteria
from gatenorm.engines import engines
from gatenorm.evaluation.core import registry as evaluations
from gatenorm.exports import registry as exports
from gatenorm.extensions import added_by_others, broken, working
from gatenorm.families.family import families
from gatenorm.models import named as models
from gatenorm.records.installation import ExtendingPackage
from gatenorm.surgery.operation import operations


def extending_packages() -> tuple[ExtendingPackage, ...]:
    """Every other package that adds something; all of it is imported, to see whether it can be."""
    listed = (criteria.known, evaluations.added, engines, exports.known, formats, methods, models.known, operations)
    for known in listed:
        working(known())
    families()
    return tuple(
        ExtendingPackage(name, tuple(adds), tuple(broken().get(name, ())))
        for name, adds in sorted(added_by_others().items())
    )

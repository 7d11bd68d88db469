"""The packages that add to gatenorm, and what of it cannot be used."""

from collections.abc import Callable, Mapping

from gatenorm.checkpoint.opening import formats
from gatenorm.checkpoint.quantisation import methods
from gatenorm.criteria.registry import criteria
from gatenorm.engines import engines
from gatenorm.evaluation.core.registry import tasks
from gatenorm.exports.registry import export_forms
from gatenorm.extensions import installed, working
from gatenorm.families.family import families
from gatenorm.models.named import named_models
from gatenorm.records.installation import ExtendingPackage
from gatenorm.surgery.operation import operations

# What can be added, by the group of its entry points, and what imports all of it that can be imported.
GROUPS: Mapping[str, Callable[[], object]] = {
    "criteria": criteria,
    "engines": lambda: working(engines()),
    "evaluations": tasks,
    "exports": export_forms,
    "families": families,
    "formats": lambda: working(formats()),
    "models": named_models,
    "operations": lambda: working(operations()),
    "quantisations": lambda: working(methods()),
}


def extending_packages() -> tuple[ExtendingPackage, ...]:
    """Every other package that adds something; all of it is imported, to see whether it can be."""
    for load in GROUPS.values():
        load()
    found = installed()
    return tuple(
        ExtendingPackage(name, tuple(adds), tuple(found.broken.get(name, ())))
        for name, adds in sorted(found.added().items())
    )

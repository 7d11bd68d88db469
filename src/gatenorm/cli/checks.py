"""What commands refuse before any work, where it takes more than one option to be wrong."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import typer

from gatenorm.errors import CriterionError, named

if TYPE_CHECKING:
    from gatenorm.criteria.tokens.sources import Calibration


def tokens(
    source: str | None, samples: int, length: int, documents: str | None, seed: int, batch_size: int | None
) -> Calibration:
    """The calibration that these options ask for; without a source where none is named.

    Raises:
        CalibrationError: numbers that make no calibration.
    """
    from gatenorm.criteria.tokens.sources import Calibration

    return Calibration(source or "", samples, length, documents, seed, batch_size)


def runs_the_model(criterion: str, calibration: Calibration, *, given: bool) -> bool:
    """Whether a criterion needs forward passes.

    Args:
        given: whether tokens were named beside the criterion.

    Raises:
        CriterionError: an unknown criterion, tokens that it lacks, or tokens that it does not use.
    """
    from gatenorm.criteria.criterion_spec import criterion_specs

    runs = criterion_specs([criterion], calibration)[0].calibration is not None
    if given and not runs:
        raise CriterionError(
            "calibration-unused",
            f"is not used: {criterion} reads weights alone",
            field="calibration",
            hint=f"leave it out, or choose another {named('criterion')}",
        )
    return runs


def cross_checked(criterion: str, kind: str | None) -> None:
    """Refuse to compare a ranking of MLPs or blocks with one of attention.

    Raises:
        CriterionError: it is one; or an unknown criterion or kind.
    """
    from gatenorm.criteria.registry import check_ranks
    from gatenorm.criteria.registry import criterion as criterion_named

    chosen = criterion_named(criterion.partition("@")[0])
    ranked = kind or chosen.kinds[0]
    check_ranks(chosen, ranked)
    if ranked != "attention":
        raise CriterionError(
            "cross-check-kind",
            "compares rankings of attention sublayers alone",
            field="cross_check",
            hint=f"leave it out with {named('kind')} {ranked}",
        )


def typed(context: typer.Context, fields: Iterable[str]) -> list[str]:
    """Those parameters that were given on the command line."""
    sources = {field: context.get_parameter_source(field) for field in fields}
    return [field for field, source in sources.items() if source is not None and source.name == "COMMANDLINE"]

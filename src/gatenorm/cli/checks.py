"""What commands refuse before any work, where it takes more than one option to be wrong."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gatenorm.errors import CriterionError, OutputError, named

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


def ranked(criterion: str, kind: str | None) -> str:
    """The kind of sublayer that is ranked: the given one, or else the first one that the criterion ranks.

    Raises:
        CriterionError: an unknown criterion or kind, or a criterion that does not rank that kind.
    """
    from gatenorm.criteria.registry import check_ranks
    from gatenorm.criteria.registry import criterion as criterion_named

    chosen = criterion_named(criterion.partition("@")[0])
    check_ranks(chosen, kind or chosen.kinds[0])
    return kind or chosen.kinds[0]


def cross_checked(kind: str) -> None:
    """Refuse to compare a ranking of MLPs or blocks with one of attention.

    Raises:
        CriterionError: it is one.
    """
    if kind != "attention":
        raise CriterionError(
            "cross-check-kind",
            "compares rankings of attention sublayers alone",
            field="cross_check",
            hint=f"leave it out with {named('kind')} {kind}",
        )


def activations(folder: Path | None, layer_by_layer: bool) -> None:
    """Refuse a folder for activations that is missing or not used.

    Raises:
        OutputError: it is.
    """
    if folder is not None and not layer_by_layer:
        raise OutputError("activations-unused", f"is used only with {named('layer_by_layer')}", field="activations")
    if folder is not None and not folder.is_dir():
        raise OutputError("folder-missing", "is no existing folder", field="activations", given=folder)


def typed(context: typer.Context, fields: Iterable[str]) -> list[str]:
    """Those parameters that were given on the command line."""
    sources = {field: context.get_parameter_source(field) for field in fields}
    return [field for field, source in sources.items() if source is not None and source.name == "COMMANDLINE"]

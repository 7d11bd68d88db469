"""Options that several subcommands share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gatenorm.criteria.registry import known, reads_weights_only
from gatenorm.errors import CriterionError, OutputError, PlanError

if TYPE_CHECKING:
    from gatenorm.criteria.tokens.sources import Calibration as Tokens

Model = Annotated[str, typer.Argument(metavar="MODEL", help="A checkpoint directory, a model id of the hub, or demo.")]
Family = Annotated[
    str | None,
    typer.Option("--family", metavar="NAME", help="Treat the model as this family although its model_type differs."),
]
Json = Annotated[str | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON ('-' for stdout).")]
WEIGHT_CRITERIA = ", ".join(name for name in known() if reads_weights_only(name))
FORWARD_CRITERIA = ", ".join(name for name in known() if not reads_weights_only(name))
Criterion = Annotated[
    str,
    typer.Option(
        "--criterion",
        metavar="NAME",
        help=f"How layers are scored. From weights alone: {WEIGHT_CRITERIA}. By running the model on the tokens of "
        f"--calibration, or as NAME@self: {FORWARD_CRITERIA}.",
    ),
]
Criteria = Annotated[
    str,
    typer.Option(
        "--criteria",
        metavar="A,B,...",
        help=f"From weights alone: {WEIGHT_CRITERIA}. By running the model on the tokens of --calibration, or on "
        f"others as NAME@self, NAME@random, NAME@FILE: {FORWARD_CRITERIA}.",
    ),
]
Kind = Annotated[
    str | None,
    typer.Option("--kind", metavar="KIND", help="Which sublayers: attention, mlp, or block for both of a layer."),
]
# What generators of random numbers take, and records hold.
LARGEST_SEED = 2**63 - 1
Seed = Annotated[
    int,
    typer.Option(
        "--seed", min=0, max=LARGEST_SEED, help="Seed of the criterion 'random' and of tokens that are drawn."
    ),
]
Device = Annotated[
    str,
    typer.Option("--device", help="Where torch computes: cpu, cuda, cuda:1, ...; auto spreads a model that is run."),
]
Dtype = Annotated[
    str,
    typer.Option(
        "--dtype", help="That a model is run in: auto, float32, bfloat16 or float16 (auto on a CPU: float32)."
    ),
]
Calibration = Annotated[
    str | None,
    typer.Option(
        "--calibration",
        metavar="FILE|self|random",
        help="Tokens to run the model on: a text file, hub:NAME[:CONFIG[:SPLIT]], self for text that it samples from "
        "itself, random.",
    ),
]
Samples = Annotated[int, typer.Option("--samples", min=1, help="How many windows or documents to calibrate on.")]
Length = Annotated[int, typer.Option("--length", min=2, help="Tokens in each of them.")]
Documents = Annotated[
    str | None,
    typer.Option("--documents", metavar="SEP", help="Take each document of the text by itself; SEP stands between."),
]
BatchSize = Annotated[int | None, typer.Option("--batch-size", min=1, help="Windows at a time.")]
LayerByLayer = Annotated[
    bool,
    typer.Option(
        "--layer-by-layer",
        help="Hold one block's weights at a time: for models larger than memory (cosine and the like).",
    ),
]
Activations = Annotated[
    Path | None,
    typer.Option(
        "--activations", metavar="DIR", help="With --layer-by-layer: keep activations in a file there, not in memory."
    ),
]
CrossCheck = Annotated[
    bool,
    typer.Option(
        "--cross-check", help="Run the model too: hold the choice against cosine on random and on self-sampled tokens."
    ),
]


def tokens(
    source: str | None, samples: int, length: int, documents: str | None, seed: int, batch_size: int | None
) -> Tokens:
    """The calibration that these options ask for; without a source where none is named.

    Raises:
        CalibrationError: numbers that make no calibration.
    """
    from gatenorm.criteria.tokens.sources import Calibration

    return Calibration(source or "", samples, length, documents, seed, batch_size)


def runs_the_model(criterion: str, calibration: Tokens, *, given: bool) -> bool:
    """Whether a criterion needs forward passes; what cannot be had is refused before any work.

    Args:
        given: whether tokens were named beside the criterion.

    Raises:
        CriterionError: an unknown criterion, tokens that it lacks, or tokens that it has no use for.
    """
    from gatenorm.criteria.criterion_spec import criterion_specs

    runs = criterion_specs([criterion], calibration)[0].calibration is not None
    if given and not runs:
        raise CriterionError(f"{criterion} looks at weights alone: leave --calibration out, or name another criterion")
    return runs


def ranked(criterion: str, kind: str | None) -> str:
    """The kind of sublayer that is ranked: the one asked for, or else what the criterion ranks first of all.

    Raises:
        CriterionError: an unknown criterion or kind, or a criterion that does not rank that kind.
    """
    from gatenorm.criteria.registry import check_ranks
    from gatenorm.criteria.registry import criterion as criterion_named

    chosen = criterion_named(criterion.partition("@")[0])
    check_ranks(chosen, kind or chosen.kinds[0])
    return kind or chosen.kinds[0]


def check_cross_check(kind: str) -> None:
    """Refuse to hold a choice of MLPs or blocks against a criterion of attention.

    Raises:
        CriterionError: it is one.
    """
    if kind != "attention":
        raise CriterionError(
            f"--cross-check holds a choice of attention sublayers against cosine: leave it out with --kind {kind}"
        )


def check_activations(folder: Path | None, layer_by_layer: bool) -> None:
    """Refuse a folder for activations that is of no use.

    Raises:
        OutputError: it is not there, or the model is not run layer by layer.
    """
    if folder is None:
        return
    if not layer_by_layer:
        raise OutputError("--activations is about --layer-by-layer: give both, or leave it out")
    if not folder.is_dir():
        raise OutputError(f"--activations {folder}: there is no such folder")


def typed(context: typer.Context, names: Iterable[str]) -> list[str]:
    """Those options, by the names of their parameters, that were typed; as they are typed."""
    flags = {parameter.name: parameter.opts[-1] for parameter in context.command.params}
    sources = {name: context.get_parameter_source(name) for name in names}
    return [flags[name] for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]


def share(text: str | None) -> float | None:
    """A share out of ``0.2`` or ``20%``; whether it is in range is for whoever counts with it.

    Raises:
        PlanError: it is no number.
    """
    if text is None:
        return None
    number, percent, rest = text.strip().partition("%")
    try:
        if rest:
            raise ValueError
        return float(number) / (100 if percent else 1)
    except ValueError:
        raise PlanError(f"--share {text}: expected a number between 0 and 1, such as 0.2, or 20%") from None


def indices(text: str | None, option: str) -> list[int]:
    """Layer numbers out of ``20,21`` or ``4-6,9``.

    Raises:
        PlanError: anything else.
    """
    found: list[int] = []
    for part in (text or "").split(","):
        piece = part.strip()
        if not piece:
            continue
        first, dash, last = piece.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise PlanError(f"{option} {text}: {piece!r} is no layer number; expected numbers or ranges such as 4-6,9")
        if dash and int(last) - int(first) > 10_000:
            raise PlanError(f"{option} {text}: {piece!r} spans more layers than any model has")
        found += range(int(first), int(last if dash else first) + 1)
    return found

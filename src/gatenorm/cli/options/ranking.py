"""Options about criteria and the tokens that they are computed on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from gatenorm.cli import readers
from gatenorm.cli.declaration import option
from gatenorm.cli.options.common import OUTPUT
from gatenorm.records.numbers import Count, Window

RANKING, CALIBRATION = "Ranking", "Calibration"


def criteria() -> str:
    """All criteria by name, for help."""
    from gatenorm.criteria.registry import known, reads_weights_only

    weights = [name for name in known() if reads_weights_only(name)]
    forward = [name for name in known() if name not in weights]
    return f"Weights only: {', '.join(weights)}. Forward passes: {', '.join(forward)}"


Criterion = Annotated[
    str,
    option(
        "--criterion",
        metavar="NAME",
        default="gate-norm",
        panel=RANKING,
        help=lambda: f"Criterion to rank by. {criteria()}, which need --calibration or a suffix such as @self",
    ),
]
Criteria = Annotated[
    Sequence[str],
    option(
        "--criteria",
        metavar="A,B,...",
        reader=readers.NAMES,
        panel=RANKING,
        keys=("rankings.criteria",),
        fields=("criterion",),
        help=lambda: f"Criteria to rank by. {criteria()}, on --calibration or as NAME@self, NAME@random, NAME@FILE",
    ),
]
Kind = Annotated[
    str | None,
    option(
        "--kind",
        metavar="KIND",
        default_text="what the criterion is made for",
        panel=RANKING,
        help="Sublayers to rank: attention, mlp, or block for both of a layer",
    ),
]
Protect = Annotated[
    Sequence[int] | None,
    option(
        "--protect",
        metavar="0,1",
        reader=readers.LAYERS,
        panel=RANKING,
        keys=("rankings.protect",),
        help="Layers to keep, such as 0,1 or 28-31",
    ),
]
CrossCheck = Annotated[
    bool,
    option(
        "--cross-check",
        default=False,
        panel=RANKING,
        help="Also rank by cosine on random and on self-sampled tokens, and list the layers they disagree on",
    ),
]
Backend = Annotated[
    str,
    option("--backend", metavar="NAME", default="auto", panel=RANKING, help="What computes: numpy, torch or auto"),
]
Calibration = Annotated[
    str | None,
    option(
        "--calibration",
        metavar="SOURCE",
        panel=CALIBRATION,
        keys=("rankings.calibration",),
        help="Tokens to run the model on: a text file, hub:NAME[:CONFIG[:SPLIT]], self (text that the model samples) "
        "or random",
    ),
]
Samples = Annotated[
    Count, option("--samples", default=32, panel=CALIBRATION, help="Number of calibration windows or documents")
]
Length = Annotated[Window, option("--length", default=256, panel=CALIBRATION, help="Tokens in each of them")]
Documents = Annotated[
    str | None,
    option(
        "--documents",
        metavar="SEP",
        panel=CALIBRATION,
        help="Split the calibration text at SEP and take each document by itself",
    ),
]
LayerByLayer = Annotated[
    bool,
    option(
        "--layer-by-layer",
        default=False,
        panel=CALIBRATION,
        help="Hold the weights of one block at a time, for models larger than memory (criteria on activations only)",
    ),
]
Activations = Annotated[
    Path | None,
    option(
        "--activations",
        metavar="DIR",
        panel=CALIBRATION,
        help="With --layer-by-layer: keep activations in a file in DIR instead of memory",
    ),
]

Bound = Annotated[
    bool,
    option(
        "--bound", default=False, panel=RANKING, help="Both sides of the paper's inequality by layer: how loose it is"
    ),
]
SelectionPlot = Annotated[
    Path | None,
    option("--selection", metavar="FILE", panel=OUTPUT, help="Draw the layers that each criterion would remove"),
]
HeadsPlot = Annotated[
    Path | None, option("--heads", metavar="FILE", panel=OUTPUT, help="Draw the gate norm of each head")
]

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
        "--criterion NAME",
        RANKING,
        lambda: f"Criterion to rank by. {criteria()}, which need --calibration or a suffix such as @self",
        default="gate-norm",
    ),
]
Criteria = Annotated[
    Sequence[str],
    option(
        "--criteria A,B,...",
        RANKING,
        lambda: f"Criteria to rank by. {criteria()}, on --calibration or as NAME@self, NAME@random, NAME@FILE",
        reader=readers.NAMES,
        key="rankings.criteria",
        fields="criterion",
    ),
]
Kind = Annotated[
    str | None,
    option(
        "--kind KIND",
        RANKING,
        "Sublayers to rank: attention, mlp, or block for both of a layer",
        shown="what the criterion is made for",
    ),
]
Protect = Annotated[
    Sequence[int] | None,
    option(
        "--protect 0,1", RANKING, "Layers to keep, such as 0,1 or 28-31", reader=readers.LAYERS, key="rankings.protect"
    ),
]
CrossCheck = Annotated[
    bool,
    option(
        "--cross-check",
        RANKING,
        "Also rank by cosine on random and on self-sampled tokens, and list the layers they disagree on",
        default=False,
    ),
]
Backend = Annotated[str, option("--backend NAME", RANKING, "What computes: numpy, torch or auto", default="auto")]
Calibration = Annotated[
    str | None,
    option(
        "--calibration SOURCE",
        CALIBRATION,
        "Calibration tokens: a text file, hub:NAME[:CONFIG[:SPLIT]], self (text that the model samples) or random",
        key="rankings.calibration",
    ),
]
Samples = Annotated[Count, option("--samples", CALIBRATION, "Number of calibration windows or documents", default=32)]
Length = Annotated[Window, option("--length", CALIBRATION, "Tokens in each of them", default=256)]
Documents = Annotated[
    str | None,
    option("--documents SEP", CALIBRATION, "Split the calibration text at SEP and take each document by itself"),
]
LayerByLayer = Annotated[
    bool,
    option(
        "--layer-by-layer",
        CALIBRATION,
        "Hold the weights of one block at a time, for models larger than memory (criteria on activations only)",
        default=False,
    ),
]
Activations = Annotated[
    Path | None,
    option(
        "--activations DIR", CALIBRATION, "With --layer-by-layer: keep activations in a file in DIR instead of memory"
    ),
]

Bound = Annotated[
    bool, option("--bound", RANKING, "Both sides of the paper's inequality by layer: how loose it is", default=False)
]
SelectionPlot = Annotated[
    Path | None, option("--selection FILE", OUTPUT, "Draw the layers that each criterion would remove")
]
HeadsPlot = Annotated[Path | None, option("--heads FILE", OUTPUT, "Draw the gate norm of each head")]

"""Options of several commands: the model, the output, the hardware."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from gatenorm.cli import readers
from gatenorm.cli.declaration import OTHER, REQUIRED, argument, option
from gatenorm.records.numbers import Count, Seed

INPUT, OUTPUT, HARDWARE, MEASUREMENT = "Input", "Output", "Hardware", "Measurement"

Model = Annotated[str, argument("MODEL", "Checkpoint directory, Hugging Face model id, or demo for the built-in model")]
OptionalModel = Annotated[
    str | None,
    argument(
        "MODEL", "Checkpoint directory, Hugging Face model id, or demo for the built-in model (the default)", None
    ),
]
Family = Annotated[
    str | None,
    option(
        "--family", metavar="NAME", panel=INPUT, help="Treat the model as this family, whatever its model_type says"
    ),
]
Baseline = Annotated[str | None, option("--baseline", metavar="MODEL", panel=INPUT, help="Model to compare with")]
Json = Annotated[
    str | None, option("--json", metavar="FILE", panel=OUTPUT, help="Write the result as JSON (- for stdout)")
]
Plot = Annotated[
    Path | None, option("--plot", metavar="FILE", panel=OUTPUT, help="Draw the result to FILE (.png, .svg or .html)")
]
NewDirectory = Annotated[
    Path,
    option("-o", "--out", metavar="DIR", default=REQUIRED, panel=OUTPUT, help="New directory; must not exist yet"),
]
Device = Annotated[
    str,
    option(
        "--device",
        default="cpu",
        panel=HARDWARE,
        keys=("run.device",),
        help="Torch device: cpu, cuda, cuda:1, ...; auto spreads a model over all devices",
    ),
]
Dtype = Annotated[
    str,
    option(
        "--dtype",
        metavar="TYPE",
        default="auto",
        panel=HARDWARE,
        keys=("run.dtype",),
        help="Data type used to run the model: auto (on a CPU float32), float32, bfloat16 or float16",
    ),
]
BatchSize = Annotated[
    int | None,
    option(
        "--batch-size",
        metavar="N|auto",
        default_text="auto",
        reader=readers.ROWS,
        panel=HARDWARE,
        keys=("run.batch_size",),
        help="Sequences per forward pass; auto: as memory allows",
    ),
]
Threads = Annotated[
    Count | None,
    option(
        "--threads",
        default_text="all available",
        panel=HARDWARE,
        keys=("run.threads",),
        help="Processor threads to compute with",
    ),
]
RandomSeed = Annotated[
    Seed,
    option("--seed", default=0, panel=OTHER, keys=("run.seed",), help="Seed for everything that is drawn at random"),
]

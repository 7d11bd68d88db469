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
    str | None, option("--family NAME", INPUT, "Treat the model as this family, whatever its model_type says")
]
Baseline = Annotated[str | None, option("--baseline MODEL", INPUT, "Model to compare with")]
Json = Annotated[str | None, option("--json FILE", OUTPUT, "Write the result as JSON (- for stdout)")]
Plot = Annotated[Path | None, option("--plot FILE", OUTPUT, "Draw the result to FILE (.png, .svg or .html)")]
NewDirectory = Annotated[Path, option("-o, --out DIR", OUTPUT, "New directory; must not exist yet", default=REQUIRED)]
Device = Annotated[
    str,
    option(
        "--device",
        HARDWARE,
        "Torch device: cpu, cuda, cuda:1, ...; auto spreads a model over all devices",
        default="cpu",
        key="run.device",
    ),
]
Dtype = Annotated[
    str,
    option(
        "--dtype TYPE",
        HARDWARE,
        "Data type used to run the model: auto (on a CPU float32), float32, bfloat16 or float16",
        default="auto",
        key="run.dtype",
    ),
]
BatchSize = Annotated[
    int | None,
    option(
        "--batch-size N|auto",
        HARDWARE,
        "Sequences per forward pass; auto: as memory allows",
        shown="auto",
        reader=readers.ROWS,
        key="run.batch_size",
    ),
]
Threads = Annotated[
    Count | None,
    option("--threads", HARDWARE, "Processor threads to compute with", shown="all available", key="run.threads"),
]
RandomSeed = Annotated[
    Seed, option("--seed", OTHER, "Seed for everything that is drawn at random", default=0, key="run.seed")
]

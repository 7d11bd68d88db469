"""Options of several commands: the model, the output, the execution."""

from pathlib import Path
from typing import Annotated, TypedDict

from gatenorm.cli import console
from gatenorm.cli.declaration import EXECUTION, INPUT, OTHER, OUTPUT, argument, panel
from gatenorm.cli.readers import Dtype as DtypeName, Rows
from gatenorm.records import numbers
from gatenorm.records.numbers import Seed

given, output, execution, other = panel(INPUT), panel(OUTPUT), panel(EXECUTION), panel(OTHER)


def engines_that(able: str) -> str:
    """Names of the engines that can do something, for help."""
    from gatenorm import engines

    return ", ".join(engine.name for engine in engines.engines_that(able))


def timed_engines() -> str:
    """The help of options that name engines to time."""
    return f"Engines that can be timed: {engines_that('times')}"


_DIRECTORY, _OTHERS = "Checkpoint directory", "Hugging Face model id, or demo for the built-in model"

Model = Annotated[str, argument("MODEL", f"{_DIRECTORY}, .gguf file, {_OTHERS}")]
OptionalModel = Annotated[str | None, argument("MODEL", f"{_DIRECTORY}, {_OTHERS} (the default)", None)]
Family = Annotated[str | None, given("--family NAME", "Treat the model as this family, whatever its model_type says")]
Baseline = Annotated[str | None, given("--baseline MODEL", "Model to compare with")]
Json = Annotated[str | None, output("--json FILE", "Write the result as JSON (- for stdout)", check=console.check_sink)]
Csv = Annotated[str | None, output("--csv FILE", "Write the figures as CSV (- for stdout)", check=console.check_sink)]
Plot = Annotated[
    Path | None, output("--plot FILE", "Draw the result to FILE (.png, .svg or .html)", check=console.check_plot)
]
Device = Annotated[
    str,
    execution(
        "--device",
        "Torch device: cpu, cuda, cuda:1, ...; auto spreads a model over all devices",
        "cpu",
        key="run.device",
    ),
]
_DTYPES = "Data type used to run the model: auto (on a CPU float32), float32, bfloat16 (bf16) or float16 (fp16)"
Dtype = Annotated[DtypeName, execution("--dtype TYPE", _DTYPES, "auto", key="run.dtype")]
_ROWS = "Sequences per forward pass; auto: as memory allows"
BatchSize = Annotated[Rows | None, execution("--batch-size N|auto", _ROWS, shown="auto", key="run.batch_size")]
Threads = Annotated[
    numbers.Threads | None,
    execution("--threads", "Processor threads to compute with", shown="all available", key="run.threads"),
]
RandomSeed = Annotated[Seed, other("--seed", "Seed for everything that is drawn at random", 0, key="run.seed")]


class Hardware(TypedDict):
    """What runs a model."""

    device: Device
    dtype: Dtype


class Batches(Hardware):
    """What runs a model on several sequences at once."""

    batch_size: BatchSize

"""Options about speed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from gatenorm.cli import readers
from gatenorm.cli.declaration import argument, option
from gatenorm.cli.options.common import OUTPUT
from gatenorm.records.numbers import Count

SPEED = "Timing"

Models = Annotated[
    list[str], argument("MODEL...", "Checkpoint directories, Hugging Face model ids, demo, or exported files")
]
Engine = Annotated[
    str, option("--engine NAME", SPEED, "Engine to time: transformers, llamacpp or vllm", default="transformers")
]
Lengths = Annotated[
    Sequence[int] | None,
    option(
        "--lengths 128,512",
        SPEED,
        "Prompt lengths in tokens",
        reader=readers.NUMBERS,
        shown="128,512,2048, as the context allows",
        key="speed.lengths",
    ),
]
Batches = Annotated[Sequence[int], option("--batches 1,8", SPEED, "Batch sizes", reader=readers.NUMBERS, default=(1,))]
NewTokens = Annotated[Count, option("--new-tokens", SPEED, "Tokens to decode after each prompt", default=32)]
Rounds = Annotated[Count, option("--rounds", SPEED, "Times that everything is measured", default=5, key="speed.rounds")]
Machine = Annotated[
    str | None,
    option(
        "--machine NAME",
        SPEED,
        "Show the cost model's prediction too, for a machine such as h100-sxm; this: measure this one",
    ),
]
Attention = Annotated[
    str | None, option("--attention sdpa|eager", SPEED, "Attention implementation", shown="the default of transformers")
]
Latency = Annotated[
    Count | None,
    option(
        "--latency TOKENS",
        SPEED,
        "Time prefill of so many tokens and decode after them too, in turns with the unpruned model",
    ),
]
Pareto = Annotated[
    Path | None,
    option("--pareto FILE", OUTPUT, "Draw quality against speed (with --latency) to FILE (.png, .svg or .html)"),
]

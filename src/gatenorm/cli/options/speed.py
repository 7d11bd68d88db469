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
    list[str],
    argument("MODEL...", "Checkpoint directories, Hugging Face model ids, demo, or exported files"),
]
Engine = Annotated[
    str,
    option(
        "--engine",
        metavar="NAME",
        default="transformers",
        panel=SPEED,
        help="Engine to time: transformers, llamacpp or vllm",
    ),
]
Lengths = Annotated[
    Sequence[int] | None,
    option(
        "--lengths",
        metavar="128,512",
        reader=readers.NUMBERS,
        default_text="128,512,2048, as the context allows",
        panel=SPEED,
        keys=("speed.lengths",),
        help="Prompt lengths in tokens",
    ),
]
Batches = Annotated[
    Sequence[int],
    option("--batches", metavar="1,8", reader=readers.NUMBERS, default=(1,), panel=SPEED, help="Batch sizes"),
]
NewTokens = Annotated[Count, option("--new-tokens", default=32, panel=SPEED, help="Tokens to decode after each prompt")]
Rounds = Annotated[
    Count,
    option("--rounds", default=5, panel=SPEED, keys=("speed.rounds",), help="Times that everything is measured"),
]
Machine = Annotated[
    str | None,
    option(
        "--machine",
        metavar="NAME",
        panel=SPEED,
        help="Show the cost model's prediction too, for a machine such as h100-sxm; this: measure this one",
    ),
]
Attention = Annotated[
    str | None,
    option(
        "--attention",
        metavar="sdpa|eager",
        default_text="the default of transformers",
        panel=SPEED,
        help="Attention implementation",
    ),
]
Latency = Annotated[
    Count | None,
    option(
        "--latency",
        metavar="TOKENS",
        panel=SPEED,
        help="Time prefill of so many tokens and decode after them too, in turns with the unpruned model",
    ),
]
Pareto = Annotated[
    Path | None,
    option(
        "--pareto",
        metavar="FILE",
        panel=OUTPUT,
        help="Draw quality against speed (with --latency) to FILE (.png, .svg or .html)",
    ),
]

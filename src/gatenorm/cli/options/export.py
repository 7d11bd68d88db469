"""Options about exported forms and their verification."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from gatenorm.cli.declaration import REQUIRED, argument, option
from gatenorm.cli.options.common import INPUT, OUTPUT
from gatenorm.records.numbers import Count, Index

CHECK = "Comparison"


def forms() -> str:
    """All forms by name, for help."""
    from gatenorm.exports.registry import known

    return ", ".join(known())


To = Annotated[str | None, option("--to", metavar="FORM", panel=OUTPUT, help=lambda: f"Form to write: {forms()}")]
Out = Annotated[
    Path | None,
    option("-o", "--out", metavar="PATH", panel=OUTPUT, help="New file or directory; must not exist yet"),
]
List = Annotated[
    bool, option("--list", default=False, panel=OUTPUT, help="List the forms MODEL can be written in, with reasons")
]
StoredType = Annotated[
    str,
    option(
        "--dtype",
        metavar="TYPE",
        default="auto",
        panel=OUTPUT,
        help="Data type to store: auto (as in MODEL); for gguf also f32, f16, bf16, q8_0, q4_k_m, ...",
    ),
]
Exported = Annotated[Path, argument("EXPORTED", "GGUF file or exported directory")]
Against = Annotated[
    str,
    option("--against", metavar="MODEL", default=REQUIRED, panel=INPUT, help="Checkpoint that it was written from"),
]
Engine = Annotated[
    str | None,
    option(
        "--engine",
        metavar="NAME",
        panel=CHECK,
        default_text="an installed one that reads it",
        help="Engine to run: llamacpp, vllm, mlx or transformers",
    ),
]
Tokens = Annotated[Count, option("--tokens", default=64, panel=CHECK, help="Tokens to generate after each prompt")]
Tolerance = Annotated[
    float | None,
    option(
        "--tolerance",
        panel=CHECK,
        default_text="by the stored type",
        help="Largest accepted difference of log-probabilities, in nats",
    ),
]
PromptSeed = Annotated[Index, option("--seed", default=0, panel=CHECK, help="Seed of the prompts")]
Write = Annotated[
    Path | None,
    option("--write", metavar="DIR", panel=OUTPUT, help="Unpack the model as this new directory; must not exist yet"),
]

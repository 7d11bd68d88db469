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


To = Annotated[str | None, option("--to FORM", OUTPUT, lambda: f"Form to write: {forms()}")]
Out = Annotated[Path | None, option("-o, --out PATH", OUTPUT, "New file or directory; must not exist yet")]
List = Annotated[bool, option("--list", OUTPUT, "List the forms MODEL can be written in, with reasons", default=False)]
StoredType = Annotated[
    str,
    option(
        "--dtype TYPE",
        OUTPUT,
        "Data type to store: auto (as in MODEL); for gguf also f32, f16, bf16, q8_0, q4_k_m, ...",
        default="auto",
    ),
]
Exported = Annotated[Path, argument("EXPORTED", "GGUF file or exported directory")]
Against = Annotated[str, option("--against MODEL", INPUT, "Checkpoint that it was written from", default=REQUIRED)]
Engine = Annotated[
    str | None,
    option(
        "--engine NAME",
        CHECK,
        "Engine to run: llamacpp, vllm, mlx or transformers",
        shown="an installed one that reads it",
    ),
]
Tokens = Annotated[Count, option("--tokens", CHECK, "Tokens to generate after each prompt", default=64)]
Tolerance = Annotated[
    float | None,
    option(
        "--tolerance", CHECK, "Largest accepted difference of log-probabilities, in nats", shown="by the stored type"
    ),
]
PromptSeed = Annotated[Index, option("--seed", CHECK, "Seed of the prompts", default=0)]
Write = Annotated[
    Path | None, option("--write DIR", OUTPUT, "Unpack the model as this new directory; must not exist yet")
]

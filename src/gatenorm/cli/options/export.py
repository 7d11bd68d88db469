"""Options about exported forms and their verification."""

from pathlib import Path
from typing import Annotated

from gatenorm.cli.declaration import REQUIRED, argument, panel
from gatenorm.cli.options.common import given, output
from gatenorm.records.numbers import Count, Index

comparison = panel("Comparison")


def _forms() -> str:
    from gatenorm.exports.registry import known

    return f"Form to write: {', '.join(known())}"


def _engines() -> str:
    from gatenorm.engines import engines

    return f"Engine to run: {', '.join(engines())}"


To = Annotated[str | None, output("--to FORM", _forms)]
Out = Annotated[Path | None, output("-o, --out PATH", "New file or directory; must not exist yet")]
List = Annotated[bool, output("--list", "List the forms MODEL can be written in, with reasons", False)]
_TYPES = "Data type to store: auto (as in MODEL); for gguf also f32, f16, bf16, q8_0, q4_k_m, ..."
StoredType = Annotated[str, output("--dtype TYPE", _TYPES, "auto")]
NewDirectory = Annotated[Path, output("-o, --out DIR", "New directory; must not exist yet", REQUIRED)]
PlainType = Annotated[str, output("--dtype TYPE", "Data type to store: bfloat16, float16 or float32", "bfloat16")]
Exported = Annotated[Path, argument("EXPORTED", "GGUF file or exported directory")]
Against = Annotated[str, given("--against MODEL", "Checkpoint that it was written from", REQUIRED)]
_CHOSEN = "an installed one that reads it"
Engine = Annotated[str | None, comparison("--engine NAME", _engines, shown=_CHOSEN)]
Tokens = Annotated[Count, comparison("--tokens", "Tokens to generate after each prompt", 64)]
_TOLERANCE = "Largest accepted difference of log-probabilities, in nats"
Tolerance = Annotated[float | None, comparison("--tolerance", _TOLERANCE, shown="by the stored type")]
PromptSeed = Annotated[Index, comparison("--seed", "Seed of the prompts", 0)]
Write = Annotated[Path | None, output("--write DIR", "Unpack the model as this new directory; must not exist yet")]

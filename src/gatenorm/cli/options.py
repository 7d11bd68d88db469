"""Options that several subcommands share."""

from __future__ import annotations

from typing import Annotated

import typer

from gatenorm.errors import PlanError

Model = Annotated[str, typer.Argument(metavar="MODEL", help="A checkpoint directory, a model id of the hub, or demo.")]
Family = Annotated[
    str | None,
    typer.Option("--family", metavar="NAME", help="Treat the model as this family although its model_type differs."),
]
Json = Annotated[str | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON ('-' for stdout).")]
Criterion = Annotated[str, typer.Option("--criterion", metavar="NAME", help="How layers are scored.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the criterion 'random'.")]
Device = Annotated[str, typer.Option("--device", help="Where torch computes: cpu, cuda, cuda:1, ...")]


def indices(text: str | None, option: str) -> list[int]:
    """Layer numbers out of ``20,21`` or ``4-6,9``.

    Raises:
        PlanError: anything else.
    """
    found: list[int] = []
    for part in (text or "").split(","):
        piece = part.strip()
        if not piece:
            continue
        first, dash, last = piece.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise PlanError(f"{option} {text}: {piece!r} is no layer number; expected numbers or ranges such as 4-6,9")
        if dash and int(last) - int(first) > 10_000:
            raise PlanError(f"{option} {text}: {piece!r} spans more layers than any model has")
        found += range(int(first), int(last if dash else first) + 1)
    return found

"""Options of the audit alone; ``gatenorm audit`` also has every other option that sets a key of its configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from gatenorm.cli import readers
from gatenorm.cli.declaration import option
from gatenorm.cli.options import common
from gatenorm.records.numbers import Amount, Count, Window

Out = Annotated[
    Path | None,
    option(
        "-o",
        "--out",
        metavar="DIR",
        default_text="./audit-NAME",
        fields=("directory",),
        panel=common.OUTPUT,
        help="Directory of the audit, created or resumed",
    ),
]
ConfigFile = Annotated[
    Path | None,
    option("--config", metavar="FILE", panel=common.INPUT, help="YAML configuration; options given beside it win"),
]
JsonLines = Annotated[
    bool,
    option("--json-lines", default=False, panel=common.OUTPUT, help="Write progress to stdout as JSON Lines"),
]
FailOn = Annotated[
    str | None,
    option(
        "--fail-on",
        metavar="GATE|any",
        panel="Gates and search",
        help="Exit with status 1 unless this gate passes, for CI pipelines",
    ),
]
Data = Annotated[
    list[str] | None,
    option(
        "--data",
        metavar="TEXT",
        many=True,
        keys=("evaluation.texts",),
        help="Text for perplexity: a file, wikitext2, or wikitext2=FILE. Repeat for several; the first judges rankings",
    ),
]
Documents = Annotated[
    str | None,
    option("--documents", metavar="SEP", keys=("evaluation.texts",), help="Split --data texts into documents at SEP"),
]
TextWindow = Annotated[
    Window | None, option("--window", keys=("evaluation.texts",), help="Longest input of --data texts, in tokens")
]
Limit = Annotated[
    Count | None,
    option(
        "--limit",
        keys=tuple(f"evaluation.{what}_limit" for what in ("stories", "zeroshot", "domain", "refusal", "retrieval")),
        help="Use only the first N windows, documents or items of everything",
    ),
]
Zeroshot = Annotated[
    str | None,
    option(
        "--zeroshot", metavar="DIR|hub", keys=("evaluation.zeroshot",), help="Directory with the zero-shot tasks' files"
    ),
]
Domain = Annotated[
    str | None,
    option(
        "--domain",
        metavar="FILE",
        keys=("evaluation.domain",),
        help="Prompts or text of your own workload",
    ),
]
Refusal = Annotated[
    str | None,
    option(
        "--refusal",
        metavar="FILE|packaged|none",
        keys=("evaluation.refusal",),
        help="Items that the model should refuse or answer",
    ),
]
Shares = Annotated[
    Sequence[str] | None,
    option(
        "--share",
        metavar="10%,20%",
        reader=readers.NAMES,
        keys=("budgets.shares",),
        help="Budgets as shares of the attention sublayers",
    ),
]
Layers = Annotated[
    Sequence[int] | None,
    option(
        "--layers", metavar="4,8", reader=readers.NUMBERS, keys=("budgets.layers",), help="Further budgets, as numbers"
    ),
]
Gate = Annotated[
    list[tuple[str, str | None]] | None,
    option(
        "--gate",
        metavar="GATE=LIMIT",
        many=True,
        reader=readers.LIMIT,
        keys=("gates",),
        help="Change the limit of a gate, or GATE=off. Repeat for several",
    ),
]
MaxPerplexityRise = Annotated[
    str | None,
    option(
        "--max-perplexity-rise",
        metavar="2%",
        keys=("gates.perplexity-rise", "search.gate"),
        help="Limit of the gate perplexity-rise; search for the largest budget within it",
    ),
]
Search = Annotated[
    str | None,
    option(
        "--search", metavar="GATE", keys=("search.gate",), help="Search for the largest budget that passes this gate"
    ),
]
Engine = Annotated[
    Sequence[str] | None,
    option(
        "--engine",
        metavar="A,B|none",
        reader=readers.NAMES,
        keys=("speed.engines",),
        help="Engines to time: transformers, llamacpp, vllm",
    ),
]
PricePerHour = Annotated[
    Amount | None,
    option(
        "--price-per-hour",
        metavar="PRICE",
        keys=("cost.price_per_hour",),
        help="Price of the machine; adds the cost per million tokens",
    ),
]
Recover = Annotated[
    bool | None,
    option("--recover/--no-recover", keys=("recovery.enabled",), help="Train the variants of aggressive budgets"),
]
RecoverData = Annotated[
    str | None, option("--recover-data", metavar="FILE", keys=("recovery.data",), help="Text to train on")
]
Executor = Annotated[
    str | None,
    option("--executor", metavar="local|ray", keys=("run.executor",), help="What runs the jobs"),
]
RayAddress = Annotated[
    str | None,
    option(
        "--ray-address",
        metavar="ADDRESS",
        keys=("run.ray_address",),
        default_text="start Ray on this machine",
        help="Ray cluster to use",
    ),
]

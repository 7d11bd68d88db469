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
        "-o, --out DIR",
        common.OUTPUT,
        "Directory of the audit, created or resumed",
        shown="./audit-NAME",
        fields="directory",
    ),
]
ConfigFile = Annotated[
    Path | None, option("--config FILE", common.INPUT, "YAML configuration; options given beside it win")
]
JsonLines = Annotated[
    bool, option("--json-lines", common.OUTPUT, "Write progress to stdout as JSON Lines", default=False)
]
FailOn = Annotated[
    str | None,
    option("--fail-on GATE|any", "Gates and search", "Exit with status 1 unless this gate passes, for CI pipelines"),
]
Data = Annotated[
    list[str] | None,
    option(
        "--data TEXT",
        "",
        "Text for perplexity: a file, wikitext2, or wikitext2=FILE. Repeat for several; the first judges rankings",
        many=True,
        key="evaluation.texts",
    ),
]
Documents = Annotated[
    str | None, option("--documents SEP", "", "Split --data texts into documents at SEP", key="evaluation.texts")
]
TextWindow = Annotated[
    Window | None, option("--window", "", "Longest input of --data texts, in tokens", key="evaluation.texts")
]
Limit = Annotated[
    Count | None,
    option(
        "--limit",
        "",
        "Use only the first N windows, documents or items of everything",
        key=" ".join(f"evaluation.{what}_limit" for what in ("stories", "zeroshot", "domain", "refusal", "retrieval")),
    ),
]
Zeroshot = Annotated[
    str | None, option("--zeroshot DIR|hub", "", "Directory with the zero-shot tasks' files", key="evaluation.zeroshot")
]
Domain = Annotated[
    str | None, option("--domain FILE", "", "Prompts or text of your own workload", key="evaluation.domain")
]
Refusal = Annotated[
    str | None,
    option(
        "--refusal FILE|packaged|none", "", "Items that the model should refuse or answer", key="evaluation.refusal"
    ),
]
Shares = Annotated[
    Sequence[str] | None,
    option(
        "--share 10%,20%",
        "",
        "Budgets as shares of the attention sublayers",
        reader=readers.NAMES,
        key="budgets.shares",
    ),
]
Layers = Annotated[
    Sequence[int] | None,
    option("--layers 4,8", "", "Further budgets, as numbers", reader=readers.NUMBERS, key="budgets.layers"),
]
Gate = Annotated[
    list[tuple[str, str | None]] | None,
    option(
        "--gate GATE=LIMIT",
        "",
        "Change the limit of a gate, or GATE=off. Repeat for several",
        many=True,
        reader=readers.LIMIT,
        key="gates",
    ),
]
MaxPerplexityRise = Annotated[
    str | None,
    option(
        "--max-perplexity-rise 2%",
        "",
        "Limit of the gate perplexity-rise; search for the largest budget within it",
        key="gates.perplexity-rise search.gate",
    ),
]
Search = Annotated[
    str | None, option("--search GATE", "", "Search for the largest budget that passes this gate", key="search.gate")
]
Engine = Annotated[
    Sequence[str] | None,
    option(
        "--engine A,B|none",
        "",
        "Engines to time: transformers, llamacpp, vllm",
        reader=readers.NAMES,
        key="speed.engines",
    ),
]
PricePerHour = Annotated[
    Amount | None,
    option(
        "--price-per-hour PRICE",
        "",
        "Price of the machine; adds the cost per million tokens",
        key="cost.price_per_hour",
    ),
]
Recover = Annotated[
    bool | None,
    option("--recover/--no-recover", "", "Train the variants of aggressive budgets", key="recovery.enabled"),
]
RecoverData = Annotated[str | None, option("--recover-data FILE", "", "Text to train on", key="recovery.data")]
Executor = Annotated[str | None, option("--executor local|ray", "", "What runs the jobs", key="run.executor")]
RayAddress = Annotated[
    str | None,
    option("--ray-address ADDRESS", "", "Ray cluster to use", key="run.ray_address", shown="start Ray on this machine"),
]

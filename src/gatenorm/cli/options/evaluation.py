"""Options about quality: data, tasks and their protocol."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from gatenorm.cli import readers
from gatenorm.cli.declaration import REQUIRED, option
from gatenorm.cli.options.common import OUTPUT
from gatenorm.records.numbers import Count, Index, Window

DATA, PROTOCOL = "Data", "Protocol"


def tasks() -> str:
    """All tasks by name with what they measure, for help."""
    from gatenorm.evaluation.core.registry import TASKS

    return "; ".join(f"{t.name}{f'[:{t.argument}]' if t.argument else ''}: {t.what}" for t in TASKS.values())


Data = Annotated[
    list[str] | None,
    option(
        "--data",
        metavar="[TASK=]PATH",
        panel=DATA,
        many=True,
        default_text="for demo and what was made from it: its own stories and tasks",
        help="Data to evaluate on: a text, JSON Lines or Parquet file, wikitext2 (from the hub), wikitext2=FILE (a "
        "local raw file), or for zeroshot a directory with <task>_<split>.jsonl files. Repeat for several",
    ),
]
Text = Annotated[
    str,
    option(
        "--data",
        metavar="TEXT",
        default=REQUIRED,
        panel=DATA,
        help="Text for perplexity: a file, wikitext2, or wikitext2=FILE",
    ),
]
Tasks = Annotated[
    str | None,
    option(
        "--tasks",
        metavar="A,B,...",
        default_text="perplexity",
        panel=DATA,
        help=lambda: f"What to measure. {tasks()}",
    ),
]
MoreTasks = Annotated[
    str | None,
    option("--tasks", metavar="A,B,...", panel=DATA, help="Tasks whose accuracy to measure too, as in gatenorm eval"),
]
TaskData = Annotated[
    list[str] | None,
    option("--task-data", metavar="[TASK=]PATH", panel=DATA, many=True, help="Data of the tasks, as --data of eval"),
]
TaskLimit = Annotated[
    Count | None,
    option("--task-limit", default_text="--limit", panel=PROTOCOL, help="Use only the first N items of each task"),
]
Documents = Annotated[
    str | None,
    option(
        "--documents",
        metavar="SEP",
        panel=PROTOCOL,
        help="Perplexity of each document by itself: split the text at SEP; rows: one document per row of the file",
    ),
]
TextField = Annotated[
    str,
    option(
        "--text-field",
        metavar="NAME",
        default="text",
        panel=DATA,
        help="Field that holds the text in JSON Lines and Parquet files",
    ),
]
ContextWindow = Annotated[
    Window | None,
    option(
        "--window",
        default_text="the model's maximum, at most 2048",
        panel=PROTOCOL,
        help="Longest input in tokens",
    ),
]
Stride = Annotated[
    Count | None,
    option(
        "--stride",
        default_text="the window: no overlap",
        panel=PROTOCOL,
        help="Begin windows N tokens apart; only tokens that no earlier window covered count",
    ),
]
Limit = Annotated[
    Count | None,
    option("--limit", panel=PROTOCOL, help="Use only the first N windows, documents or items of each task"),
]
NewTokens = Annotated[
    Count,
    option(
        "--new-tokens",
        default=32,
        panel=PROTOCOL,
        help="Tokens to generate after each prompt of domain and refusal",
    ),
]
RefusalRule = Annotated[
    str | None,
    option("--refusal-rule", metavar="FILE", panel=PROTOCOL, help="JSON file with the patterns that make a refusal"),
]
Items = Annotated[bool, option("--items", default=False, panel=OUTPUT, help="Write every item into the JSON")]
NoCache = Annotated[
    bool, option("--no-cache", default=False, panel=PROTOCOL, help="Measure again what was measured before")
]
Engine = Annotated[
    str,
    option(
        "--engine",
        metavar="NAME",
        default="transformers",
        panel=PROTOCOL,
        help="Engine that runs the model: transformers, or vllm for zeroshot and harness:NAME",
    ),
]
Counts = Annotated[
    Sequence[int] | None,
    option(
        "--counts",
        metavar="1,2,4-8",
        reader=readers.LAYERS,
        default_text="up to half of them",
        panel=PROTOCOL,
        help="Numbers of removed sublayers to measure",
    ),
]
Seeds = Annotated[Index, option("--seeds", default=5, panel=PROTOCOL, help="Random rankings to measure for comparison")]
State = Annotated[
    Path | None,
    option("--state", metavar="FILE", panel=OUTPUT, help="Keep finished measurements in FILE, and resume from it"),
]

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
        "--data [TASK=]PATH",
        DATA,
        "Data to evaluate on: a text, .jsonl or .parquet file, wikitext2 (from the hub), wikitext2=FILE (a local raw "
        "file), or for zeroshot a directory with <task>_<split>.jsonl files. Repeat for several",
        many=True,
        shown="for demo and what was made from it: its own stories and tasks",
    ),
]
Text = Annotated[
    str, option("--data TEXT", DATA, "Text for perplexity: a file, wikitext2, or wikitext2=FILE", default=REQUIRED)
]
Tasks = Annotated[
    str | None, option("--tasks A,B,...", DATA, lambda: f"What to measure. {tasks()}", shown="perplexity")
]
MoreTasks = Annotated[
    str | None, option("--tasks A,B,...", DATA, "Tasks whose accuracy to measure too, as in gatenorm eval")
]
TaskData = Annotated[
    list[str] | None, option("--task-data [TASK=]PATH", DATA, "Data of the tasks, as --data of eval", many=True)
]
TaskLimit = Annotated[
    Count | None, option("--task-limit", PROTOCOL, "Use only the first N items of each task", shown="--limit")
]
Documents = Annotated[
    str | None,
    option(
        "--documents SEP",
        PROTOCOL,
        "Perplexity of each document by itself: split the text at SEP; rows: one document per row of the file",
    ),
]
TextField = Annotated[
    str, option("--text-field NAME", DATA, "Field that holds the text in JSON Lines and Parquet files", default="text")
]
ContextWindow = Annotated[
    Window | None, option("--window", PROTOCOL, "Longest input in tokens", shown="the model's maximum, at most 2048")
]
Stride = Annotated[
    Count | None,
    option(
        "--stride",
        PROTOCOL,
        "Begin windows N tokens apart; only tokens that no earlier window covered count",
        shown="the window: no overlap",
    ),
]
Limit = Annotated[
    Count | None, option("--limit", PROTOCOL, "Use only the first N windows, documents or items of each task")
]
NewTokens = Annotated[
    Count, option("--new-tokens", PROTOCOL, "Tokens to generate after each prompt of domain and refusal", default=32)
]
RefusalRule = Annotated[
    str | None, option("--refusal-rule FILE", PROTOCOL, "JSON file with the patterns that make a refusal")
]
Items = Annotated[bool, option("--items", OUTPUT, "Write every item into the JSON", default=False)]
NoCache = Annotated[bool, option("--no-cache", PROTOCOL, "Measure again what was measured before", default=False)]
Engine = Annotated[
    str,
    option(
        "--engine NAME",
        PROTOCOL,
        "Engine that runs the model: transformers, or vllm for zeroshot and harness:NAME",
        default="transformers",
    ),
]
Counts = Annotated[
    Sequence[int] | None,
    option(
        "--counts 1,2,4-8",
        PROTOCOL,
        "Numbers of removed sublayers to measure",
        reader=readers.LAYERS,
        shown="up to half of them",
    ),
]
Seeds = Annotated[Index, option("--seeds", PROTOCOL, "Random rankings to measure for comparison", default=5)]
State = Annotated[Path | None, option("--state FILE", OUTPUT, "Keep finished measurements in FILE, and resume from it")]

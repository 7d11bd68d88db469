"""Options about quality: data, tasks and their protocol."""

from pathlib import Path
from typing import Annotated, TypedDict

from gatenorm.cli.checks import no_empty_separator
from gatenorm.cli.declaration import REQUIRED, panel
from gatenorm.cli.options.common import engines_that, execution, output
from gatenorm.cli.readers import Layers
from gatenorm.records.numbers import Count, Index, Window

data, protocol = panel("Data"), panel("Protocol")


def _tasks() -> str:
    from gatenorm.evaluation.core.registry import standard_tasks

    known = (f"{t.name}{f'[:{t.argument}]' if t.argument else ''}: {t.what}" for t in standard_tasks().values())
    return f"What to measure. {'; '.join(known)}"


def _engines() -> str:
    runs = {"perplexity": "predicts", "prompts": "generates", "zeroshot and harness:NAME": "answers"}
    able = (f"{tasks} by {engines_that(ability)}" for tasks, ability in runs.items())
    return f"Engine that runs the model: {'; '.join(able)}"


_DATA = (
    "Data to evaluate on: a text, .jsonl or .parquet file, generic (packaged text), wikitext2 (from the hub), "
    "wikitext2=FILE (a local raw file), or for zeroshot a directory with <task>_<split>.jsonl files. Repeat for several"
)
_TEXT = "Text for perplexity: a file, generic (packaged public-domain text), wikitext2, or wikitext2=FILE"
_OWN = "for demo and what was made from it: its own stories and tasks"
Data = Annotated[list[str] | None, data("--data [TASK=]PATH", _DATA, shown=_OWN)]
Text = Annotated[
    str,
    data("--data TEXT", _TEXT, REQUIRED),
]
Tasks = Annotated[str | None, data("--tasks A,B,...", _tasks, shown="perplexity")]
MoreTasks = Annotated[str | None, data("--tasks A,B,...", "Tasks whose accuracy to measure too, as in gatenorm eval")]
TaskData = Annotated[list[str] | None, data("--task-data [TASK=]PATH", "Data of the tasks, as --data of eval")]
_ITEMS = "Use only the first N items of each task"
TaskLimit = Annotated[Count | None, protocol("--task-limit", _ITEMS, shown="--limit")]
_DOCUMENTS = "Perplexity of each document by itself: split the text at SEP; rows: one document per row of the file"
Documents = Annotated[str | None, protocol("--documents SEP", _DOCUMENTS, check=no_empty_separator)]
_FIELD = "Field that holds the text in JSON Lines and Parquet files"
TextField = Annotated[str, data("--text-field NAME", _FIELD, "text")]
_MAXIMUM = "the model's maximum, at most 2048"
ContextWindow = Annotated[Window | None, protocol("--window", "Longest input in tokens", shown=_MAXIMUM)]
_STRIDE = "Begin windows N tokens apart; only tokens that no earlier window covered count"
_LIMIT = "Use only the first N windows, documents or items of each task"
Limit = Annotated[Count | None, protocol("--limit", _LIMIT)]
_SPREAD = "Take the windows or documents that --limit leaves of a text evenly over it, not the first ones"
Spread = Annotated[bool, protocol("--spread", _SPREAD, False, key="evaluation.text_spread")]
_NEW_TOKENS = "Tokens to generate after each prompt of domain and refusal"
_RULE = "JSON file with the patterns that make a refusal"
Items = Annotated[bool, output("--items", "Write every item into the JSON", False)]
NoCache = Annotated[bool, execution("--no-cache", "Measure again what was measured before", False)]
Engine = Annotated[str | None, execution("--engine NAME", _engines, shown="transformers; llamacpp for a GGUF file")]
_COUNTS = "Numbers of removed sublayers to measure"
Counts = Annotated[Layers | None, protocol("--counts 1,2,4-8", _COUNTS, shown="up to half of them")]
Seeds = Annotated[Index, protocol("--seeds", "Random rankings to measure for comparison", 5)]
_STATE = "Keep finished measurements in FILE, and resume from it"
State = Annotated[Path | None, output("--state FILE", _STATE)]


class Protocol(TypedDict):
    """Options that are fields of :class:`gatenorm.evaluation.core.job.TaskOptions`."""

    documents: Documents
    text_field: TextField
    window: ContextWindow
    stride: Annotated[Count | None, protocol("--stride", _STRIDE, shown="the window: no overlap")]
    limit: Limit
    spread: Spread
    new_tokens: Annotated[Count, protocol("--new-tokens", _NEW_TOKENS, 32)]
    refusal_rule: Annotated[str | None, protocol("--refusal-rule FILE", _RULE)]

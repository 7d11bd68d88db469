"""Options about speed."""

from pathlib import Path
from typing import Annotated

from gatenorm.cli import console
from gatenorm.cli.declaration import argument, panel
from gatenorm.cli.options import common
from gatenorm.cli.readers import Numbers
from gatenorm.records.numbers import Count
from gatenorm.speed.defaults import NEW_TOKENS, ROUNDS

timing = panel("Timing")

Models = Annotated[
    list[str], argument("MODEL...", "Checkpoint directories, Hugging Face model ids, demo, or exported files")
]
_READER = "transformers for directories, else what reads the exported files"
Engine = Annotated[str | None, timing("--engine NAME", common.timed_engines, shown=_READER)]
_LENGTHS = "128,512,2048, as the context allows"
Lengths = Annotated[
    Numbers | None, timing("--lengths 128,512", "Prompt lengths in tokens", shown=_LENGTHS, key="speed.lengths")
]
NewTokens = Annotated[Count, timing("--new-tokens", "Tokens to decode after each prompt", NEW_TOKENS)]
_ROUNDS = "Rounds of timing; each times every model once"
Rounds = Annotated[Count, timing("--rounds", _ROUNDS, ROUNDS, key="speed.rounds")]
_MACHINE = "Show the cost model's prediction too, for a machine such as h100-sxm; this: measure this one"
Machine = Annotated[str | None, timing("--machine NAME", _MACHINE)]
Attention = Annotated[
    str | None, timing("--attention sdpa|eager", "Attention implementation", shown="the default of transformers")
]
_LATENCY = "Time prefill of so many tokens and decode after them too, in turns with the unpruned model"
Latency = Annotated[Count | None, timing("--latency TOKENS", _LATENCY)]
_PARETO = "Draw quality against speed (with --latency) to FILE (.png, .svg or .html)"
Pareto = Annotated[Path | None, common.output("--pareto FILE", _PARETO, check=console.check_plot)]


class Cases(common.Hardware):
    """What is timed, on what."""

    lengths: Lengths
    batches: Annotated[Numbers, timing("--batches 1,8", "Batch sizes", (1,))]
    threads: common.Threads

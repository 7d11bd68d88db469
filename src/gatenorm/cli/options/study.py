"""Options of recipes."""

from pathlib import Path
from typing import Annotated

from gatenorm.cli.declaration import argument, panel
from gatenorm.cli.options.common import other, output
from gatenorm.records.numbers import Count

stand_ins = panel("Overrides of the recipe")


def _recipes() -> str:
    from gatenorm.study.recipe import recipes

    return f"Packaged recipe, or a .yaml file of yours: {', '.join(recipes())}"


Name = Annotated[str | None, argument("NAME", _recipes, None)]
Model = Annotated[str | None, stand_ins("--model MODEL", "Checkpoint directory, Hugging Face model id, or demo")]
Data = Annotated[str | None, stand_ins("--data TEXT", "Text for perplexity, such as wikitext2=FILE", fields="text")]
_TOKENS = "Tokens of criteria that run the model, and text to train on: a text file, generic, self or random"
Calibration = Annotated[str | None, stand_ins("--calibration SOURCE", _TOKENS)]
Zeroshot = Annotated[str | None, stand_ins("--zeroshot DIR", "Directory with the zero-shot tasks' files")]
_STATE = "Keep finished measurements, and what is timed or trained, in DIR"
State = Annotated[Path | None, output("--state DIR", _STATE, shown="the cache of results")]
_TRIAL = "Trial run: at most N windows, items, samples, rounds and steps of everything; no claim is judged"
Trial = Annotated[Count | None, other("--trial N", _TRIAL)]
List = Annotated[bool, other("--list", "List the recipes", False)]
DryRun = Annotated[bool, other("--dry-run", "Say what would be measured and about how long it takes", False)]

"""Options about training after pruning, and about the study of several budgets."""

from pathlib import Path
from typing import Annotated

from gatenorm.cli import readers
from gatenorm.cli.declaration import REQUIRED, panel
from gatenorm.cli.options import common, evaluation
from gatenorm.records.numbers import Count
from gatenorm.records.recovery_settings import SAMPLES, Settings

training, checks, study = panel("Training"), panel("Held-out checks"), panel("Study")
default = Settings()

_OUT = "New directory; with --study, the folder for its variants"
Out = Annotated[Path, common.output("-o, --out DIR", _OUT, REQUIRED)]
_TEXT = (
    "Text to train on: a text, .jsonl or .parquet file, hub:NAME[:CONFIG[:SPLIT]], generic (packaged public-domain "
    "text), self (written by --parent), generic,self, or demo (synthetic stories)"
)
Data = Annotated[str, evaluation.data("--data TEXT", _TEXT, REQUIRED)]
_HELD_OUT = "Text to check the training on"
HeldOut = Annotated[str | None, evaluation.data("--held-out TEXT", _HELD_OUT, shown="the last 5% of the data")]
Samples = Annotated[Count, evaluation.data("--samples", "Sequences that --parent writes for self", SAMPLES)]
Parent = Annotated[str | None, training("--parent MODEL", "Unpruned model to distill from, or to compare with")]
Alpha = Annotated[float | None, training("--alpha", "Adapters are scaled by alpha/rank", shown="twice the rank")]
_STUDY = "Prune the dense MODEL at each of these budgets, recover each, and measure before and after"
Study = Annotated[readers.Shares | None, study("--study 20%,40%", _STUDY, fields="shares")]
StudyCriteria = Annotated[readers.Names, study("--criteria A,B,...", "Criteria to prune by", ("gate-norm",))]
OtherText = Annotated[str | None, study("--other TEXT", "Text from another source, to detect overfitting")]
_TASKS = "Tasks to measure, as in gatenorm eval"
StudyTasks = Annotated[readers.Names | None, study("--tasks A,B,...", _TASKS, shown="for demo: its own")]
_OBJECTIVES = "Loss: lm (the next token) or distill (the predictions of --parent)"
_TARGETS = "What to train: attention or mlp (by adapters), maps (the fitted maps themselves)"
_SCHEDULES = "Learning-rate schedule: cosine, linear or constant"
_SEED = "Seed of initial adapters, data order and dropout"
_RECOMPUTE = "Recompute activations in the backward pass: less memory, more time"
_LENGTH = "the model's maximum, at most 512"
_EVERY = "Steps between two checks; each saves the state"
_DIVERGED = "Stop when the loss reaches this many times the first held-out loss"


class Training(common.Hardware):
    """Options that are fields of :class:`gatenorm.records.recovery_settings.Settings`."""

    steps: Annotated[int, training("--steps", "Optimizer steps (AdamW)", default.steps)]
    objective: Annotated[str, training("--objective lm|distill", _OBJECTIVES, default.objective)]
    temperature: Annotated[float, training("--temperature", "Temperature of distill", default.temperature)]
    targets: Annotated[readers.Names, training("--targets A,B", _TARGETS, default.targets)]
    rank: Annotated[int, training("--rank", "Rank of the adapters", default.rank)]
    dropout: Annotated[float, training("--dropout", "Dropout on the adapters' inputs", default.dropout)]
    learning_rate: Annotated[float, training("--learning-rate", "Peak learning rate", default.learning_rate)]
    schedule: Annotated[str, training("--schedule NAME", _SCHEDULES, default.schedule)]
    warm_up: Annotated[float, training("--warm-up", "Share of the steps spent on warm-up", default.warm_up)]
    weight_decay: Annotated[float, training("--weight-decay", "Weight decay of what is trained", default.weight_decay)]
    batch: Annotated[int, training("--batch", "Sequences per forward pass and device", default.batch)]
    accumulation: Annotated[int, training("--accumulation", "Gradient accumulation steps", default.accumulation)]
    length: Annotated[int | None, training("--length", "Tokens in a training sequence", shown=_LENGTH)]
    checkpointing: Annotated[bool, training("--checkpointing", _RECOMPUTE, default.checkpointing)]
    watch_every: Annotated[int, checks("--watch-every", _EVERY, default.watch_every)]
    watch_windows: Annotated[int, checks("--watch-windows", "Held-out sequences to check", default.watch_windows)]
    diverged: Annotated[float, checks("--diverged", _DIVERGED, default.diverged)]
    seed: Annotated[int, training("--seed", _SEED, default.seed)]

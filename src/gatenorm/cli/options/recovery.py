"""Options about training after pruning, and about the study of several budgets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypedDict

from gatenorm.cli import readers
from gatenorm.cli.declaration import REQUIRED, option
from gatenorm.cli.options import common
from gatenorm.cli.options.evaluation import DATA
from gatenorm.recovery.settings import Settings

TRAINING, WATCHING, STUDY = "Training", "Held-out checks", "Study"
_DEFAULTS = Settings()

Out = Annotated[
    Path,
    option(
        "-o, --out DIR", common.OUTPUT, "New directory; with --study, the folder for its variants", default=REQUIRED
    ),
]
Data = Annotated[
    str,
    option(
        "--data TEXT",
        DATA,
        "Text to train on: a text, .jsonl or .parquet file, hub:NAME[:CONFIG[:SPLIT]], or demo (synthetic stories)",
        default=REQUIRED,
    ),
]
HeldOut = Annotated[
    str | None, option("--held-out TEXT", DATA, "Text to check the training on", shown="the last 5% of the data")
]
Parent = Annotated[str | None, option("--parent MODEL", TRAINING, "Unpruned model to distill from, or to compare with")]
Alpha = Annotated[
    float | None, option("--alpha", TRAINING, "Adapters are scaled by alpha/rank", shown="twice the rank")
]


class Training(TypedDict):
    """Options that are fields of :class:`gatenorm.recovery.settings.Settings`."""

    steps: Annotated[int, option("--steps", TRAINING, "Optimizer steps (AdamW)", default=_DEFAULTS.steps)]
    objective: Annotated[
        str,
        option(
            "--objective lm|distill",
            TRAINING,
            "Loss: lm (the next token) or distill (the predictions of --parent)",
            default=_DEFAULTS.objective,
        ),
    ]
    temperature: Annotated[
        float, option("--temperature", TRAINING, "Temperature of distill", default=_DEFAULTS.temperature)
    ]
    targets: Annotated[
        tuple[str, ...],
        option(
            "--targets A,B",
            TRAINING,
            "Sublayers that get adapters: attention, mlp",
            reader=readers.NAMES,
            default=_DEFAULTS.targets,
        ),
    ]
    rank: Annotated[int, option("--rank", TRAINING, "Rank of the adapters", default=_DEFAULTS.rank)]
    dropout: Annotated[
        float, option("--dropout", TRAINING, "Dropout on the adapters' inputs", default=_DEFAULTS.dropout)
    ]
    learning_rate: Annotated[
        float, option("--learning-rate", TRAINING, "Peak learning rate", default=_DEFAULTS.learning_rate)
    ]
    schedule: Annotated[
        str,
        option(
            "--schedule NAME",
            TRAINING,
            "Learning-rate schedule: cosine, linear or constant",
            default=_DEFAULTS.schedule,
        ),
    ]
    warm_up: Annotated[
        float, option("--warm-up", TRAINING, "Share of the steps spent on warm-up", default=_DEFAULTS.warm_up)
    ]
    weight_decay: Annotated[
        float, option("--weight-decay", TRAINING, "Weight decay of the adapters", default=_DEFAULTS.weight_decay)
    ]
    batch: Annotated[int, option("--batch", TRAINING, "Sequences per forward pass and device", default=_DEFAULTS.batch)]
    accumulation: Annotated[
        int, option("--accumulation", TRAINING, "Gradient accumulation steps", default=_DEFAULTS.accumulation)
    ]
    length: Annotated[
        int | None,
        option("--length", TRAINING, "Tokens in a training sequence", shown="the model's maximum, at most 512"),
    ]
    checkpointing: Annotated[
        bool,
        option(
            "--checkpointing",
            TRAINING,
            "Recompute activations in the backward pass: less memory, more time",
            default=_DEFAULTS.checkpointing,
        ),
    ]
    watch_every: Annotated[
        int,
        option(
            "--watch-every", WATCHING, "Steps between two checks; each saves the state", default=_DEFAULTS.watch_every
        ),
    ]
    watch_windows: Annotated[
        int, option("--watch-windows", WATCHING, "Held-out sequences to check", default=_DEFAULTS.watch_windows)
    ]
    diverged: Annotated[
        float,
        option(
            "--diverged",
            WATCHING,
            "Stop when the loss reaches this many times the first held-out loss",
            default=_DEFAULTS.diverged,
        ),
    ]
    seed: Annotated[
        int, option("--seed", TRAINING, "Seed of initial adapters, data order and dropout", default=_DEFAULTS.seed)
    ]
    device: common.Device
    dtype: common.Dtype


Study = Annotated[
    Sequence[float] | None,
    option(
        "--study 20%,40%",
        STUDY,
        "Prune the dense MODEL at each of these budgets, recover each, and measure before and after",
        fields="shares",
        reader=readers.SHARES,
    ),
]
StudyCriteria = Annotated[
    Sequence[str],
    option("--criteria A,B,...", STUDY, "Criteria to prune by", reader=readers.NAMES, default=("gate-norm",)),
]
OtherText = Annotated[str | None, option("--other TEXT", STUDY, "Text from another source, to detect overfitting")]
StudyTasks = Annotated[
    Sequence[str] | None,
    option(
        "--tasks A,B,...",
        STUDY,
        "Tasks to measure, as in gatenorm eval",
        reader=readers.NAMES,
        shown="for demo: its own",
    ),
]

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
        "-o",
        "--out",
        metavar="DIR",
        default=REQUIRED,
        panel=common.OUTPUT,
        help="New directory; with --study, the folder for its variants",
    ),
]
Data = Annotated[
    str,
    option(
        "--data",
        metavar="TEXT",
        default=REQUIRED,
        panel=DATA,
        help="Text to train on: a text, .jsonl or .parquet file, hub:NAME[:CONFIG[:SPLIT]], or demo for stories of the "
        "built-in model's world",
    ),
]
HeldOut = Annotated[
    str | None,
    option(
        "--held-out",
        metavar="TEXT",
        panel=DATA,
        default_text="the last 5% of the data",
        help="Text to check the training on",
    ),
]
Parent = Annotated[
    str | None,
    option("--parent", metavar="MODEL", panel=TRAINING, help="Unpruned model to distill from, or to compare with"),
]
Alpha = Annotated[
    float | None,
    option("--alpha", panel=TRAINING, default_text="twice the rank", help="Adapters are scaled by alpha/rank"),
]


class Training(TypedDict):
    """Options that are fields of :class:`gatenorm.recovery.settings.Settings`."""

    steps: Annotated[int, option("--steps", default=_DEFAULTS.steps, panel=TRAINING, help="Optimizer steps (AdamW)")]
    objective: Annotated[
        str,
        option(
            "--objective",
            metavar="lm|distill",
            default=_DEFAULTS.objective,
            panel=TRAINING,
            help="Loss: lm (the next token) or distill (the predictions of --parent)",
        ),
    ]
    temperature: Annotated[
        float, option("--temperature", default=_DEFAULTS.temperature, panel=TRAINING, help="Temperature of distill")
    ]
    targets: Annotated[
        tuple[str, ...],
        option(
            "--targets",
            metavar="A,B",
            reader=readers.NAMES,
            default=_DEFAULTS.targets,
            panel=TRAINING,
            help="Sublayers that get adapters: attention, mlp",
        ),
    ]
    rank: Annotated[int, option("--rank", default=_DEFAULTS.rank, panel=TRAINING, help="Rank of the adapters")]
    dropout: Annotated[
        float, option("--dropout", default=_DEFAULTS.dropout, panel=TRAINING, help="Dropout on the adapters' inputs")
    ]
    learning_rate: Annotated[
        float, option("--learning-rate", default=_DEFAULTS.learning_rate, panel=TRAINING, help="Peak learning rate")
    ]
    schedule: Annotated[
        str,
        option(
            "--schedule",
            metavar="NAME",
            default=_DEFAULTS.schedule,
            panel=TRAINING,
            help="Learning-rate schedule: cosine, linear or constant",
        ),
    ]
    warm_up: Annotated[
        float,
        option("--warm-up", default=_DEFAULTS.warm_up, panel=TRAINING, help="Share of the steps spent on warm-up"),
    ]
    weight_decay: Annotated[
        float,
        option("--weight-decay", default=_DEFAULTS.weight_decay, panel=TRAINING, help="Weight decay of the adapters"),
    ]
    batch: Annotated[
        int, option("--batch", default=_DEFAULTS.batch, panel=TRAINING, help="Sequences per forward pass and device")
    ]
    accumulation: Annotated[
        int,
        option("--accumulation", default=_DEFAULTS.accumulation, panel=TRAINING, help="Gradient accumulation steps"),
    ]
    length: Annotated[
        int | None,
        option(
            "--length",
            panel=TRAINING,
            default_text="the model's maximum, at most 512",
            help="Tokens in a training sequence",
        ),
    ]
    checkpointing: Annotated[
        bool,
        option(
            "--checkpointing",
            default=_DEFAULTS.checkpointing,
            panel=TRAINING,
            help="Recompute activations in the backward pass: less memory, more time",
        ),
    ]
    watch_every: Annotated[
        int,
        option(
            "--watch-every",
            default=_DEFAULTS.watch_every,
            panel=WATCHING,
            help="Steps between two checks; each saves the state",
        ),
    ]
    watch_windows: Annotated[
        int,
        option("--watch-windows", default=_DEFAULTS.watch_windows, panel=WATCHING, help="Held-out sequences to check"),
    ]
    diverged: Annotated[
        float,
        option(
            "--diverged",
            default=_DEFAULTS.diverged,
            panel=WATCHING,
            help="Stop when the loss reaches this many times the first held-out loss",
        ),
    ]
    seed: Annotated[
        int,
        option(
            "--seed", default=_DEFAULTS.seed, panel=TRAINING, help="Seed of initial adapters, data order and dropout"
        ),
    ]
    device: common.Device
    dtype: common.Dtype


Study = Annotated[
    Sequence[float] | None,
    option(
        "--study",
        metavar="20%,40%",
        reader=readers.SHARES,
        panel=STUDY,
        help="Prune the dense MODEL at each of these budgets, recover each, and measure before and after",
    ),
]
StudyCriteria = Annotated[
    Sequence[str],
    option(
        "--criteria",
        metavar="A,B,...",
        reader=readers.NAMES,
        default=("gate-norm",),
        panel=STUDY,
        help="Criteria to prune by",
    ),
]
OtherText = Annotated[
    str | None,
    option("--other", metavar="TEXT", panel=STUDY, help="Text from another source, to detect overfitting"),
]
StudyTasks = Annotated[
    Sequence[str] | None,
    option(
        "--tasks",
        metavar="A,B,...",
        reader=readers.NAMES,
        panel=STUDY,
        default_text="for demo: its own",
        help="Tasks to measure, as in gatenorm eval",
    ),
]

"""Options about what to remove, and what the cost model predicts of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from gatenorm.cli import readers
from gatenorm.cli.declaration import option
from gatenorm.records.numbers import Count

REMOVAL, COST_MODEL = "What to remove (one of these)", "Cost model"

Layers = Annotated[int | None, option("--layers", panel=REMOVAL, help="Number of weakest sublayers to remove")]
Share = Annotated[
    float | None,
    option(
        "--share", metavar="0.2|20%", reader=readers.SHARE, panel=REMOVAL, help="Share of the sublayers, at least one"
    ),
]
Drop = Annotated[
    Sequence[int] | None,
    option(
        "--drop",
        metavar="20,21",
        reader=readers.LAYERS,
        panel=REMOVAL,
        help="Exactly these layers, numbered from 0 in the original model",
    ),
]
PlanFile = Annotated[
    Path | None, option("--plan", metavar="FILE", panel=REMOVAL, fields=("file",), help="What this plan.json lists")
]
TargetSpeedup = Annotated[
    str | None,
    option(
        "--target-speedup",
        metavar="1.2",
        panel=REMOVAL,
        keys=("budgets.target_speedup",),
        help="Just enough layers for this predicted speed-up of prefill and decode; prefill=1.2 or decode=1.2 for one "
        "of them",
    ),
]
MaxCacheGb = Annotated[
    float | None,
    option(
        "--max-cache-gb",
        metavar="GB",
        panel=REMOVAL,
        keys=("budgets.max_cache_gb",),
        help="Just enough layers to fit the KV cache in this many GB",
    ),
]
Kind = Annotated[
    str,
    option(
        "--kind",
        metavar="KIND",
        default="attention",
        panel="Ranking",
        help="Sublayer to remove: attention, mlp, or block for both of a layer",
    ),
]
Machine = Annotated[
    str,
    option(
        "--machine",
        metavar="NAME",
        default="h100-sxm",
        panel=COST_MODEL,
        help="Machine to predict for, such as h100-sxm, a100-80gb or rtx-4090; this: measure this one",
    ),
]
Context = Annotated[
    Count | None,
    option(
        "--context",
        default_text="4096 and the model's maximum",
        panel=COST_MODEL,
        help="Context length to predict for, in tokens",
    ),
]
Batch = Annotated[Count, option("--batch", default=1, panel=COST_MODEL, help="Batch size to predict for")]

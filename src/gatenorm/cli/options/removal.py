"""Options about what to remove, and what the cost model predicts of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from gatenorm.cli import readers
from gatenorm.cli.declaration import option
from gatenorm.records.numbers import Count

REMOVAL, COST_MODEL = "What to remove (one of these)", "Cost model"

Layers = Annotated[int | None, option("--layers", REMOVAL, "Number of weakest sublayers to remove")]
Share = Annotated[
    float | None, option("--share 0.2|20%", REMOVAL, "Share of the sublayers, at least one", reader=readers.SHARE)
]
Drop = Annotated[
    Sequence[int] | None,
    option(
        "--drop 20,21", REMOVAL, "Exactly these layers, numbered from 0 in the original model", reader=readers.LAYERS
    ),
]
PlanFile = Annotated[Path | None, option("--plan FILE", REMOVAL, "What this plan.json lists", fields="file")]
TargetSpeedup = Annotated[
    str | None,
    option(
        "--target-speedup 1.2",
        REMOVAL,
        "Just enough layers for this predicted speed-up of prefill and decode (prefill=1.2, decode=1.2: of one)",
        key="budgets.target_speedup",
    ),
]
MaxCacheGb = Annotated[
    float | None,
    option(
        "--max-cache-gb GB",
        REMOVAL,
        "Just enough layers to fit the KV cache in this many GB",
        key="budgets.max_cache_gb",
    ),
]
Kind = Annotated[
    str,
    option(
        "--kind KIND",
        "Ranking",
        "Sublayer to remove: attention, mlp, or block for both of a layer",
        default="attention",
    ),
]
Machine = Annotated[
    str,
    option(
        "--machine NAME",
        COST_MODEL,
        "Machine to predict for, such as h100-sxm, a100-80gb or rtx-4090; this: measure this one",
        default="h100-sxm",
    ),
]
Context = Annotated[
    Count | None,
    option("--context", COST_MODEL, "Context length to predict for, in tokens", shown="4096 and the model's maximum"),
]
Batch = Annotated[Count, option("--batch", COST_MODEL, "Batch size to predict for", default=1)]

"""Options about what to remove, and what the cost model predicts of it."""

from pathlib import Path
from typing import Annotated, TypedDict

from gatenorm.cli import readers
from gatenorm.cli.declaration import panel
from gatenorm.cli.options import common
from gatenorm.cli.options.ranking import Criterion, CrossCheck, Protect, Scoring, ranking
from gatenorm.records.numbers import Count

removal, cost_model = panel("What to remove (one of these)"), panel("Cost model")
replacement = panel("What takes its place")

Layers = Annotated[int | None, removal("--layers", "Number of weakest sublayers to remove")]
Share = Annotated[readers.Share | None, removal("--share 0.2|20%", "Share of the sublayers, at least one")]
_DROP = "Exactly these layers, numbered from 0 in the original model"
Drop = Annotated[readers.Layers | None, removal("--drop 20,21", _DROP)]
PlanFile = Annotated[Path | None, removal("--plan FILE", "What this plan.json lists")]
_TARGET = "Just enough layers for this predicted speed-up of prefill and decode (prefill=1.2, decode=1.2: of one)"
TargetSpeedup = Annotated[str | None, removal("--target-speedup 1.2", _TARGET, key="budgets.target_speedup")]
_CACHE = "Just enough layers to fit the KV cache in this many GB"
MaxCacheGb = Annotated[float | None, removal("--max-cache-gb GB", _CACHE, key="budgets.max_cache_gb")]
_DRY = "Decide what to remove and show it; nothing is fitted or written, and DIR is not needed"
DryRun = Annotated[bool, common.output("--dry-run", _DRY, False)]
Out = Annotated[Path | None, common.output("-o, --out DIR", "New directory; must not exist yet", shown="required")]
_KINDS = (
    "Sublayer to remove: attention, mlp, block for both of a layer, or any: whichever cost least for what they save"
)
Kind = Annotated[str, ranking("--kind KIND", _KINDS, "attention")]
_MACHINES = "Machine to predict for, such as h100-sxm, a100-80gb or rtx-4090; this: measure this one"
Machine = Annotated[str, cost_model("--machine NAME", _MACHINES, "h100-sxm")]
_CONTEXT = "Context length to predict for, in tokens"
Context = Annotated[Count | None, cost_model("--context", _CONTEXT, shown="4096 and the model's maximum")]
Batch = Annotated[Count, cost_model("--batch", "Batch size to predict for", 1)]
_REPLACE = (
    "Operation: remove (nothing), fold (into the MLP in front), constant (the mean of what it added), linear (a fitted "
    "map), linear:64 (of rank 64)"
)
Replace = Annotated[str, replacement("--replace OPERATION", _REPLACE, "remove")]
_FIT = "Tokens to fit operations on, joined by commas: generic (packaged public-domain text), self, random, a text file"
FitSources = Annotated[readers.Names, replacement("--fit SOURCES", _FIT, ("generic",), fields="fit", key="budgets.fit")]
_JUDGE = "Texts (8 windows of 128 tokens each) on which a fit must do less damage than removal; none: no such check"
Judges = Annotated[readers.Names, replacement("--judge SOURCES", _JUDGE, ("self",), fields="judge judges")]
FitSamples = Annotated[Count, replacement("--fit-samples", "Windows of --length tokens from each of them", 128)]


class Choice(TypedDict):
    """Parameters of :func:`gatenorm.plan`."""

    layers: Layers
    share: Share
    drop: Drop
    file: PlanFile
    target_speedup: TargetSpeedup
    max_cache_gb: MaxCacheGb
    criterion: Criterion
    kind: Kind
    protect: Protect
    replace: Replace
    machine: Machine
    context: Context
    batch: Batch


class Fitting(TypedDict):
    """How what takes the place of sublayers is fitted."""

    fit: FitSources
    fit_samples: FitSamples
    judge: Judges


class Pruning(Choice, Fitting, Scoring):
    """These, and how sublayers are scored."""

    cross_check: CrossCheck

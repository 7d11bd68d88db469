"""The verbs of the command line as functions: ``score``, ``plan``, ``prune``, ``export``, ``evaluate`` and so on."""

from gatenorm.api.evaluating import evaluate
from gatenorm.api.exporting import export, verify
from gatenorm.api.opening import laboratory, load, open_model
from gatenorm.api.pruning import plan, prune, prune_module
from gatenorm.api.recovering import recover, recovery_study
from gatenorm.api.scoring import compare, cross_check, curve, score

__all__ = [
    "compare",
    "cross_check",
    "curve",
    "evaluate",
    "export",
    "laboratory",
    "load",
    "open_model",
    "plan",
    "prune",
    "prune_module",
    "recover",
    "recovery_study",
    "score",
    "verify",
]

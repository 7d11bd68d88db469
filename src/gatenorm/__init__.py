"""gatenorm: find the attention sublayers of an open LLM that have gone to sleep, and remove them.

The verbs of the command line are functions here::

    import gatenorm

    scores = gatenorm.score("./llama")                    # weights only, no PyTorch needed
    plan = gatenorm.plan("./llama", layers=8)
    gatenorm.prune("./llama", "./llama-8", plan)
    model = gatenorm.load("./llama-8")                    # a transformers model
    gatenorm.export("./llama-8", "gguf", "llama-8.gguf")  # a file for llama.cpp
    gatenorm.verify("llama-8.gguf", "./llama-8")          # does it compute the same?

Importing this package also makes ``transformers.AutoModelForCausalLM.from_pretrained("./llama-8")`` work; transformers
itself is not imported by that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gatenorm.surgery.registration import register_when_transformers_is_imported

__version__ = "0.1.0"

if TYPE_CHECKING:
    from gatenorm.api import (
        compare,
        cross_check,
        curve,
        evaluate,
        export,
        laboratory,
        load,
        open_model,
        plan,
        prune,
        prune_module,
        recover,
        recovery_study,
        score,
        verify,
    )
    from gatenorm.audit.run.main import run_audit
    from gatenorm.criteria.tokens.sources import Calibration
    from gatenorm.errors import GatenormError
    from gatenorm.records import Evidence, Plan, Scores

__all__ = [
    "Calibration",
    "Evidence",
    "GatenormError",
    "Plan",
    "Scores",
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
    "run_audit",
    "score",
    "verify",
]

_HOMES = {
    "Calibration": "gatenorm.criteria.tokens.sources",
    "Evidence": "gatenorm.records",
    "GatenormError": "gatenorm.errors",
    "Plan": "gatenorm.records",
    "Scores": "gatenorm.records",
    "run_audit": "gatenorm.audit.run.main",
}


def _family_classes() -> dict[str, tuple[str, str, str]]:
    from gatenorm.families import classes

    return classes()


register_when_transformers_is_imported(_family_classes)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import gatenorm` must stay quick."""
    if name not in __all__:
        raise AttributeError(f"module 'gatenorm' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES.get(name, "gatenorm.api")), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

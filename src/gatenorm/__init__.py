"""gatenorm: find the attention sublayers of an LLM that contribute least, and remove or replace them.

The verbs of the command line are functions here::

    import gatenorm

    scores = gatenorm.score("./llama")                    # weights only, no PyTorch needed
    plan = gatenorm.plan("./llama", layers=8)
    gatenorm.prune("./llama", "./llama-8", plan)
    model = gatenorm.load("./llama-8")                    # a transformers model
    gatenorm.export("./llama-8", "gguf", "llama-8.gguf")  # a file for llama.cpp
    gatenorm.verify("llama-8.gguf", "./llama-8")          # does it compute the same?

``gatenorm.register()`` makes ``transformers.AutoModelForCausalLM.from_pretrained("./llama-8")`` work as well; without
it, and where gatenorm is not installed, that needs ``trust_remote_code=True``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from gatenorm.api import *  # noqa: F403
    from gatenorm.audit.main import run_audit as run_audit


def __getattr__(name: str) -> Any:
    """Import the API when one of its names is first used: ``import gatenorm`` must stay quick."""
    if name == "run_audit":
        from gatenorm.audit.main import run_audit

        return run_audit
    if name.startswith("_"):
        raise AttributeError(f"module 'gatenorm' has no attribute {name!r}")
    return getattr(import_module("gatenorm.api"), name)


def __dir__() -> list[str]:
    names = dir(import_module("gatenorm.api"))
    return sorted({*globals(), *(name for name in names if not name.startswith("_")), "run_audit"})

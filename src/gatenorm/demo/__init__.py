"""The built-in model and its world: a language, its tasks, and a model trained on it, all made by this repository."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gatenorm.demo.evaluation import evaluate, measure
    from gatenorm.demo.package import model_directory, write

__all__ = ["evaluate", "measure", "model_directory", "write"]

_HOMES = {"evaluate": "evaluation", "measure": "evaluation", "model_directory": "package", "write": "package"}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: finding the model's directory must not load an evaluation."""
    if name not in _HOMES:
        raise AttributeError(f"module 'gatenorm.demo' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"gatenorm.demo.{_HOMES[name]}"), name)

"""The LM evaluation harness as a package: whether it is there, and its chatter kept off the terminal."""

import importlib.util
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gatenorm.errors import MissingExtraError

# What modules of lm-eval call by the name `tqdm`.
_BARS = ("lm_eval.api.task", "lm_eval.api.model", "lm_eval.models.huggingface")


def check_installed(feature: str) -> None:
    """Raise MissingExtraError early where lm-eval is missing."""
    if importlib.util.find_spec("lm_eval") is None or importlib.util.find_spec("datasets") is None:
        raise MissingExtraError(feature, "lm_eval with datasets", "eval")


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps lm-eval's bars and remarks, and those of datasets, off the terminal."""
    import datasets
    from tqdm import tqdm

    loggers = [logging.getLogger(name) for name in ("lm_eval", "lm-eval", "datasets", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    modules = [importlib.import_module(name) for name in _BARS]
    bars = [getattr(module, "tqdm", None) for module in modules]
    shown = datasets.utils.logging.is_progress_bar_enabled()

    def no_bar(*arguments: Any, **options: Any) -> Any:
        return tqdm(*arguments, **{**options, "disable": True})

    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        for module in modules:
            module.tqdm = no_bar  # type: ignore[attr-defined]
        datasets.disable_progress_bars()
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for module, bar in zip(modules, bars, strict=True):
            module.tqdm = bar  # type: ignore[attr-defined]
        if shown:
            datasets.enable_progress_bars()

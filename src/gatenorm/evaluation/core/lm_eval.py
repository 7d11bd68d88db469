"""The LM evaluation harness as a package: whether it is there, and its chatter kept off the terminal."""

import importlib.util
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from gatenorm.errors import MissingExtraError

def check_installed(feature: str) -> None:
    """Raise MissingExtraError early where lm-eval is missing."""
    if importlib.util.find_spec("lm_eval") is None or importlib.util.find_spec("datasets") is None:
        raise MissingExtraError(feature, "lm_eval with datasets", "eval")


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps the remarks of lm-eval, and the remarks and bars of datasets, off the terminal."""
    import datasets

    loggers = [logging.getLogger(name) for name in ("lm_eval", "lm-eval", "datasets", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    shown = datasets.utils.logging.is_progress_bar_enabled()
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        datasets.disable_progress_bars()
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if shown:
            datasets.enable_progress_bars()


@contextmanager
def without_bar() -> Iterator[None]:
    """Hides the bar that lm-eval draws while a task writes its requests.

    Those of the models have an option (see :class:`gatenorm.engines._harness.Answering`). This one has none: the name
    by which one module calls it is another's while requests are written, and nothing outside of that module sees that.
    """
    from lm_eval.api import task

    bar = task.tqdm
    task.tqdm = partial(bar, disable=True)
    try:
        yield
    finally:
        task.tqdm = bar

"""The LM evaluation harness as a package: whether it is there, and its chatter kept off the terminal."""

import importlib.util
import logging
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

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
def alone() -> Iterator[None]:
    """Keeps one call of lm-eval's ``evaluate`` silent, and in this process.

    It has no option for two of its functions. The bar over the requests that a task writes is drawn whatever is asked
    (those of the models have one, see :class:`gatenorm.engines._harness.Answering`); and standard errors by bootstrap
    are announced on stdout, where results belong, and drawn in a child for every core of the machine. So two names in
    lm-eval's modules are others' while the call lasts.
    """
    from lm_eval.api import metrics, task

    bar, bootstrap = task.tqdm, metrics.bootstrap_stderr
    task.tqdm, metrics.bootstrap_stderr = partial(bar, disable=True), _bootstrap_stderr
    try:
        yield
    finally:
        task.tqdm, metrics.bootstrap_stderr = bar, bootstrap


def _bootstrap_stderr(statistic: Callable[[Sequence[Any]], float], values: Sequence[Any], iters: int) -> float:
    """The standard deviation of a statistic over so many samples with replacement, the first that lm-eval draws."""
    draw = random.Random(0)
    return statistics.stdev(statistic(draw.choices(values, k=len(values))) for _ in range(iters))

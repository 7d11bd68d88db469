"""Errors say which setting named what is wrong: by its key here, by its option where the command line was given one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from gatenorm.errors import GatenormError

# What the rooms below say to whoever has their own commands before them.
_WORDS: Mapping[str, str] = {
    "name the tasks that you have (--tasks zeroshot:boolq+rte), or leave --data out to fetch it from the hub": (
        "name the tasks that you have in evaluation.zeroshot_tasks of --config, or say hub in place of the directory"
    ),
    "no --data directory was given, and ": "",
    "or give --data DIR with a file": "or give a directory with a file",
    "name it with --text-field": "name it with text_field beside it, in --config",
    "--refusal-rule": "evaluation.refusal_rule",
}


@contextmanager
def asked_by(key: str) -> Iterator[None]:
    """Errors about data, which name ``--data``, name the configuration's ``key`` instead."""
    try:
        yield
    except GatenormError as error:
        words = str(error)
        for theirs, ours in _WORDS.items():
            words = words.replace(theirs, ours)
        # A key that ends in @ stands before the file's name without a space.
        error.problem = words.replace("--data ", f"{key} ".replace("@ ", "@")).replace("--data", key)
        raise

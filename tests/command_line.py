"""The command line as tests call it: an answer, or the error as data."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from gatenorm.cli import main
from gatenorm.cli.application import invoke
from gatenorm.errors import GatenormError


@dataclass(frozen=True)
class Answer:
    """Exit status, stdout and stderr of a command."""

    status: int
    out: str
    err: str


def answer(capsys: pytest.CaptureFixture[str], *arguments: object) -> Answer:
    """What ``gatenorm ARGUMENTS`` exits with and prints."""
    status = main([str(a) for a in arguments])
    return Answer(status, *capsys.readouterr())


def refusal(*arguments: object) -> GatenormError:
    """The error with which ``gatenorm ARGUMENTS`` ends; assert its ``code`` and ``field``, or its ``text()``."""
    with pytest.raises(GatenormError) as caught:
        invoke([str(a) for a in arguments])
    return caught.value

"""A fault that is planted in a parser is found, by mutants and by coverage alike."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gatenorm.errors import GatenormError
from tests.fuzz import running
from tests.fuzz.__main__ import guided, tried
from tests.fuzz.parser import Parser

SOUND = b"sound"
_HELD: list[bytearray] = []


def lets_through() -> None:
    raise KeyError("planted")


def says_much() -> None:
    raise GatenormError("planted", "one\ntwo" * 2000)


def hangs() -> None:
    until = time.process_time() + 60
    while time.process_time() < until:
        pass


def hangs_behind_a_net() -> None:
    """As a parser does that makes one error of whatever somebody else's reader raises."""
    try:
        hangs()
    except Exception as error:
        raise GatenormError("planted", "refused") from error


def takes_memory() -> None:
    _HELD.append(bytearray(1 << 24))
    _HELD.clear()


def crashes() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def planted(fault: Callable[[], None]) -> Parser:
    """A parser that has it for whatever is not sound."""
    return Parser("planted", (SOUND,), lambda content: None if content == SOUND else fault(), "bytes")


@pytest.mark.parametrize(
    ("fault", "finding"),
    [
        (lets_through, "KeyError"),
        (hangs, "TimeoutError: more than"),
        (hangs_behind_a_net, "TimeoutError: more than"),
        (takes_memory, "AssertionError: 16,"),
    ],
)
def test_by_mutants(fault: Callable[[], None], finding: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(running, "SECONDS", 0.05)
    count = tried(planted(fault), 5, "0")
    assert len(count.findings) == 5
    assert all(one.startswith(finding) and " of b" in one for one in count.findings)
    assert tried(planted(lambda: None), 0.1, "0").findings == []


@pytest.mark.parametrize(
    ("fault", "finding"),
    [
        (lets_through, "KeyError: 'planted'"),
        (hangs_behind_a_net, "TimeoutError: more than"),
        (crashes, f"exit status -{signal.SIGSEGV.value} of b"),
    ],
)
def test_by_coverage(fault: Callable[[], None], finding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("atheris")
    monkeypatch.setattr(running, "SECONDS", 0.05)
    (found,) = guided(planted(fault), 5, tmp_path).findings
    assert finding in found
    (kept,) = tmp_path.glob("finding-*")
    assert kept.read_bytes() != SOUND

"""Engines that live in environments of their own are asked through a process; the reference is computed here."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from gatenorm.engines import Continuation
from gatenorm.engines.transformers.greedy import TransformersGreedy

ROOT = Path(__file__).resolve().parents[2]
TOKENS = 64
# Two log-probabilities this close may change places by arithmetic alone.
TIE = 2e-3


@dataclass(frozen=True)
class Answer:
    """What an engine made of a directory: as ``Continuation``, one row a prompt; or why it refused it."""

    tokens: np.ndarray
    logprobs: np.ndarray
    cached_layers: int
    cut: tuple[int, ...]
    refused: str = ""


def python_with(package: str, environment: str) -> str:
    """An interpreter that has ``package``: this one, or that of the environment; skips where neither has it."""
    if importlib.util.find_spec(package) is not None:
        return sys.executable
    python = ROOT / environment / "bin" / "python"
    if not python.is_file():
        pytest.skip(f"{package} is not installed: make {environment.removeprefix('.venv-')}-env")
    return str(python)


def prompts(vocabulary: int) -> list[list[int]]:
    """Prompts of one token, of a few, and of more than one block of a paged cache (16)."""
    random = np.random.Generator(np.random.PCG64(3))
    return [random.integers(3, vocabulary, length).tolist() for length in (1, 7, 33)]


def ask(
    python: str,
    asker: Sequence[str],
    directories: Mapping[str, Path],
    vocabularies: Mapping[str, int],
    place: Path,
    environment: Mapping[str, str] | None = None,
) -> dict[str, Answer]:
    """What an engine answers for every directory, all in one process: ``asker`` is the module that asks it."""
    jobs = {
        name: {"path": str(path), "prompts": prompts(vocabularies[name]), "tokens": TOKENS}
        for name, path in directories.items()
    }
    place.mkdir(parents=True, exist_ok=True)
    (place / "jobs.json").write_text(json.dumps(jobs))
    command = [python, "-m", *asker, str(place / "jobs.json"), str(place / "answers.npz")]
    offline = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **offline, **(environment or {})}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = np.load(place / "answers.npz")
    nothing = np.empty(0)
    return {
        name: Answer(nothing, nothing, 0, (), str(found[f"{name}/refused"]))
        if f"{name}/refused" in found
        else Answer(
            found[f"{name}/tokens"],
            found[f"{name}/logprobs"],
            int(found[f"{name}/cached_layers"]),
            tuple(found[f"{name}/cut"].astype(int)),
        )
        for name in jobs
    }


@cache
def reference(source: Path, asked: tuple[tuple[int, ...], ...]) -> list[Continuation]:
    """How transformers goes on: computed once for all engines that are held against it."""
    return TransformersGreedy(source).continue_greedily(asked, TOKENS)


def largest_difference(answer: Answer, source: Path, asked: Sequence[Sequence[int]], whole: bool = True) -> float:
    """Of two log-probabilities of the engine and of transformers on ``source``, as far as both took the same tokens.

    Asserts that they part at near ties only, and that the engine tells of the ``whole`` vocabulary, or else of some of
    it for every token.
    """
    largest = 0.0
    references = reference(source, tuple(map(tuple, asked)))
    for expected, tokens, logprobs in zip(references, answer.tokens, answer.logprobs, strict=True):
        assert len(tokens) == TOKENS
        parted = np.flatnonzero(tokens != np.array(expected.tokens))
        same = TOKENS if parted.size == 0 else int(parted[0]) + 1
        told = np.isfinite(logprobs)
        assert told.all() if whole else told.any(axis=1).all()
        largest = max(largest, float(np.nanmax(np.abs(logprobs[:same] - expected.logprobs[:same]))))
        if parted.size:
            best = np.sort(expected.logprobs[same - 1])
            assert best[-1] - best[-2] <= TIE
    return largest

"""Pruned directories for every test of this room."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch

from tests.surgery.pruned_models import (
    build,
    write_pruned,
)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(1)


@pytest.fixture(scope="session")
def directories(tmp_path_factory):
    """Pruned directories by shape and dropped layers, written once."""
    root = tmp_path_factory.mktemp("pruned")

    @cache
    def directory(name: str, drop: tuple[int, ...]) -> Path:
        return write_pruned(build(name), name, drop, root / f"{name}-{'-'.join(map(str, drop))}")

    return directory

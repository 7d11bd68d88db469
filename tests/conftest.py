"""Fixtures that every room's tests may ask for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def _quiet() -> None:
    """Transformers' bars would stand in the stderr that tests look at."""
    from transformers.utils import logging

    logging.disable_progress_bar()


@pytest.fixture(scope="session", autouse=True)
def _no_earlier_results(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A result that an earlier run of the tests left behind would hide what has changed since."""
    os.environ["GATENORM_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of trained models and texts that are not part of the project; skips where it is absent."""
    named = os.environ.get("GATENORM_SHARED")
    path = Path(named) if named else Path(__file__).resolve().parents[1].parent / "shared"
    if not (path / "models").is_dir():
        pytest.skip(f"no trained models at {path}/models: set GATENORM_SHARED to the folder that holds them")
    return path


@pytest.fixture(scope="session")
def whole_stories(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The TinyStories sample without its first and last story, which are cut off; published figures leave them out."""
    text = (shared / "data/tinystories/valid_sample.txt").read_text(encoding="utf-8")
    stories = text.split("<|endoftext|>")[1:-1]
    path = tmp_path_factory.mktemp("tinystories") / "whole_stories.txt"
    path.write_text("<|endoftext|>".join(stories), encoding="utf-8")
    return path


TinyModels = Callable[..., Path]


@pytest.fixture
def plain_experts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mixtures run their experts one by one: torch neither counts grouped products nor knows them in float64."""
    from transformers.integrations.moe import ExpertsInterface

    monkeypatch.setattr(ExpertsInterface, "get_interface", lambda _, name, default: default)


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    """``tiny_models(name, **options)``: the directory of a saved tiny model, written once; treat it as read-only."""
    from tests.tiny_models import save

    written: dict[tuple[object, ...], Path] = {}

    def directory(name: str, **options: object) -> Path:
        key = (name, *sorted(options.items()))
        if key not in written:
            written[key] = save(name, tmp_path_factory.mktemp(name, numbered=True), **options)  # type: ignore[arg-type]
        return written[key]

    return directory

"""The hash of code: it changes with what is carried out, and with nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatenorm.results import hashes as code


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of two rooms, which is hashed in place of the package."""
    own = Path(code.__file__).parents[1]
    for room in ("records", "families"):
        shutil.copytree(own / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code, "__file__", str(tmp_path / "records" / "code.py"))
    code.code_sha256.cache_clear()
    yield tmp_path
    code.code_sha256.cache_clear()


@pytest.mark.parametrize(
    ("changed", "seen"),
    [("families/family.py", True), ("families/data/llama.json", True), ("records/plan.py", False)],
)
def test_the_hash_is_that_of_the_places_named(package: Path, changed: str, seen: bool):
    before = code.code_sha256("families")
    with (package / changed).open("a") as file:
        file.write("\n")
    code.code_sha256.cache_clear()
    assert (code.code_sha256("families") != before) is seen


def test_a_place_may_be_a_file(package: Path):
    before = code.code_sha256("records/plan.py")
    (package / "records" / "scores.py").write_text("")
    code.code_sha256.cache_clear()
    assert code.code_sha256("records/plan.py") == before
    assert code.code_sha256("records") != before

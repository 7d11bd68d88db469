"""The hash of code: it changes with what can change a figure, and with nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatenorm.results import hashes


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of some packages, which is hashed in place of gatenorm."""
    own = Path(hashes.__file__).parents[1]
    for name in ("records", "families", "audit", "cli", "report"):
        shutil.copytree(own / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(hashes, "__file__", str(tmp_path / "results" / "hashes.py"))
    hashes.code_sha256.cache_clear()
    yield tmp_path
    hashes.code_sha256.cache_clear()


@pytest.mark.parametrize(
    ("changed", "seen"),
    [
        ("families/family.py", True),
        ("families/data/llama.json", True),
        ("records/plan.py", True),
        ("audit/run/job_runner.py", True),
        ("a_new_package/module.py", True),
        ("cli/application.py", False),
        ("report/page/html.py", False),
        ("audit/judge/gates.py", False),
    ],
)
def test_the_hash_is_that_of_all_that_can_change_a_figure(package: Path, changed: str, seen: bool):
    before = hashes.code_sha256()
    (package / changed).parent.mkdir(exist_ok=True)
    with (package / changed).open("a") as file:
        file.write("\n")
    hashes.code_sha256.cache_clear()
    assert (hashes.code_sha256() != before) is seen

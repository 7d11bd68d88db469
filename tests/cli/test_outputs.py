"""Where ``--json`` and ``--plot`` write: what stands there already is used, not replaced by something else."""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gatenorm.cli import main
from tests.command_line import refused

TinyModels = Callable[..., Path]


def heard(fifo: Path, *arguments: object) -> bytes:
    """What a reader of ``fifo`` gets while a command runs, which must succeed."""
    got: list[bytes] = []
    os.mkfifo(fifo)
    reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()), daemon=True)
    reader.start()
    assert main([str(a) for a in arguments]) == 0
    reader.join(20)
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    assert [path.name for path in fifo.parent.iterdir()] == [fifo.name]
    return got[0]


def test_a_fifo_is_written_into(tiny_models: TinyModels, tmp_path: Path):
    fifo = tmp_path / "fifo"
    found = heard(fifo, "score", tiny_models("llama-gqa"), "--json", fifo)
    assert json.loads(found)["schema"] == "gatenorm/scores/1"


def test_a_plot_goes_into_a_fifo_too(tiny_models: TinyModels, tmp_path: Path):
    pytest.importorskip("altair")
    fifo = tmp_path / "fifo.svg"
    assert b"<svg" in heard(fifo, "score", tiny_models("llama-gqa"), "--plot", fifo)


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_followed(there: bool, tiny_models: TinyModels, tmp_path: Path):
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real/scores.json", tmp_path / "scores.json"
    if there:
        real.write_text("old")
    link.symlink_to("real/scores.json")
    assert main(["score", str(tiny_models("llama-gqa")), "--json", str(link)]) == 0
    assert link.is_symlink()
    assert json.loads(real.read_text())["schema"] == "gatenorm/scores/1"
    assert [path.name for path in real.parent.iterdir()] == ["scores.json"]


def test_a_link_to_itself_or_into_nowhere_is_refused(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "astray").symlink_to("no/such/folder.json")
    for name in ("loop", "astray"):
        refused(capsys, "not-writable json", "score", tiny_models("llama-gqa"), "--json", tmp_path / name)

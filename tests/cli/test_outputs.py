"""Where ``--json`` and ``--plot`` write: what stands there already is used, not replaced by something else."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gatenorm import files
from gatenorm.cli import main
from gatenorm.errors import CheckpointError, OutputError
from gatenorm.files import new_directory, new_file, new_output, replacing, scratch_copy, write_json, write_text
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


@pytest.mark.parametrize(
    ("outputs", "field"),
    [
        (("--json", "x", "--csv", "x"), "csv"),
        (("--json", "x", "--csv", "./x"), "csv"),
        (("--csv", "x", "--json", "sub/../x"), "csv"),
        (("--json", "x", "--csv", "link"), "csv"),
        (("--json", "-", "--csv", "-"), "csv"),
        (("--json", "x.svg", "--plot", "x.svg"), "plot"),
    ],
)
def test_two_outputs_in_one_place_are_refused_before_any_work(
    outputs: tuple[str, ...],
    field: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to("x")
    refused(capsys, f"outputs-same {field}", "score", "no-such-model", *outputs)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "sub"]


def test_other_outputs_have_places_of_their_own_too(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """A new directory; a file that is read as the model; all figures of a command."""
    model, file = tiny_models("llama-gqa"), tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    refused(capsys, "outputs-same json", "prune", model, "--layers", 1, "-o", tmp_path / "a", "--json", tmp_path / "a")
    refused(capsys, "outputs-same json", "score", file, "--json", file)
    refused(capsys, "outputs-same selection", "compare", model, "--selection", "a.svg", "--plot", "a.svg")
    assert file.read_bytes() == b"GGUF"


@pytest.mark.parametrize(
    ("read", "field"),
    [
        (("prune", "MODEL", "--plan", "given", "-o", "new"), "json"),
        (("eval", "MODEL", "--data", "given"), "json"),
        (("eval", "MODEL", "--data", "perplexity=given"), "csv"),
        (("score", "MODEL", "--criterion", "cosine@given"), "plot"),
        (("score", "MODEL", "--criterion", "cosine", "--calibration", "given"), "json"),
        (("compare", "MODEL", "--criteria", "gate-norm,cosine@given"), "plot"),
        (("audit", "MODEL", "--config", "given"), "json"),
        (("audit", "MODEL", "--config", "given"), "write_config"),
    ],
)
@pytest.mark.parametrize("spelling", ["given", "./given", "link"])
def test_no_file_that_is_read_is_overwritten(
    read: tuple[str, ...],
    field: str,
    spelling: str,
    tiny_models: TinyModels,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "given").write_text("{}")
    (tmp_path / "link").symlink_to("given")
    model = str(tiny_models("llama-gqa"))
    arguments = [model if word == "MODEL" else word for word in read]
    refused(capsys, f"outputs-same {field}", *arguments, "--" + field.replace("_", "-"), spelling)
    assert (tmp_path / "given").read_text() == "{}"


def test_no_file_of_a_model_is_overwritten(tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Of the model, and of the one that it is compared with; a new file beside them is nobody's."""
    model = tmp_path / "model"
    shutil.copytree(tiny_models("llama-gqa"), model)
    before = (model / "config.json").read_bytes()
    (tmp_path / "link").symlink_to(model / "config.json")
    for place in (model / "config.json", tmp_path / "link", model / "sub" / ".." / "model.safetensors"):
        refused(capsys, "output-in-model json", "score", model, "--json", place)
    refused(capsys, "output-in-model csv", "eval", "demo", "--baseline", model, "--csv", model / "config.json")
    assert (model / "config.json").read_bytes() == before
    assert main(["score", str(model), "--json", str(model / "scores.json")]) == 0


def test_no_output_lies_inside_another_one(tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """It would replace a file of the model that was written a moment before."""
    out = tmp_path / "out"
    out.mkdir()
    prune = ("prune", tiny_models("llama-gqa"), "--layers", 1, "-o", out, "--json")
    refused(capsys, "outputs-nested json", *prune, out / "config.json")
    refused(capsys, "outputs-nested json", *prune, tmp_path / "sub" / ".." / "out" / "result.json")
    assert not any(out.iterdir())


def test_a_device_may_swallow_several(tiny_models: TinyModels):
    assert main(["score", str(tiny_models("llama-gqa")), "--json", os.devnull, "--csv", os.devnull]) == 0


@pytest.mark.parametrize(
    ("expected", "arguments"),
    [
        ("option-empty model", ("score", "")),
        ("option-empty model", ("bench", "demo", "")),
        ("not-writable json", ("score", "demo", "--json", "")),
        ("not-writable csv", ("score", "demo", "--csv", "")),
        ("option-value plot", ("score", "demo", "--plot", "")),
        ("option-value out", ("prune", "demo", "--layers", "1", "-o", "")),
        ("option-value out", ("export", "demo", "--to", "gguf", "-o", "")),
        ("option-value out", ("audit", "-o", "")),
        ("option-value config", ("audit", "--config", "")),
        ("option-value exported", ("verify", "", "--against", "demo")),
        ("option-empty against", ("verify", "demo", "--against", "")),
        ("option-empty baseline", ("eval", "demo", "--baseline", "")),
        ("option-empty data", ("eval", "demo", "--data", "")),
        ("data-missing data", ("eval", "demo", "--data", "perplexity=")),
        ("data-missing data", ("eval", "demo", "--data", "wikitext2=")),
    ],
)
def test_no_path_is_empty(expected: str, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]):
    """For pathlib an empty one is the working directory."""
    refused(capsys, expected, *arguments)


@pytest.mark.parametrize("begin", [new_file, new_directory, new_output, replacing])
def test_errors_name_the_output_and_no_temporary_place(begin: Callable[..., Any], tmp_path: Path):
    out = tmp_path / "out.json"
    with pytest.raises(CheckpointError) as caught, begin(out) as temporary:
        raise CheckpointError("damaged", f"and {temporary / 'config.json'}", given=temporary, hint=f"see {temporary}")
    assert caught.value.text() == f"{out} and {out / 'config.json'}; see {out}"
    assert list(tmp_path.iterdir()) == []


def test_errors_name_what_was_copied_and_not_its_copy(tmp_path: Path):
    source = tmp_path / "model.gguf"
    with pytest.raises(CheckpointError) as caught, scratch_copy(source, tmp_path / "near") as copy:
        raise CheckpointError("gguf-damaged", f"{copy} is damaged")
    assert caught.value.problem == f"{source} is damaged"


def test_a_file_within_a_new_directory_that_cannot_be_written_is_named_by_where_it_would_lie(tmp_path: Path):
    with pytest.raises(OutputError) as caught, new_directory(tmp_path / "out") as temporary:
        write_json(temporary / "missing" / "config.json", {})
    assert caught.value.code == "out-unwritable"
    assert str(tmp_path / "out/missing/config.json") in caught.value.text()
    assert ".partial-" not in caught.value.text()


KILLED = """
import os, signal, sys
from pathlib import Path
from gatenorm import files
with getattr(files, sys.argv[1])(Path(sys.argv[2])) as temporary:
    (temporary / "config.json" if temporary.is_dir() else temporary).write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("begin", ["replacing", "new_file", "new_directory"])
def test_what_a_killed_process_left_is_removed_by_the_next_with_that_output(begin: str, tmp_path: Path):
    """A minute later, and not what somebody still writes."""
    out = tmp_path / f"scores{'s' * 200}.json"
    killed = subprocess.run([sys.executable, "-c", KILLED, begin, str(out)], check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    with getattr(files, begin)(out) as temporary:  # too soon
        assert left in tmp_path.iterdir()
        os.utime(temporary.parent if temporary.parent != tmp_path else temporary, (0, 0))
        os.utime(left, (0, 0))
        write_text(out, "whole")
        assert [path for path in tmp_path.iterdir() if path not in (left, out)], "what is still written"
        assert left not in tmp_path.iterdir()
        out.unlink()
        (temporary / "config.json" if temporary.is_dir() else temporary).write_text("later")
    assert list(tmp_path.iterdir()) == [out]

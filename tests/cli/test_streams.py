"""Streams that are closed, full, narrow or obeyed: the output goes where it can, and no name is a command."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from gatenorm.cli import console, main, table_layout
from gatenorm.cli.tables import table
from gatenorm.errors import GatenormError
from tests.command_line import answer

TinyModels = Callable[..., Path]
ESCAPES = "\x1b]0;owned\x07\x9b31m\u202e\ud800\n# heading"


class Output(io.TextIOWrapper):
    """A stream of that encoding, whose bytes end up in ``bytes``."""

    def __init__(self, encoding: str, target: Any = None):
        self.bytes = target or io.BytesIO()
        super().__init__(self.bytes, encoding=encoding)


class Closed(io.RawIOBase):
    def __init__(self, error: type[OSError], number: int):
        self.error, self.number = error, number

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        raise self.error(self.number, os.strerror(self.number))

    def fileno(self) -> int:
        return os.open(os.devnull, os.O_WRONLY)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_result_is_shown_on_any_terminal(encoding: str, monkeypatch: pytest.MonkeyPatch):
    out = Output(encoding)
    monkeypatch.setattr(sys, "stdout", out)
    assert main(["score", "demo"]) == 0
    assert b"weakest first: 13, 15" in out.bytes.getvalue()


def test_a_closed_stdout_is_no_failure(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["--version"]) == 0
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["score", "nowhere/at/all"]) == 2


def on_its_own(*arguments: str, **streams: Any) -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own, whose streams keep what they could not write."""
    code = "import sys; from gatenorm.cli import main; sys.exit(main(sys.argv[1:]))"
    settings = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run([sys.executable, "-c", code, *arguments], check=False, env=settings, **streams)


def test_a_reader_that_is_gone_is_no_failure_on_the_way_out_either():
    """Python writes once more when it ends, and has a status of its own for that."""
    reader, writer = os.pipe()
    os.close(reader)
    ended = on_its_own("--version", stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="it needs /dev/full")
def test_an_error_that_cannot_be_shown_keeps_its_status():
    """Another one would be a difference, to `verify`; so Python must not fail on its way out either."""
    with Path("/dev/full").open("wb") as full:
        assert on_its_own("score", "/nonexist", stderr=full).returncode == 2


def test_a_reader_that_has_seen_enough_is_no_failure(monkeypatch: pytest.MonkeyPatch):
    for command in (["score", "demo"], ["score", "demo", "--json", "-"], ["--help"]):
        monkeypatch.setattr(sys, "stdout", Output("utf-8", io.BufferedWriter(Closed(BrokenPipeError, 32))))
        assert main(command) == 0


def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(sys, "stdout", Output("utf-8", io.BufferedWriter(Closed(OSError, 28))))
    assert main(["score", "demo"]) == 2
    assert capsys.readouterr().err == "error: No space left on device\n"


def test_no_name_reaches_the_terminal_as_a_command(tiny_models: TinyModels, tmp_path: Path, capsys: Any):
    from rich.table import Table

    name = "\x1b[31mred\x9b[red]"
    model = shutil.copytree(tiny_models("llama-gqa"), tmp_path / name)
    (model / f"{name}.txt").symlink_to("/etc/passwd")
    config = json.loads((model / "config.json").read_text())
    for command in (["score", model], ["prune", model, "--drop", 1, "-o", tmp_path / "out"], ["inspect", model]):
        found = answer(capsys, *command)
        assert found.status == 0
        assert not {"\x1b", "\x9b"} & {*found.out, *found.err}
    (model / "config.json").write_text(json.dumps({**config, "rope_parameters": {"rope_type": ESCAPES[:-12]}}))
    found = answer(capsys, "score", model, "--criterion", "gate-norm-rope")
    assert "\x1b" not in found.err
    found = answer(capsys, "score", tmp_path / f"{name}.gone")
    assert "?[31mred?[red].gone does not exist" in found.err
    rows = Table(title=ESCAPES)
    rows.add_column(ESCAPES)
    rows.add_row(ESCAPES)
    console.print_table(rows)
    for write in (console.say, console.note, console.warn):
        write(ESCAPES)
    console.write_json("-", {"name": ESCAPES})
    console.write_csv("-", [{"name": ESCAPES}])
    shown = "".join(capsys.readouterr())
    assert not {"\x1b", "\x9b", "\x07", "\u202e", "\ud800"} & {*shown}


def test_no_name_in_a_bar_is_a_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The bar itself is drawn by commands."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(console, "shows_progress", lambda: True)
    with console.bar("loading", "name", name="") as update:
        update(name="\x1b]0;owned")
    shown = capsys.readouterr().err
    assert "?]0;owned" in shown
    assert "\x1b]0;owned" not in shown


def test_an_error_is_one_line_whatever_it_quotes():
    error = GatenormError("code", f"of {ESCAPES}", field="model", given=ESCAPES, expected=ESCAPES, hint=ESCAPES)
    assert error.text().isprintable()
    assert len(GatenormError("code", "x" * 10**6, given="y" * 10**6).text()) < 2000


@pytest.mark.parametrize(
    "options",
    [
        ["bench", "demo", "--threads", "99999999999999999999"],
        ["bench", "demo", "--rounds", "99999999999999999999"],
        ["score", "demo", "--seed", "9223372036854775808"],
        ["score", "demo", "--seed", "-1"],
        ["score", "demo", "--criterion", "cosine", "--calibration", "random", "--batch-size", "99999999999999999999"],
        ["eval", "demo", "--batch-size", "9" * 5000],
    ],
)
def test_numbers_that_nothing_can_hold_are_refused(options: list[str], capsys: pytest.CaptureFixture[str]):
    found = answer(capsys, *options)
    assert (found.status, found.err.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("wide", "kept"), [(200, ["model", "a word", "seconds"]), (24, ["model", "a word"]), (8, ["model"])]
)
def test_a_table_that_is_too_wide_loses_what_it_can_do_without(
    wide: int, kept: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gatenorm.cli.table_layout.stdout_console", lambda: Console(width=wide))
    rows = Table("model", "a word", "seconds")
    rows.add_row("x", "x", "x")
    table_layout.narrowed(rows, ("seconds", "a word"))
    assert [str(column.header).replace("\n", " ") for column in rows.columns] == kept


def test_numbers_stay_whole_where_texts_can_break(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("gatenorm.cli.table_layout.stdout_console", lambda: Console(width=46, file=sys.stdout))
    rows = table("", "model", ">achieved / ideal", ">speed-up")
    rows.add_row("a model with a long name of many words", "0.95", "1.10x (0.92 to 1.21)")
    console.print_table(rows)
    said = capsys.readouterr().out
    assert "1.10x (0.92 to 1.21)" in said
    assert "achieved" in said
    assert "words" in said
    assert max(map(len, said.splitlines())) <= 46
    # Where there is no room for them either, no digit is lost.
    rows = table("", *(f">{n}" for n in range(4)))
    rows.add_row(*["123456 (12345 to 1234567)"] * 4)
    console.print_table(rows)
    said = capsys.readouterr().out
    assert "…" not in said
    assert max(map(len, said.splitlines())) <= 46


def test_columns_of_a_kind_are_divided_among_tables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("gatenorm.cli.table_layout.stdout_console", lambda: Console(width=30, file=sys.stdout))

    def drawn(layers: Sequence[int]) -> Table:
        rows = table("layers", "criterion", *(f">{n}" for n in layers))
        rows.add_row("gate-norm", *("40" for _ in layers))
        return rows

    console.print_parts(drawn, range(7))
    said = capsys.readouterr().out
    assert said.count("gate-norm") == 3
    assert said.count("40") == 7
    assert "…" not in said

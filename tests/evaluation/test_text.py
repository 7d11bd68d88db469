"""Texts out of JSON-lines and parquet files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gatenorm.evaluation.core.text import documents, read_rows, read_text
from tests.errors import refused


def test_rows_of_json_lines_and_parquet_give_the_same_text(tmp_path: Path):
    import pyarrow
    import pyarrow.parquet

    rows = ["One story.\n", "Another one,\nof two lines.", "Ümläute"]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": r, "n": 1}) + "\n" for r in rows) + "\n")
    pyarrow.parquet.write_table(pyarrow.table({"text": rows, "n": [1, 2, 3]}), tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.parquet"):
        text = read_text(str(tmp_path / name))
        assert text.content == "\n\n".join(rows)
        assert "3 rows" in text.protocol
        assert documents(text, "rows") == rows
        assert documents(text, "rows", limit=2) == rows[:2]


def test_another_field_can_be_named(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"story": "Once."}\n')
    assert read_text(str(tmp_path / "a.jsonl"), "story").content == "Once."
    with refused("text-field-missing", "data"):
        read_text(str(tmp_path / "a.jsonl"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a"}\n{"text": \n', "data-not-json"),
        ('["text"]\n', "data-wrong"),
        ("\n\n", "data-empty"),
        ('{"text": ""}\n', "data-empty"),
    ],
)
def test_damaged_json_lines_are_named_by_line(content: str, message: str, tmp_path: Path):
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    with refused(message, "data"):
        read_text(str(path))


def test_damaged_parquet_files_get_one_line(tmp_path: Path):
    import pyarrow
    import pyarrow.parquet

    (tmp_path / "a.parquet").write_bytes(b"no parquet")
    with refused("data-unreadable", "data"):
        read_text(str(tmp_path / "a.parquet"))
    pyarrow.parquet.write_table(pyarrow.table({"n": [1]}), tmp_path / "b.parquet")
    with refused("text-field-missing", "data"):
        read_text(str(tmp_path / "b.parquet"))
    with refused("data-wrong", "data"):
        read_text(str(tmp_path / "b.parquet"), "n")


def test_line_numbers_count_empty_lines():
    rows = list(read_rows("x", Path("x"), b'\n{"a": 1}\n\n{"b": 2}\n'))
    assert rows == [(2, {"a": 1}), (4, {"b": 2})]


def test_half_a_surrogate_pair_is_named_by_line(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "whole"}\n{"text": "half \\ud800"}\n')
    with refused("data-not-json", "data") as error:
        read_text(str(path))
    assert "line 2" in error.value.problem


def test_what_is_no_regular_file_is_neither_waited_for_nor_read(tmp_path: Path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("fifo", "zero"):
        with refused("data-unreadable", "data"):
            read_text(str(tmp_path / name))


@pytest.mark.parametrize("opened", ["/dev/fd", "/proc/self/fd"])  # by bash, by zsh
def test_a_pipe_that_a_shell_opened_is_read(opened: str):
    reader, writer = os.pipe()
    os.write(writer, b"Once upon a time")
    os.close(writer)
    assert read_text(f"{opened}/{reader}").content == "Once upon a time"
    os.close(reader)

"""The directory as state: what lies there under a name is of what was asked for, or goes."""

from __future__ import annotations

from pathlib import Path

from gatenorm.audit.state import Origin, State


def test_what_was_made_of_something_else_goes_finished_or_not(tmp_path: Path):
    state = State(tmp_path)
    model, half = tmp_path / "recovered" / "x", tmp_path / "recovered" / "x.recovery-state"

    def left_by(made_of: Origin) -> None:
        state.keep_only("x", made_of, model, half)
        model.mkdir(parents=True, exist_ok=True)
        (model / "config.json").write_text("{}")
        half.write_text("half")

    first = Origin(job="two steps")
    left_by(first)
    state.keep_only("x", first, model, half)
    assert (model.exists(), half.exists()) == (True, True)
    # Another one takes its place and is stopped half-way: the same again goes on, the first begins anew.
    state.keep_only("x", Origin(job="three steps"), model, half)
    assert (model.exists(), half.exists()) == (False, False)
    half.write_text("half")
    state.keep_only("x", Origin(job="three steps"), model, half)
    assert half.exists()
    state.keep_only("x", first, model, half)
    assert not half.exists()


def test_an_origin_that_cannot_be_read_is_none(tmp_path: Path):
    state, out = State(tmp_path), tmp_path / "exports" / "x.gguf"
    state.keep_only("x.gguf", Origin(job="1"), out)
    out.parent.mkdir()
    out.write_bytes(b"GGUF")
    (tmp_path / "state/made/x.gguf.json").write_text("{")
    state.keep_only("x.gguf", Origin(job="1"), out)
    assert not out.exists()

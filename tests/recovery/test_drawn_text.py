"""Recovery on text that nobody owns: the packaged mixture, and what the unpruned model writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import gatenorm
from gatenorm.calibration.samples import Calibration, Sampling
from gatenorm.errors import RecoveryError
from gatenorm.evaluation.core.generic import documents
from gatenorm.models.loading import load_tokenizer
from gatenorm.recovery import drawn_text as module
from gatenorm.recovery.drawn_text import drawn_sources, drawn_text
from tests.errors import refused
from tests.recovery.conftest import SETTINGS, Place

WRITTEN = Calibration("self", samples=12, length=32)
HOW = {"device": "cpu", "dtype": "auto"}


def test_sources_are_told_from_texts():
    assert drawn_sources("generic") == ("generic",)
    assert drawn_sources("self,generic,self") == ("self", "generic")
    assert drawn_sources("train.txt") == drawn_sources("a,b.txt") == drawn_sources("hub:self") == ()
    for wrong, given in [("random", "random"), ("generic,mine.txt", "mine.txt")]:
        with refused("source-unusable", "held_out", RecoveryError) as error:
            drawn_sources(wrong, "held_out")
        assert error.value.given == given


def test_the_rows_are_documents_and_what_the_model_wrote(place: Place, monkeypatch: pytest.MonkeyPatch):
    dense = gatenorm.open_model(place.dense)
    both = drawn_text(("generic", "self"), dense, WRITTEN, **HOW)
    own = drawn_text(("self",), dense, WRITTEN, **HOW)
    mixture = [document.text for document in documents()]
    assert sorted(both.rows) == sorted((*mixture, *own.rows))
    assert list(both.rows) != [*mixture, *own.rows]
    assert (len(own.rows), own.name, both.name) == (12, "self", "generic,self")
    begin = load_tokenizer(place.dense).bos_token
    assert all(row.startswith(begin) for row in own.rows)  # special tokens are text, which the training reads back
    assert own.self_text is not None
    assert (own.self_text.beginning, own.self_text.temperature) == ("start token", 1.0)

    def draw(*_: Any) -> None:
        raise AssertionError("it was written before")

    with monkeypatch.context() as patch:
        patch.setattr(module, "draw", draw)
        assert drawn_text(("self",), dense, WRITTEN, **HOW) == own
    # What decides the tokens decides what is kept.
    for other in (replace(WRITTEN, seed=1), replace(WRITTEN, sampling=Sampling(temperature=0.5))):
        assert drawn_text(("self",), dense, other, **HOW).sha256 != own.sha256


def test_recovery_needs_nobody_s_data(place: Place, tmp_path: Path):
    how: dict[str, Any] = {"settings": SETTINGS, "parent": place.dense, "samples": 40}

    def killed(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    found = gatenorm.recover(place.pruned, tmp_path / "r", "generic,self", **how)
    with pytest.raises(KeyboardInterrupt):
        gatenorm.recover(place.pruned, tmp_path / "s", "generic,self", progress=killed, **how)
    gatenorm.recover(place.pruned, tmp_path / "s", "generic,self", **how)
    weights = "model.safetensors"
    assert (tmp_path / "s" / weights).read_bytes() == (tmp_path / "r" / weights).read_bytes()
    data = found.evidence.data
    assert (data.name, data.held_out.name) == ("generic,self", "the last 5% of generic,self")
    assert data.text.startswith(f"generic: {len(documents())} documents; self: 40 samples of 32 tokens")
    assert data.self_text is not None
    assert data.held_out.sha256 != data.sha256


def test_self_needs_the_model_that_writes_it(place: Place, tmp_path: Path):
    with refused("parent-missing", "parent", RecoveryError):
        gatenorm.recover(place.pruned, tmp_path / "r", "self", settings=SETTINGS)
    assert list(tmp_path.iterdir()) == []


def test_documents_that_are_trained_on_are_not_held_out(place: Place, tmp_path: Path):
    with refused("text-trained-on", "held_out", RecoveryError):
        gatenorm.recover(place.pruned, tmp_path / "r", "generic", settings=SETTINGS, held_out="generic")

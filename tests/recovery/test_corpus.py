from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gatenorm.errors import RecoveryError
from gatenorm.evaluation.core.text import Text
from gatenorm.models.loading import load_tokenizer
from gatenorm.records.recovery_settings import Settings
from gatenorm.recovery.corpus import Corpus, _cut, pack, read, split
from tests.errors import refused
from tests.recovery.conftest import SETTINGS, Place


def test_every_pass_shows_every_sequence_once_and_only_seed_and_number_decide():
    corpus = Corpus(np.arange(7, dtype=np.int32)[:, None], (), {})
    seen = corpus.rows(3, 0, 21)[:, 0].reshape(3, 7)
    assert all(sorted(one) == list(range(7)) for one in seen)
    assert len({tuple(one) for one in seen}) == 3
    assert (corpus.rows(3, 5, 4)[:, 0] == seen.flatten()[5:9]).all()
    assert (corpus.rows(4, 0, 21)[:, 0] != seen.flatten()).any()


def test_a_text_is_split_without_loss_and_without_overlap():
    content = "".join(f"line {n} of the text\n" for n in range(1000))
    train, watched = split(Text("t", content, "x", "plain"))
    assert train.content + watched.content == content
    assert 0.03 < len(watched.content) / len(content) <= 0.05
    assert watched.content.startswith("line ")
    rows = tuple(f"row {n}" for n in range(40))
    train, watched = split(Text("t", "\n\n".join(rows), "x", "rows", rows))
    assert train.rows + watched.rows == rows
    assert len(watched.rows) == 2
    with refused("text-too-short", "data", RecoveryError):
        split(Text("t", "a", "x", "rows", ("a",)))


def test_packing_keeps_the_text_and_takes_no_more_than_is_needed(place: Place):
    tokenizer = load_tokenizer(place.dense)
    text = read(str(place.text), SETTINGS, 32)
    train, watched = split(text)
    corpus = pack(tokenizer, train, watched, SETTINGS, 32, 602, 10_000)
    # One piece, since the text is short: the sequences are its tokens as they stand.
    ids = tokenizer(train.content)["input_ids"]
    assert corpus.train.flatten().tolist() == ids[: corpus.train.size]
    assert len(corpus.train) == len(ids) // 32
    assert len(corpus.held_out) == SETTINGS.watch_windows
    few = pack(tokenizer, train, watched, SETTINGS, 32, 602, 5)
    assert len(few.train) == 5
    rows = tuple(f"{line}." for line in train.content.split(".")[:60])
    ended = pack(tokenizer, Text("r", "", "", "", rows), watched, SETTINGS, 32, 602, 10_000)
    assert (ended.train == tokenizer.eos_token_id).sum() > 20


def test_sequences_begin_where_rows_begin(place: Place):
    tokenizer = load_tokenizer(place.dense)
    rows = tuple("Tom is in the garden ." + " He is here ." * n for n in (1, 20, 3, 2, 5, 40, 1, 1, 4, 8))
    cut = _cut(tokenizer, rows, tokenizer.eos_token_id, 32, None)
    starts = {tuple(tokenizer(row)["input_ids"][:3]) for row in rows}
    long = [n for n, row in enumerate(cut) if tuple(row[:3].tolist()) not in starts]
    # Only what goes on with a row that is longer than a sequence begins elsewhere.
    whole = [len(tokenizer(row)["input_ids"]) + 1 for row in rows]
    assert len(long) <= sum(n // 32 for n in whole)
    assert len(long) < len(cut)
    assert _cut(tokenizer, rows, tokenizer.eos_token_id, 32, 2).tolist() == cut[:2].tolist()
    short = _cut(tokenizer, rows[:1], tokenizer.eos_token_id, 32, None)
    assert short.shape == (0, 32)


def test_what_is_too_short_is_said(place: Place):
    tokenizer = load_tokenizer(place.dense)
    text = read(str(place.text), SETTINGS, 32)
    short = replace(text, content=text.content[:100])
    with refused("text-too-short", "data", RecoveryError):
        pack(tokenizer, short, text, SETTINGS, 32, 602, 10)
    with refused("text-too-short", "held_out", RecoveryError):
        pack(tokenizer, text, short, SETTINGS, 32, 602, 10)
    with refused("token-outside-vocabulary", kind=RecoveryError):
        pack(tokenizer, text, text, SETTINGS, 32, 20, 10)


def test_a_source_that_cannot_be_read_is_named(tmp_path: Path):
    with refused("data-missing", "data", RecoveryError):
        read("none.txt", Settings(), 32)
    with refused("data-missing", "data", RecoveryError):
        read("none.txt", Settings(), 32, called="held_out")
    pytest.importorskip("datasets")
    with refused("data-unreadable", "calibration", RecoveryError) as caught:
        read(f"hub:{tmp_path / 'none'}", Settings(), 32, called="other")
    assert caught.value.text().startswith(f"other hub:{tmp_path / 'none'} ")


def test_rows_of_a_data_set_are_documents_and_as_many_as_all_processes_use(tmp_path: Path):
    pytest.importorskip("datasets")
    folder = tmp_path / "set"
    folder.mkdir()
    words = [f"row {n} " + "word " * 200 for n in range(60)]
    (folder / "train.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in words))
    settings = Settings(steps=2, batch=2)
    one = read(f"hub:{folder}", settings, 32)
    assert list(one.rows) == words[: len(one.rows)]
    assert one.content == "\n\n".join(one.rows)
    three = read(f"hub:{folder}", settings, 32, processes=3)
    asked = settings.steps * settings.sequences * 32 * 12  # characters that are surely enough tokens
    assert sum(map(len, one.rows[:-1])) < asked <= len("".join(one.rows))
    assert sum(map(len, three.rows[:-1])) < 3 * asked <= len("".join(three.rows))
    train, watched = split(three)
    assert train.rows + watched.rows == three.rows

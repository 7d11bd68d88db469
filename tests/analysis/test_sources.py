"""Where tokens come from: seeded, bounded, and refused in one line where they say nothing."""

from __future__ import annotations

import copy
import json
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gatenorm.analysis.curve import evaluation_text
from gatenorm.calibration.samples import Calibration, Samples, batches
from gatenorm.calibration.sources import random_samples
from gatenorm.calibration.sources.self_text import opening_token, self_samples
from gatenorm.calibration.sources.text import text_samples
from gatenorm.criteria.session import ScoringSession
from gatenorm.demo.package import MODEL
from gatenorm.errors import CalibrationError, EvaluationError, GatenormError
from gatenorm.models.loading import load_tokenizer
from tests.analysis.models import layout_of, model_on
from tests.errors import refused
from tests.tiny_models import VOCABULARY, build

TinyModels = Callable[..., Path]
CONFIG = types.SimpleNamespace(vocab_size=50, max_position_embeddings=16, bos_token_id=None, eos_token_id=None)


class Words:
    """A tokenizer that reads numbers."""

    bos_token_id = None
    eos_token_id = 1
    pad_token_id = 0

    def __call__(self, texts: list[str], verbose: bool = True) -> dict[str, list[list[int]]]:
        return {"input_ids": [[int(word) for word in text.split()] for text in texts]}


def numbers(path: Path, ids: list[int], between: str = " ") -> str:
    path.write_text(between.join(map(str, ids)))
    return str(path)


def test_random_tokens_depend_on_the_seed_alone():
    given = Calibration("random", samples=3, length=8)
    first = random_samples(given, CONFIG, None)
    assert first == random_samples(given, CONFIG, None)
    # Python promises this sequence for ever: a change here would change every record that names a seed.
    assert first.sequences[0] == (42, 37, 21, 12, 25, 20, 39, 15)
    assert random_samples(Calibration("random", 3, 8, seed=1), CONFIG, None).sequences != first.sequences
    opened = random_samples(given, CONFIG, 7)
    assert all(s[0] == 7 and len(s) == 8 for s in opened.sequences)
    assert (first.tokens, first.predicted) == (24, 21)
    assert first.protocol.tokens == 24


@pytest.mark.parametrize("name", ["llama-gqa", "gpt2", "falcon-alibi", "gemma2", "opt"])
def test_self_sampling_is_deterministic_and_the_model_s_own(name: str):
    model, given = copy.deepcopy(build(name)), Calibration("self", samples=3, length=10, batch_size=2)
    model.config.bos_token_id = None  # every sample begins with another token
    steps: list[tuple[int, int]] = []
    first = self_samples(given, model, None, lambda done, total: steps.append((done, total)))
    assert first.sequences == self_samples(given, model, None).sequences
    assert [len(s) for s in first.sequences] == [10, 10, 10]
    assert first.sequences != self_samples(Calibration("self", 3, 10, seed=1, batch_size=2), model, None).sequences
    assert steps[-1] == (30, 30)
    # Rows of a batch take turns with one generator, so its size decides what is drawn, and is on record.
    assert first.protocol.batch_size == 2
    together = self_samples(Calibration("self", samples=3, length=10), model, None)
    assert together.protocol.batch_size == 16
    assert together.sequences != first.sequences
    # The draw without a cache: the same uniform numbers turn the same probabilities into the same tokens.
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(VOCABULARY, (2, 1), generator=generator)
    for _ in range(9):
        with torch.no_grad():
            chances = model(drawn, use_cache=False).logits[:, -1].softmax(-1)
        drawn = torch.cat([drawn, torch.multinomial(chances, 1, generator=generator)], 1)
    assert [tuple(row) for row in drawn.tolist()] == list(first.sequences[:2])


def test_text_is_cut_from_the_front(tmp_path: Path):
    given = Calibration(numbers(tmp_path / "text.txt", list(range(2, 40))), samples=2, length=8)
    found = text_samples(given, Words(), CONFIG)  # type: ignore[arg-type]
    assert found.sequences == (tuple(range(2, 10)), tuple(range(10, 18)))
    assert found.protocol.data is not None
    assert found.protocol.data.name == "text.txt"
    assert text_samples(Calibration(given.source, 99, 8), Words(), CONFIG).protocol.samples == 4  # type: ignore[arg-type]


def test_a_large_text_is_not_tokenised_whole(tmp_path: Path):
    read: list[int] = []

    class Counting(Words):
        def __call__(self, texts: list[str], verbose: bool = True) -> dict[str, list[list[int]]]:
            read.append(len(texts[0]))
            return super().__call__(texts, verbose)

    source = numbers(tmp_path / "text.txt", [7] * 50_000)
    found = text_samples(Calibration(source, 2, 8), Counting(), CONFIG)  # type: ignore[arg-type]
    assert found.protocol.samples == 2
    assert max(read) < 500
    assert found.protocol.data is not None
    assert found.protocol.data.characters == 99_999
    # Where the front does not hold enough tokens, the whole text is taken after all.
    source = numbers(tmp_path / "sparse.txt", list(range(2, 40)), between=" " * 60)
    assert text_samples(Calibration(source, 2, 8), Counting(), CONFIG).protocol.samples == 2  # type: ignore[arg-type]


def test_documents_are_samples_of_their_own_length(tmp_path: Path):
    path = tmp_path / "documents.txt"
    path.write_text("2 3 4 # 5 6 # 7 8 9 10 11")
    found = text_samples(Calibration(str(path), 9, 4, separator="#"), Words(), CONFIG)  # type: ignore[arg-type]
    assert found.sequences == ((2, 3, 4), (5, 6), (7, 8, 9, 10))


def test_a_data_set_is_read_row_by_row(tmp_path: Path):
    pytest.importorskip("datasets")
    folder = tmp_path / "set"
    folder.mkdir()
    rows = [{"text": " ".join(map(str, range(2, 20)))} for _ in range(50)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = text_samples(Calibration(f"hub:{folder}", 2, 8), Words(), CONFIG)  # type: ignore[arg-type]
    assert found.sequences == (tuple(range(2, 10)), tuple(range(10, 18)))
    assert found.protocol.text is not None
    assert "rows of the data set" in found.protocol.text.text
    documents = text_samples(Calibration(f"hub:{folder}", 3, 8, separator="rows"), Words(), CONFIG)  # type: ignore[arg-type]
    assert documents.sequences == (tuple(range(2, 10)),) * 3
    with refused("data-unreadable", "calibration", CalibrationError):
        text_samples(Calibration(f"hub:{tmp_path / 'none'}"), Words(), CONFIG)  # type: ignore[arg-type]
    (folder / "train.jsonl").write_text('{"words": "2 3"}\n')
    with refused("text-field-missing", "calibration", CalibrationError):
        text_samples(Calibration(f"hub:{folder}"), Words(), CONFIG)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ids", "given", "code", "field"),
    [
        ([2, 3], {"length": 8}, "text-too-short", "data"),
        ([2] * 7 + [50], {"length": 8}, "token-outside-vocabulary", ""),
        ([0] * 16, {"length": 8}, "only-padding", "calibration"),
        ([2] * 40, {"length": 32}, "window-too-long", "window"),
    ],
)
def test_text_that_says_nothing_is_refused(
    tmp_path: Path, ids: list[int], given: dict[str, Any], code: str, field: str
):
    source = numbers(tmp_path / "text.txt", ids)
    with refused(code, field, CalibrationError):
        text_samples(Calibration(source, **given), Words(), CONFIG)  # type: ignore[arg-type]


def test_numbers_that_make_no_calibration_are_refused():
    for wrong, field in [
        ({"samples": 0}, "samples"),
        ({"length": 1}, "length"),
        ({"separator": "#"}, "documents"),
        ({"separator": ""}, "documents"),
    ]:
        with pytest.raises(CalibrationError) as error:
            Calibration("random", **wrong)
        assert error.value.field == field
    with refused("length-too-long", "length", CalibrationError):
        random_samples(Calibration("random"), CONFIG, None)


def test_batches_keep_like_lengths_together():
    given = Samples(((1,) * 300, (1,) * 2000, (1,) * 1500))
    assert [[len(s) for s in batch] for batch in batches(given)] == [[2000, 1500], [300]]


def test_texts_begin_as_the_tokenizer_begins_them(tiny_models: TinyModels):
    tokenizer = load_tokenizer(MODEL.checked_directory())
    config = types.SimpleNamespace(vocab_size=50, bos_token_id=0, eos_token_id=0)
    assert opening_token(tokenizer, config) == 0  # the same token ends its texts
    config.eos_token_id = 2
    assert opening_token(None, config) is None
    assert opening_token(None, types.SimpleNamespace(vocab_size=50, bos_token_id=3, eos_token_id=[2, 3])) == 3


def test_what_cannot_be_had_is_said_before_a_weight_is_loaded(tiny_models: TinyModels):
    model = model_on(layout_of(tiny_models("llama-gqa")))
    whole, apart = ScoringSession(model), ScoringSession(model, layer_by_layer=True)
    for session, name, source, field in [
        (whole, "gate-norm", "self", "calibration"),
        (whole, "cosine", "text.txt", "calibration"),
        (apart, "cosine", "self", "layer_by_layer"),
        (apart, "leave-one-out", "random", "layer_by_layer"),
        (whole, "cosine", "random", "length"),
    ]:
        with pytest.raises(GatenormError) as error:
            session.prepare(name, Calibration(source))
        assert error.value.field == field
        assert not session.model.loaded


def test_errors_name_the_calibration_that_the_text_is_for(tmp_path: Path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"story": "once"}\n')
    for source, code in [(str(rows), "text-field-missing"), ("none.txt", "data-missing")]:
        with refused(code, kind=CalibrationError, field="data") as error:
            text_samples(Calibration(source), Words(), CONFIG)  # type: ignore[arg-type]
        assert str(error.value).startswith(f"calibration {source}")
        with refused(code, "data", EvaluationError):
            evaluation_text(source)

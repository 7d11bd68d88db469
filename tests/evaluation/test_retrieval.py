"""Retrieval: where the facts stand, what is asked, and scores against plain likelihoods."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatenorm import api
from gatenorm.evaluation.core.job import TaskOptions
from gatenorm.evaluation.tasks.retrieval import DEPTHS, lengths_up_to, prepare, question, retrieve, words
from gatenorm.models.model import Model
from tests.errors import refused
from tests.evaluation.subjects import log_probabilities


@pytest.fixture(scope="module")
def subject(shared: Path) -> Model:
    return Model.of_layout(api.open_model(shared / "models/stories3M"))


def test_words_can_be_told_apart():
    said = words()
    for kind in ("names", "things", "colours", "places"):
        assert len(set(said[kind])) == len(said[kind]) >= 8
    filler = " ".join(said["filler"])
    assert not any(name in filler for name in said["names"])


@pytest.mark.shared
@pytest.mark.parametrize("form", ["one", "two"])
@pytest.mark.parametrize("length", [128, 512])
def test_facts_stand_where_the_protocol_says(form: str, length: int, subject: Model):
    for depth in DEPTHS:
        asked = question(subject, form, length, depth, 3)
        assert asked == question(subject, form, length, depth, 3)
        text = subject.tokenizer.decode(asked.prompt, skip_special_tokens=True)
        assert len(asked.prompt) + max(map(len, asked.candidates)) <= length
        assert len(asked.prompt) > length - 32
        options = [subject.tokenizer.decode(c).strip() for c in asked.candidates]
        assert len(set(options)) == 4
        # Every candidate's place was mentioned, so having seen it is not enough.
        assert all(f"the {option}." in text for option in options)
        answer = options[asked.answer]
        query = text.rsplit(". ", 1)[1]
        if form == "one":
            fact = f"{query} {answer}."
            assert text.count(fact) == 1
        else:
            name = query.split()[3]
            colour = text.split(f"{name} has the ")[1].split()[0]
            assert f"The {colour} box is in the {answer}." in text
            fact = f"{name} has the {colour} box."
        assert text.index(fact) / len(text) == pytest.approx(depth, abs=0.2 if length > 200 else 0.45)


@pytest.mark.shared
def test_the_right_place_is_at_every_index(subject: Model):
    assert {question(subject, "one", 128, 0.5, n).answer for n in range(24)} == {0, 1, 2, 3}


@pytest.mark.shared
def test_scores_are_those_of_a_plain_reckoning(subject: Model):
    found = retrieve(subject, "one", [128], 2)
    assert found.numbers()["items"] == len(DEPTHS) * 2
    for item, (depth, number) in zip(found.items, [(d, n) for d in DEPTHS for n in range(2)], strict=True):
        asked = question(subject, "one", 128, depth, number)
        logs, exact = [], []
        for candidate in asked.candidates:
            rows = log_probabilities(subject.module, [*asked.prompt, *candidate])[len(asked.prompt) - 1 : -1]
            logs.append(sum(float(row[token]) for row, token in zip(rows, candidate, strict=True)))
            exact.append(rows.argmax(-1).tolist() == list(candidate))
        wrong = max(value for n, value in enumerate(logs) if n != asked.answer)
        assert item.metrics["margin"] == pytest.approx(logs[asked.answer] - wrong, abs=1e-3)
        assert item.metrics["choice"] == float(logs[asked.answer] > wrong)
        assert item.metrics["greedy"] == float(exact[asked.answer])
    cells = [cell.choice for cell in found.cells if cell.length == 128]
    assert found.numbers()["choice"] == pytest.approx(sum(cells) / len(cells))


def test_lengths_double_up_to_the_limit():
    assert lengths_up_to(4096) == [512, 1024, 2048, 4096]
    assert lengths_up_to(256) == [128, 256]
    with refused("window-too-short", "window"):
        lengths_up_to(64)


def test_a_text_brings_loss_by_position_along(tmp_path: Path):
    text = tmp_path / "t.txt"
    text.write_text("Once upon a time.")
    assert [j.title for j in prepare(TaskOptions(context=256))] == ["retrieval, one hop", "retrieval, two hop"]
    assert [j.kind for j in prepare(TaskOptions(context=256, data=str(text)))][-1] == "positions"

"""Text that a model writes itself: both sides of a chat, how tokens are drawn, and whether it is text."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

import gatenorm
from gatenorm.calibration.samples import Calibration, Sampling
from gatenorm.calibration.sources.chat_turns import ChatTurns, chat_turns
from gatenorm.calibration.sources.self_text import _chances, _Speaker, self_samples
from gatenorm.calibration.sources.text_figures import text_figures
from gatenorm.demo.package import MODEL
from gatenorm.errors import CalibrationError
from gatenorm.models.loading import load_tokenizer
from gatenorm.records import from_json, to_json
from gatenorm.records.self_text import SelfText, TextFigures
from tests.errors import refused
from tests.tiny_models import build

# The demo's one special token is 0.
TEMPLATE = (
    "A. {% for m in messages %}{{ m['role'] == 'user' and 'Tom' or 'Ida' }} {{ m['content'] }}<|endoftext|>{% endfor %}"
)


@pytest.fixture
def tokenizer() -> Any:
    found = load_tokenizer(MODEL.checked_directory())
    found.chat_template = TEMPLATE
    return found


def test_a_template_is_cut_where_speakers_take_turns(tokenizer: Any):
    turns = chat_turns(tokenizer)
    assert turns is not None

    def ids(text: str) -> tuple[int, ...]:
        return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])

    assert turns == ChatTurns(ids("A. Tom "), ids("<|endoftext|>Ida "), ids("<|endoftext|>Tom "), frozenset({0}))
    assert turns.to_assistant[0] == turns.to_user[0] == 0


@pytest.mark.parametrize(
    "template",
    [
        None,
        "{{ raise_exception('no') }}",
        "{{ messages.__class__.__mro__[1].__subclasses__() }}",  # what the sandbox forbids
        "{% for m in messages %}x{{ m['content'] }}{{ m['content'] }}{% endfor %}",
        "{% for m in messages %}x{{ m['content'][:3] }}{% endfor %}",
        "{% for m in messages %}{{ m['content'] }}{% endfor %}",  # nothing says who speaks
        "{{ nothing.at.all }}",
        "{% for",
    ],
)
def test_a_template_that_does_not_say_what_is_said_is_none(tokenizer: Any, template: str | None):
    tokenizer.chat_template = template
    assert chat_turns(tokenizer) is None
    assert chat_turns(None) is None


def test_the_template_speaks_between_turns_and_every_turn_says_something():
    speaker = _Speaker(ChatTurns((7,), (1, 8, 9), (2, 6), frozenset({1, 2})))
    drawn = [30, 31, 2, 40, 41, 32, 1, 50, 33]
    assert speaker.begins
    said = []
    for token in drawn:
        said.append((speaker.said(token), speaker.begins))
    # A special token ends a turn, whichever it is; what was drawn while the template speaks is dropped.
    assert said == [
        (30, False),
        (31, False),
        (1, False),
        (8, False),
        (9, True),
        (32, False),
        (2, False),
        (6, True),
        (33, False),
    ]


def test_both_sides_of_a_chat_are_the_model_s(tokenizer: Any):
    model = gatenorm.load(MODEL.checked_directory())
    given = Calibration("self", samples=6, length=48)
    found = self_samples(given, model, tokenizer)
    turns = chat_turns(tokenizer)
    assert turns is not None
    for sequence in found.sequences:
        assert sequence[: len(turns.opening)] == turns.opening
        ends = [at for at, token in enumerate(sequence) if token == 0]
        for number, at in enumerate(ends):
            opening = (turns.to_user, turns.to_assistant)[number % 2 == 0]
            assert sequence[at : at + len(opening)] == opening[: len(sequence) - at]
            following = sequence[at + len(opening) : at + len(opening) + 1]
            assert following != (0,)
    assert found.protocol.self_text is not None
    assert found.protocol.self_text.beginning == "chat"
    bare = self_samples(Calibration("self", 6, 48, sampling=Sampling(chat=False)), model, tokenizer)
    assert bare.protocol.self_text is not None
    assert bare.protocol.self_text.beginning == "start token"
    assert {sequence[0] for sequence in bare.sequences} == {0}
    with refused("length-too-short", "length", CalibrationError):
        self_samples(Calibration("self", 1, len(turns.opening)), model, tokenizer)


def test_the_nucleus_is_the_smallest_set_that_holds_the_share():
    made = np.random.default_rng(0)
    logits = made.normal(0, 3, (6, 1000))
    logits[0] = 0.0  # flat: the nucleus is larger than what is looked at first
    for temperature, share in [(1.0, 0.9), (0.7, 0.5), (2.0, 0.999)]:
        found = _chances(torch.from_numpy(logits), Sampling(temperature, share)).numpy()
        for row, values in zip(found, logits, strict=True):
            p = np.exp(values / temperature - np.max(values / temperature))
            p /= p.sum()
            order = np.argsort(-p, kind="stable")
            size = int(np.searchsorted(np.cumsum(p[order]), share)) + 1
            assert (row > 0).sum() == size
            np.testing.assert_allclose(np.sort(row)[::-1][:size], p[order][:size], rtol=1e-5)


def test_the_loss_is_that_of_the_tokens_that_the_model_chose():
    model = copy.deepcopy(build("llama-gqa"))
    found = self_samples(Calibration("self", 3, 12, sampling=Sampling(0.5)), model, None)
    assert found.protocol.self_text is not None
    ids = torch.tensor(found.sequences)
    with torch.no_grad():
        losses = torch.nn.functional.cross_entropy(model(ids).logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    assert found.protocol.self_text.seen.nll == pytest.approx(float(losses), rel=1e-4)
    assert found.protocol.self_text.generic is None
    assert from_json(SelfText, to_json(found.protocol.self_text), "a text") == found.protocol.self_text


def test_figures_of_a_text():
    loop, text = [1, 2] * 8, list(range(16))
    assert text_figures([text], 1.5) == TextFigures(nll=1.5, repeated=0.0, distinct=1.0)
    # Of 13 runs of four tokens two are different.
    assert text_figures([loop], 0.1) == TextFigures(nll=0.1, repeated=1 - 2 / 13, distinct=2 / 16)
    assert text_figures([[1, 2]], 0.0).repeated == 0.0
    both = text_figures([loop, text], 0.0)
    assert both.repeated == pytest.approx((1 - 2 / 13) / 2)


def test_gibberish_is_named():
    def said(nll: float, repeated: float, generic: float | None = 3.4) -> str:
        other = None if generic is None else TextFigures(nll=generic, repeated=0.1, distinct=0.5)
        seen = TextFigures(nll=nll, repeated=repeated, distinct=0.5)
        return SelfText(beginning="chat", temperature=1.0, top_p=1.0, seen=seen, generic=other).gibberish

    assert said(2.8, 0.03) == said(9.0, 0.03, None) == ""
    assert "95% of its runs of four tokens are repetitions" in said(0.2, 0.95)
    assert "its loss is 5.20 nats a token, that of ordinary text 3.40; use generic text" in said(5.2, 0.01)


def test_a_model_that_falls_into_loops_says_so():
    # As the built-in one does from its bare start token.
    scores = gatenorm.score("demo", "cosine", calibration=Calibration("self", 4, 128))
    assert any("repetitions" in note for note in scores.notes)
    assert scores.calibration is not None
    assert scores.calibration.self_text is not None
    assert scores.calibration.self_text.beginning == "start token"


def test_numbers_that_make_no_sampling_are_refused():
    for wrong, field in [({"temperature": 0.0}, "self_temperature"), ({"top_p": 1.5}, "self_top_p")]:
        with pytest.raises(CalibrationError) as error:
            Sampling(**wrong)
        assert error.value.field == field

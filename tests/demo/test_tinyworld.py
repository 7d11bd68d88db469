"""The generator: the same on every machine, probabilities that add up, worlds that stay apart."""

from __future__ import annotations

import hashlib
import math
from collections import Counter

import pytest

from gatenorm.demo import words
from gatenorm.demo.choices import Drawn, NotChosenError, Replayed
from gatenorm.demo.corpus import CONTEXT, row, train_tokenizer
from gatenorm.demo.reading import derivations
from gatenorm.demo.tasks import token_count
from gatenorm.demo.tinyworld import END, EVENTS_A_PART, QUESTIONS_A_PART, Story, move, source_of, story_of, tell

GOLDEN = "0c61cb618e13d04b14a2bae5358366c08054140685c1faaa05e49af11858ccd2"
GOLDEN_NATS = 173.05734037527014
GOLDEN_MANY = "7f9cdecdb1af5c04efaf339e91e0a194cf54df32c5e3f9b797317d66fe36c151"


def test_the_first_story_is_the_same_everywhere():
    story, nats = story_of("train", "golden", 0)
    assert hashlib.sha256(story.text.encode()).hexdigest() == GOLDEN
    assert nats == pytest.approx(GOLDEN_NATS, abs=1e-9)


def test_many_stories_are_the_same_everywhere():
    digest = hashlib.sha256()
    for split in ("train", "watch", "evaluation"):
        for number in range(50):
            digest.update(story_of(split, "golden", number)[0].text.encode())
    assert digest.hexdigest() == GOLDEN_MANY


def test_the_generator_of_numbers_is_splitmix64():
    """Against the published first outputs of splitmix64 with state 1234567 (Vigna's reference implementation)."""
    source = Drawn()
    source._state = 1234567
    outputs = [source.below(1 << 64) for _ in range(3)]
    assert outputs == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_choices_follow_their_weights():
    source = Drawn("weights")
    counts = Counter(source.choose("abc", (1, 2, 7)) for _ in range(20_000))
    for letter, share in zip("abc", (0.1, 0.2, 0.7), strict=True):
        assert counts[letter] / 20_000 == pytest.approx(share, abs=0.015)
    assert source.nats == pytest.approx(
        -sum(n * math.log(p) for n, p in zip((counts["a"], counts["b"], counts["c"]), (0.1, 0.2, 0.7), strict=True))
    )


@pytest.mark.parametrize("number", range(12))
def test_a_text_has_one_derivation_and_its_probability_is_the_recorded_one(number: int):
    """The probability is found again from the text alone, by trying every option at every choice."""
    story, nats = story_of(("train", "evaluation")[number % 2], "derivation", number)
    assert derivations(story.text) == [pytest.approx(nats, rel=1e-12)]


def test_a_text_that_the_generator_cannot_write_has_no_derivation():
    story, _ = story_of("train", "derivation", 0)
    person = story.people[0]
    home = f"{person} from {story.town[person]}"
    other = next(t for t in words.TOWNS if t not in story.town.values())
    assert derivations(story.text + " More.") == []
    assert derivations(story.text[:-2]) == []
    changed = story.text.replace(f"Where does {person} come from? A: {story.town[person]}", f"A: {other}", 1)
    assert changed == story.text or derivations(changed) == []
    assert len(derivations(story.text.replace(home, f"{person} from {other}", 1))) <= 1


def test_choices_and_texts_correspond_one_to_one():
    """Different choices never give the same text, seen at every first divergence along some stories."""
    source = Drawn("divergence")
    tell(source)
    for length in range(0, len(source.indices), 7):
        begun = list(source.indices[:length])
        texts = set()
        with pytest.raises(NotChosenError) as stop:
            tell(Replayed(begun))
        for option in range(len(stop.value.probabilities)):
            texts.add(_text_up_to([*begun, option]))
        assert len(texts) == len(stop.value.probabilities)
        assert sum(stop.value.probabilities) == pytest.approx(1)


def _text_up_to(indices: list[int]) -> str:
    """The text with the next choices always the first option, a few of them: enough to show the last index."""
    while True:
        try:
            return tell(Replayed(indices)).text
        except NotChosenError:
            indices = [*indices, 0]


def test_splits_share_no_world():
    worlds: dict[str, set[frozenset[str]]] = {}
    for split in ("train", "watch", "evaluation"):
        stories = [story_of(split, "worlds", number)[0] for number in range(400)]
        assert {story.world.split for story in stories} == {split}
        worlds[split] = {frozenset(s.world.people + s.world.places + s.world.things) for s in stories}
    assert not worlds["train"] & worlds["evaluation"]
    assert not worlds["train"] & worlds["watch"]
    assert not worlds["watch"] & worlds["evaluation"]


def test_the_split_depends_on_what_is_there_and_not_on_its_order():
    story, _ = story_of("evaluation", "order", 0)
    world = story.world
    turned = type(world)(world.people[::-1], world.places[1:] + world.places[:1], world.things[::-1])
    assert turned.split == world.split == "evaluation"


def test_rows_of_the_training_corpus_come_from_training_worlds_only():
    tokenizer = train_tokenizer(300)
    for number in range(20):
        ids = row(tokenizer, "train", number)
        assert len(ids) == CONTEXT
        assert ids == row(tokenizer, "train", number)
        texts = tokenizer.decode(ids).split(END)
        for text in texts[:-1]:
            people = tuple(p for p in words.PEOPLE if f" {p} from " in text)
            opening = text.split("\n")[0]
            places = tuple(p for p in words.PLACES if f"in the {p} with" in opening)
            things = tuple(t for t in words.THINGS if f"with the {t}." in opening)
            assert (len(people), len(places), len(things)) == (4, 4, 4)
            assert type(story_of("train", 0)[0].world)(people, places, things).split == "train"


def test_a_story_fits_the_context_and_its_state_is_its_text():
    longest = 0
    for number in range(300):
        story, nats = story_of("train", "length", number)
        longest = max(longest, token_count(story.text))
        parts = story.text.split("\n")
        assert len(parts) == story.parts + 1
        assert all(part.count("Q:") == QUESTIONS_A_PART for part in parts[1:])
        assert 20 < nats < 300
    assert 440 < longest < CONTEXT
    # The longest sentences there are: 78 tokens of opening, 5 parts of 8 + 3 x 14 + 3 x 12, the end.
    assert 78 + 5 * (8 + EVENTS_A_PART * 14 + QUESTIONS_A_PART * 12) + 1 < CONTEXT


def test_what_follows_is_no_choice():
    """An event changes the state as its sentence says, and where somebody leaves from costs no information."""
    source = source_of("train", "follows")
    story = Story(source)
    place, before = dict(story.place), source.nats
    story.event(move)
    who = next(p for p in story.people if story.place[p] != place[p])
    assert story.pieces[-1] == f" {who} went from the {place[who]} to the {story.place[who]}."
    assert source.nats - before == pytest.approx(math.log(4) + math.log(3))


def test_grammar_of_amounts_and_people():
    assert words.counted(0, ("egg", "eggs")) == "no eggs"
    assert words.counted(1, ("egg", "eggs")) == "one egg"
    assert (words.be(0), words.be(1), words.be(2)) == ("are", "is", "are")
    assert (words.pronoun("Anna"), words.pronoun("Ben")) == ("She", "He")
    assert len(set(words.PEOPLE + words.TOWNS + words.PLACES + words.THINGS)) == 24 + 3 * 12

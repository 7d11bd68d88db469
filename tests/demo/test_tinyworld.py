"""The generator: the same on every machine, probabilities that add up, worlds that stay apart."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable

import pytest

from gatenorm.demo import words
from gatenorm.demo.sampler import Drawn
from gatenorm.demo.tinyworld import (
    CONTEXT,
    END,
    LONGEST,
    SENTENCES,
    Story,
    World,
    end,
    move,
    source_of,
    story_of,
    tell,
    token_count,
)
from tests.demo.parser import NotChosenError, Recorded, Replayed, derivations
from tests.demo.rows import row, train_tokenizer

GOLDEN = "44e84877a21e5b67ac58c6c09e5b67dd266e5e5c61a401c93a436ed9aa2b6d5d"
GOLDEN_NATS = 275.1407157356801
GOLDEN_MANY = "1c071ac2571f2c9c3b7c9657127f51f4b79f61698124129215570d51ab932313"


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


@pytest.mark.parametrize("number", range(8))
def test_a_text_has_one_derivation_and_its_probability_is_the_recorded_one(number: int):
    """The probability is found again from the text alone, by trying every option at every choice."""
    story, nats = story_of(("train", "evaluation")[number % 2], "derivation", number)
    assert derivations(story.text) == [pytest.approx(nats, rel=1e-12)]


def test_a_text_that_the_generator_cannot_write_has_no_derivation():
    story, _ = story_of("train", 3)
    person = story.people[0]
    told = f"Who is {person}? {person} {story.family[person]}."
    assert derivations(story.text + " More.") == []
    assert derivations(story.text[:-2]) == []
    assert len(derivations(f"{story.opening} {told}", whole=False)) == 1
    assert derivations(f"{story.opening} Who is {person}? {person} {story.family[story.people[1]]}.", whole=False) == []


def test_choices_and_texts_correspond_one_to_one():
    """Different choices never give the same text, seen at every first divergence along some stories."""
    source = Recorded("divergence")
    tell(source)
    for length in range(0, len(source.indices), 11):
        begun = source.indices[:length]
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
        stories = [Story(source_of(split, "worlds", number)) for number in range(400)]
        assert {story.world.split for story in stories} == {split}
        worlds[split] = {frozenset(s.world.people + s.world.towns + s.world.things) for s in stories}
    assert not worlds["train"] & worlds["evaluation"]
    assert not worlds["train"] & worlds["watch"]
    assert not worlds["watch"] & worlds["evaluation"]


def test_the_split_depends_on_what_is_there_and_not_on_its_order():
    world = story_of("evaluation", "order", 0)[0].world
    turned = World(world.people[::-1], world.towns[1:] + world.towns[:1], world.things[::-1])
    assert turned.split == world.split == "evaluation"


def test_rows_of_the_training_corpus_come_from_training_worlds_only():
    tokenizer = train_tokenizer(300)
    for number in range(20):
        ids = row(tokenizer, "train", number)
        assert len(ids) == CONTEXT
        assert ids == row(tokenizer, "train", number)
        assert ids[:129] == row(tokenizer, "train", number, 129)
        for text in tokenizer.decode(ids).split(END)[:-1]:
            world = world_of(text)
            assert tuple(map(len, (world.people, world.towns, world.things))) == (4, 4, 3)
            assert world.split == "train"


def world_of(text: str) -> World:
    """The world of a story, read from its opening's sentences."""
    opening = text.split(" left.")[0]
    people = tuple(re.findall(r"came (\w+) \w+\.", opening))
    return World(people, tuple(re.findall(r"reached (\w+)\.", opening)), tuple(re.findall(r"The (\w+) is", opening)))


def test_a_story_fits_the_context_and_its_state_is_its_text():
    longest = 0
    for number in range(300):
        story, nats = story_of("train", "length", number)
        assert story.length == token_count(story.text)
        assert world_of(story.text) == story.world
        assert story.opening.endswith(" are left.")
        assert story.opening.count(".") == 4 + 4 + 3 + 1
        assert 40 < nats < 350
        longest = max(longest, story.length)
    assert 500 < longest < CONTEXT


@pytest.mark.parametrize("kind", [kind for kind in SENTENCES if kind is not end], ids=lambda kind: kind.__name__)
def test_no_sentence_is_longer_than_the_room_that_is_kept(kind: Callable[[Story], None]):
    source = source_of("train", "sentences")
    story = Story(source)
    for thing in story.world.things:
        story.holder[thing] = story.people[0]
    for _ in range(50):
        before = story.length
        kind(story)
        assert story.length - before <= LONGEST


def test_what_follows_is_no_choice():
    """An event changes the state as its sentence says, and where somebody leaves from costs no information."""
    source = source_of("train", "follows")
    story = Story(source)
    place, before = dict(story.place), source.nats
    move(story)
    who = next(p for p in story.people if story.place[p] != place[p])
    assert story.pieces[-1] == f" {who} left {place[who]}. {who} reached {story.place[who]}."
    assert source.nats - before == pytest.approx(math.log(4) + math.log(3))


def test_grammar_of_amounts_and_people():
    assert [words.be(n) for n in (0, 1, 2)] == ["are", "is", "are"]
    assert (words.pronoun("Anna"), words.pronoun("Ben")) == ("She", "He")
    named = words.PEOPLE + words.FAMILIES + words.TOWNS + words.THINGS + words.GOODS + words.NUMBERS + words.DEEDS
    assert len(set(named)) == len(named) == 16 + 16 + 12 + 12 + 8 + 13 + 8

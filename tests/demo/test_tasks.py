"""The tasks: one right answer each, balanced, at the distances they claim, in worlds that nobody trained on."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from gatenorm.demo import words
from gatenorm.demo.corpus import CONTEXT, train_tokenizer
from gatenorm.demo.reading import derivations
from gatenorm.demo.tasks import KINDS, Item, Kind, items, token_count
from gatenorm.demo.tinyworld import World

BY_NAME = {kind.name: kind for kind in KINDS}


def test_there_are_the_kinds_that_the_model_card_promises():
    assert {"recall-short", "recall-medium", "recall-long", "counting", "agreement", "ordering"} <= set(BY_NAME)
    assert {"refusal", "continuation"} <= set(BY_NAME)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_items_are_the_same_each_time_balanced_and_not_ambiguous(kind: Kind):
    asked = items(kind)
    assert asked == items(kind)
    assert len({item.prompt for item in asked}) == len(asked)
    for item in asked:
        assert len(set(item.candidates)) == len(item.candidates)
        assert 0 <= item.answer < len(item.candidates)
        assert item.candidates[item.answer].strip() == solved(item)
        assert token_count(item.prompt) < CONTEXT
        assert opening_world(item.prompt).split == "evaluation"
    places = Counter(item.answer for item in asked)
    assert max(places.values()) - min(places[n] for n in range(len(asked[0].candidates))) <= len(asked) // 8
    if len(asked[0].candidates) == 2:
        answers = Counter(item.candidates[item.answer] for item in asked)
        assert len(set(answers.values())) == 1, answers


def opening_world(prompt: str) -> World:
    opening = prompt.split("\n")[0]
    people = tuple(re.findall(r"(\w+) from ", opening.split(".")[1]))
    found = re.findall(r"stood in the (\w+) with the (\w+)\.", opening)
    return World(people, tuple(place for place, _ in found), tuple(thing for _, thing in found))


def solved(item: Item) -> str:
    """The answer, worked out from the prompt's sentences by a reader that shares no code with the generator."""
    prompt = item.prompt
    opening = prompt.split("\n")[0]
    homes = dict(re.findall(r"(\w+) from (\w+)", opening))
    people = list(homes)
    place = {who: where for who, where, _ in re.findall(r"(\w+) stood in the (\w+) with the (\w+)\.", opening)}
    holder = {thing: who for who, _, thing in re.findall(r"(\w+) stood in the (\w+) with the (\w+)\.", opening)}
    numbers = list(words.NUMBERS)
    left = numbers.index(re.findall(r"basket held (\w+) ", opening)[0])
    forbidden = re.findall(r"Nobody may take the (\w+)\.", opening)[0]
    said: dict[str, str] = {}
    for sentence in re.findall(r"[^.?]+[.?]", prompt.split("\n", 1)[1]):
        if moved := re.search(r"(\w+) went from the \w+ to the (\w+)\.", sentence):
            place[moved[1]] = moved[2]
        elif asked := re.search(r"For the (\w+), (\w+) asked (\w+)\.", sentence):
            assert holder[asked[1]] == asked[3]
            if asked[1] != forbidden:
                holder[asked[1]] = asked[2]
        elif changed := re.search(r"(took|added) (\w+) \w+\.", sentence):
            left += numbers.index(changed[2]) * (-1 if changed[1] == "took" else 1)
        elif spoken := re.search(r"(\w+) said the word (\w+)\.", sentence):
            said[spoken[1]] = spoken[2]
    end = prompt[-60:]
    if found := re.search(r"Where does (\w+) come from\? A:$", end):
        return homes[found[1]]
    if found := re.search(r"Who has the (\w+)\? A:$", end):
        return holder[found[1]]
    if found := re.search(r"Who came after (\w+)\? A:$", end):
        return people[people.index(found[1]) + 1]
    if found := re.search(r"Which word did (\w+) say\? A:$", end):
        return said[found[1]]
    if re.search(r" Now$", end):
        return numbers[left]
    if found := re.search(r" Now (\w+) (\w+)$", end):
        return "is" if found[1] == "one" else "are"
    if found := re.search(r"For the (\w+), \w+ asked (\w+)\.$", end):
        return "She" if found[2] in words.WOMEN else "He"
    if found := re.search(r"For the (\w+), \w+ asked \w+\. \w+ said:$", end):
        return "Forbidden" if found[1] == forbidden else "Yes"
    if found := re.search(r"(\w+) went from the$", end):
        return place[found[1]]
    raise AssertionError(f"no question is known in {end!r}")


def test_distances_are_what_the_kinds_say():
    for name, low, high in (("recall-short", 1, 150), ("recall-medium", 200, 330), ("recall-long", 400, CONTEXT)):
        for item in items(BY_NAME[name]):
            who = re.findall(r"Where does (\w+) come from\? A:$", item.prompt)[0]
            town = item.candidates[item.answer].strip()
            behind = item.prompt[
                max(item.prompt.rindex(f"{who} from {town}"), item.prompt.rfind(f"{who} come from? A: {town}")) :
            ]
            assert low <= token_count(behind) <= high
            assert abs((item.distance or 0) - token_count(behind)) <= 4


def test_only_the_right_candidate_goes_on_as_a_story_can():
    """Where a sentence follows that the generator writes whole, every wrong candidate makes an impossible story."""
    for item in items(BY_NAME["refusal"], 4):
        for number, candidate in enumerate(item.candidates):
            possible = can_begin(f"{item.prompt}{candidate}.")
            assert possible == (number == item.answer)


def can_begin(text: str) -> bool:
    return bool(derivations(text, whole=False))


def test_every_candidate_is_one_token():
    tokenizer = train_tokenizer(600)
    for kind in KINDS:
        for item in items(kind, 40):
            assert {len(tokenizer(c)["input_ids"]) for c in item.candidates} == {1}
            assert len(tokenizer(item.prompt)["input_ids"]) == token_count(item.prompt)

"""The tasks: one right answer each, balanced, at the distances they claim, in worlds that nobody trained on."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from gatenorm.demo import words
from gatenorm.demo.evaluation import ITEMS
from gatenorm.demo.tasks import ALL_KINDS, HARDER, Item, Kind, items
from gatenorm.demo.tinyworld import CAST, CONTEXT, PROPS, World, token_count
from tests.demo.parser import derivations
from tests.demo.rows import train_tokenizer

BY_NAME = {kind.name: kind for kind in ALL_KINDS}


def test_there_are_the_kinds_that_the_model_card_promises():
    assert {"recall-short", "recall-medium", "recall-long", "counting", "agreement", "ordering"} <= set(BY_NAME)
    assert {"refusal", "continuation"} <= set(BY_NAME)


@pytest.mark.parametrize("kind", ALL_KINDS, ids=lambda kind: kind.name)
def test_items_are_the_same_each_time_balanced_and_not_ambiguous(kind: Kind):
    asked = items(kind, ITEMS)
    assert asked == items.__wrapped__(kind, ITEMS)
    assert len({item.prompt for item in asked}) == len(asked)
    for item in asked:
        assert len(set(item.candidates)) == len(item.candidates)
        assert 0 <= item.answer < len(item.candidates)
        assert item.candidates[item.answer].strip() == solved(item)
        assert token_count(item.prompt) < CONTEXT
        if kind.name != "counting-things":  # stops in the opening
            assert opening_world(item.prompt).split == "evaluation"
    places = Counter(item.answer for item in asked)
    assert max(places.values()) - min(places[n] for n in range(len(asked[0].candidates))) <= len(asked) // 8
    if len(asked[0].candidates) == 2:
        answers = Counter(item.candidates[item.answer] for item in asked)
        assert len(set(answers.values())) == 1, answers


def opening_of(prompt: str) -> str:
    return prompt[: prompt.index(" left.") + len(" left.")]


def opening_world(prompt: str) -> World:
    opening = opening_of(prompt)
    people = tuple(re.findall(r"came (\w+) \w+\.", opening))
    return World(people, tuple(re.findall(r"reached (\w+)\.", opening)), tuple(re.findall(r"The (\w+) is", opening)))


def solved(item: Item) -> str:
    """The answer, worked out from the prompt's sentences by a reader that shares no code with the generator."""
    if item.kind == "counting-things":
        return "Now" if len(re.findall(r"The \w+ is", item.prompt)) == PROPS else "The"
    opening = opening_of(item.prompt)
    family = dict(re.findall(r"came (\w+) (\w+)\.", opening))
    people = list(family)
    rule = dict(re.findall(r"The (\w+) is (\w+)\.", opening))
    numbers = list(words.NUMBERS)
    left = numbers.index(re.findall(r"Now (\w+) \w+ are", opening)[0])
    place: dict[str, str] = {}
    holder: dict[str, str] = {}
    for sentence in re.findall(r"[^.?]+[.?]", item.prompt):
        if reached := re.search(r"The (\w+) reached (\w+)\.", sentence):
            holder[reached[1]] = reached[2]
        elif moved := re.search(r"(\w+) reached (\w+)\.", sentence):
            place[moved[1]] = moved[2]
        elif changed := re.search(r"(took|added) (\w+)\.", sentence):
            left += numbers.index(changed[2]) * (-1 if changed[1] == "took" else 1)
        elif given := re.search(r"The (\w+) left (\w+)\.", sentence):
            assert holder[given[1]] == given[2]
        elif went := re.search(r"(\w+) left (\w+)\.", sentence):
            assert place[went[1]] == went[2]
    end = item.prompt[-60:]
    if item.kind == "recall-cast":
        (known,) = [c.strip() for c in item.candidates if c.strip() in people]
        return known
    if re.search(r"asked for the (\w+)\. The \1$", end):
        return "is"
    if re.search(r"Who has the (\w+)\? The \1$", end):
        return "reached"
    if found := re.search(r"Who is (\w+)\? \1$", end):
        return family[found[1]]
    if found := re.search(r"Where is (\w+)\? \1 reached$", end):
        return place[found[1]]
    if found := re.search(r"Who has the (\w+)\? The \1 reached$", end):
        return holder[found[1]]
    if found := re.search(r"Who came after (\w+)\? After \1 came$", end):
        return people[people.index(found[1]) + 1]
    if re.search(r" Now$", end):
        return numbers[left]
    if found := re.search(r" Now (\w+)$", end):
        return "is" if found[1] == "one" else "are"
    if found := re.search(r"(\w+) \w+ met \w+ \w+\.$", end):
        return "She" if found[1] in words.WOMEN else "He"
    if found := re.search(r"asked for the (\w+)\. The \1 is$", end):
        return rule[found[1]]
    if found := re.search(r"(\w+) left$", end):
        return place[found[1]]
    raise AssertionError(f"no question is known in {end!r}")


def test_distances_are_what_the_kinds_say():
    for name, low, high in (("recall-short", 1, 150), ("recall-medium", 200, 330), ("recall-long", 400, CONTEXT)):
        for item in items(BY_NAME[name], ITEMS):
            who = item.prompt.split()[-1]
            fact = f"{who}{item.candidates[item.answer]}"
            assert item.distance == token_count(item.prompt[item.prompt.rindex(fact) :])
            assert low <= item.distance <= high


@pytest.mark.parametrize("kind", HARDER, ids=lambda kind: kind.name)
def test_harder_kinds_are_what_they_say(kind: Kind):
    for item in items(kind, 20):
        if kind.name != "counting-things":
            world = opening_world(item.prompt)
            assert (len(world.people), len(world.things)) == (kind.cast, kind.props)
        if kind.distance:
            assert item.distance is not None
            assert kind.distance[0] <= item.distance <= kind.distance[1]
        if "crowd" in kind.name:
            assert (kind.cast, kind.props) != (CAST, PROPS)
    # What goes beyond training is what the generator never writes.
    if kind.beyond:
        prompt = items(kind, 1)[0].prompt
        assert not derivations(prompt[: prompt.rindex(".") + 1], whole=False)


@pytest.mark.parametrize(
    "name", ["recall-short", "place", "possession", "counting", "ordering", "refusal", "agreement"]
)
def test_only_the_right_candidate_goes_on_as_a_story_can(name: str):
    """A story that goes on with a wrong candidate is one that the generator cannot write."""
    rest = {"ordering": " {}.", "counting": " {} left.", "agreement": " left."}.get(name, ".")
    for item in items(BY_NAME[name], 2):
        families = dict(re.findall(r"came (\w+) (\w+)\.", opening_of(item.prompt)))
        for number, candidate in enumerate(item.candidates):
            word = candidate.strip()
            end = rest.format(families.get(word) or words.be([*words.NUMBERS, word].index(word)))
            assert bool(derivations(item.prompt + candidate + end, whole=False)) == (number == item.answer)


def test_every_candidate_is_one_token():
    tokenizer = train_tokenizer(600)
    for kind in ALL_KINDS:
        for item in items(kind, 40):
            assert {len(tokenizer(c)["input_ids"]) for c in item.candidates} == {1}
            assert len(tokenizer(item.prompt)["input_ids"]) == token_count(item.prompt)

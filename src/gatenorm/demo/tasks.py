"""Multiple-choice tasks over the worlds that no model was trained on: a story so far, and what comes next.

Each item stops a story where one word follows from what was said, and offers that word among others that the same place
could hold. A model answers by the likelihood that it gives to each. Prompts and answers have exactly the form that the
stories have, so nothing but the state of the world has to be understood.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from gatenorm.demo import question_templates as templates, tinyworld
from gatenorm.demo.question_templates import Asked
from gatenorm.demo.sampler import Drawn
from gatenorm.demo.tinyworld import CAST, PROPS, SENTENCES, Story, source_of, token_count

SPLIT = "evaluation"


@dataclass(frozen=True)
class Item:
    """One question: which of ``candidates`` goes on from ``prompt``; ``answer`` is the right one's index.

    ``distance`` counts the tokens from the fact that decides to the end of the prompt, where one sentence decides.
    """

    kind: str
    prompt: str
    candidates: tuple[str, ...]
    answer: int
    distance: int | None = None

    @property
    def chance(self) -> float:
        return 1 / len(self.candidates)


@dataclass(frozen=True)
class Kind:
    """A kind of task.

    ``ask`` writes one more sentence and cuts it, or returns ``None`` where this story does not serve. ``told`` is how
    long the story before it is, in tokens, between a least and a most; ``distance`` the least and most allowed from the
    fact that decides; ``without`` the sentences that the story does without; ``cast`` and ``props`` how many people and
    things there are. ``beyond`` says in what the items go beyond all that the model was trained on; empty where they do
    not.
    """

    name: str
    asks: str
    ask: Callable[[Story, Drawn, int], Asked | None]
    told: tuple[int, int] = (70, 150)
    distance: tuple[int, int] | None = None
    without: tuple[Callable[[Story], None], ...] = ()
    cast: int = CAST
    props: int = PROPS
    beyond: str = ""


@cache
def items(kind: Kind, count: int) -> tuple[Item, ...]:
    """The first ``count`` items of a kind: always the same ones."""
    # Some kinds tell many stories for one that serves; a baseline is asked the same.
    return tuple(_item(kind, number) for number in range(count))


def _item(kind: Kind, number: int) -> Item:
    attempt = 0
    while True:
        asked = _asked(kind, number, attempt)
        attempt += 1
        if asked is None:
            continue
        distance = None if asked.fact is None else token_count(asked.prompt[asked.prompt.rindex(asked.fact) :])
        if kind.distance is None or kind.distance[0] <= (distance or 0) <= kind.distance[1]:
            candidates, place = list(asked.others), number // 4 % (len(asked.others) + 1)
            candidates.insert(place, asked.answer)
            return Item(kind.name, asked.prompt, tuple(f" {c}" for c in candidates), place, distance)


def _asked(kind: Kind, number: int, attempt: int) -> Asked | None:
    """A story told to some length, and what is asked there."""
    source = source_of(SPLIT, "task", kind.name, number, attempt, cast=kind.cast, props=kind.props)
    story = Story(source, kind.cast, kind.props)
    least, most = kind.told
    length = least + source.below(most - least)
    while story.length < length:
        possible = [s for s in tinyworld.possible(story) if s is not tinyworld.end and s not in kind.without]
        source.choose(possible, [SENTENCES[s] for s in possible])(story)
    return None if story.full else kind.ask(story, source, number)


# Nobody meets in the stories of recall: there family names would be said too often to lie far back.
_NO_MEETING = (tinyworld.meet,)
KINDS = (
    Kind(
        "recall-short", "somebody's family name, last said up to 150 tokens ago", templates.recall, (65, 140), (1, 150)
    ),
    Kind("recall-medium", "the same, 200 to 330 tokens ago", templates.recall, (230, 340), (200, 330), _NO_MEETING),
    Kind(
        "recall-long", "the same, 400 tokens ago or more, of 512", templates.recall, (420, 500), (400, 511), _NO_MEETING
    ),
    Kind("place", "which town somebody who has moved is in", templates.place),
    Kind("possession", "who has a thing that has changed hands", templates.possession),
    Kind("counting", "how many are left when some are taken or added", templates.counting),
    Kind("agreement", "is or are, he or she", templates.agreement),
    Kind("ordering", "who came next after somebody", templates.ordering),
    Kind("refusal", "whether a request is allowed or forbidden", templates.refusal),
    Kind("continuation", "which town somebody leaves", templates.continuation),
)


# Kinds for what a model loses that still solves the others. ``recall-cast``, ``refusal-form`` and ``counting-things``
# ask what a story keeps to without ever saying so: who is in it at all, what answers a request, how many things are
# named. They were found by looking at which words the loss of pruned versions of the built-in model rises. ``-far``
# asks for facts said once, hundreds of tokens ago, as training shows rarely; ``-crowd`` goes beyond it, with more
# people than any story has, and every record says so (``beyond``).
_LATE = (380, 490)

HARDER = (
    Kind("recall-cast", "who of these is in the story at all", templates.member),
    Kind("refusal-form", "what is said of a thing that was asked for, or asked about", templates.reply),
    Kind("counting-things", "whether all three things have been named", templates.enough, (1, 2)),
    Kind(
        "refusal-far", "allowed or forbidden, said 300 or more ago", templates.law, _LATE, (300, 511), (tinyworld.ask,)
    ),
    Kind(
        "ordering-crowd",
        "who came next among ten",
        templates.ordering,
        (200, 320),
        cast=10,
        beyond="ten people; every story has four",
    ),
)

ALL_KINDS = (*KINDS, *HARDER)

"""Harder kinds of tasks, for what a model loses that still solves the others: further back, more people, larger sums.

The first group (``-far``) asks what training shows as well, only rarely: a fact that was said once, hundreds of tokens
ago. The second (``-crowd``, ``counting-...``) goes beyond it: more people and things than any story has, several
changes before a number is said, larger changes. What a model makes of those is generalisation; ``beyond`` says so in
every record.
"""

from __future__ import annotations

from gatenorm.demo import asking
from gatenorm.demo import tinyworld as world
from gatenorm.demo.tasks import KINDS, Kind

_FAR, _LATE = (300, 511), (380, 490)
_TEN = "ten people; every story has four"

HARDER = (
    Kind("place-far", "which town, last said 300 tokens ago or more", asking.whereabouts, _LATE, _FAR, (world.where,)),
    Kind("possession-far", "who has it, last said 200 or more ago", asking.keeper, _LATE, (200, 511), (world.holder,)),
    Kind("ordering-far", "who came next, said 300 or more ago", asking.arrival, _LATE, _FAR, (world.after,)),
    Kind("refusal-far", "allowed or forbidden, said 300 or more ago", asking.law, _LATE, _FAR, (world.ask,)),
    Kind(
        "counting-far",
        "how many are left, last said 300 or more ago",
        asking.counting,
        _LATE,
        _FAR,
        (world.count, world.how_many),
    ),
    Kind("recall-crowd", "a family name among ten", asking.recall, (200, 320), cast=10, beyond=_TEN),
    Kind("place-crowd", "a town among ten", asking.whereabouts, (200, 320), cast=10, beyond=_TEN),
    Kind("ordering-crowd", "who came next among ten", asking.ordering, (200, 320), cast=10, beyond=_TEN),
    Kind(
        "possession-crowd",
        "who of ten has one of eight things",
        asking.keeper,
        (200, 320),
        cast=10,
        props=8,
        beyond="ten people and eight things; every story has four and three",
    ),
    Kind(
        "refusal-crowd",
        "which of twelve things are allowed",
        asking.refusal,
        (200, 320),
        props=12,
        beyond="twelve things; every story has three",
    ),
    Kind(
        "counting-twice",
        "how many are left after two changes",
        asking.counting_on(2),
        beyond="stories say the number after each change",
    ),
    Kind(
        "counting-large",
        "how many are left when four to six are taken or added",
        asking.counting_on(1, 6),
        beyond="stories change by three at most",
    ),
)

ALL_KINDS = (*KINDS, *HARDER)

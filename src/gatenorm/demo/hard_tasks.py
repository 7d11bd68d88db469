"""Further kinds of tasks, for what a model loses that still solves the others.

``recall-cast``, ``refusal-form`` and ``counting-things`` ask what a story keeps to without ever saying so: who is in it
at all, what answers a request, how many things are named. They were found by looking at which words the loss of pruned
versions of the built-in model rises. ``-far`` asks for facts said once, hundreds of tokens ago, as training shows
rarely; ``-crowd`` goes beyond it, with more people than any story has, and every record says so (``beyond``).
"""

from gatenorm.demo import question_templates as asking
from gatenorm.demo import tinyworld as world
from gatenorm.demo.tasks import KINDS, Kind

_LATE = (380, 490)

HARDER = (
    Kind("recall-cast", "who of these is in the story at all", asking.member),
    Kind("refusal-form", "what is said of a thing that was asked for, or asked about", asking.reply),
    Kind("counting-things", "whether all three things have been named", asking.enough, (1, 2)),
    Kind("refusal-far", "allowed or forbidden, said 300 or more ago", asking.law, _LATE, (300, 511), (world.ask,)),
    Kind(
        "ordering-crowd",
        "who came next among ten",
        asking.ordering,
        (200, 320),
        cast=10,
        beyond="ten people; every story has four",
    ),
)

ALL_KINDS = (*KINDS, *HARDER)

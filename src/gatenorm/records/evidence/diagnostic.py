"""Something seen that makes a ranking or a removal doubtful."""

from typing import Any

import msgspec

from gatenorm.records.serialization import Record


class Diagnostic(Record, frozen=True, kw_only=True, tag="gatenorm/warning/1"):
    """A doubt about a ranking or a removal: its ``kind``, a line for people, and what it rests on.

    ``evidence`` holds the figures that were compared, and the limits that they were compared with.
    """

    kind: str
    message: str
    evidence: dict[str, Any] = msgspec.field(default_factory=dict)

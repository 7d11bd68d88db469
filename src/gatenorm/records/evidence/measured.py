"""A number that somebody's own function makes of a model."""

from collections.abc import Mapping
from typing import ClassVar

from gatenorm.records.evidence.base import Evidence


class Measured(Evidence, frozen=True, kw_only=True, tag="gatenorm/measured/1"):
    """What the function ``name`` gave; what it says of a model is known to whoever wrote it."""

    comparable: ClassVar[bool] = False
    name: str
    value: float

    @property
    def task(self) -> str:
        return self.name

    @property
    def headline(self) -> str:
        """None: it is no share of right answers, whatever it is called."""
        return ""

    def numbers(self) -> Mapping[str, float]:
        return {self.name: self.value}

"""What :func:`gatenorm.prune` wrote: a record that says what is predicted of it, which records/ know nothing of."""

from collections.abc import Iterator

from gatenorm.records import Plan, Written
from gatenorm.records.table import Row
from gatenorm.speed.predict.cost_model import Forecast


class Pruned(Written, frozen=True, kw_only=True, tag="gatenorm/written-pruned/1"):
    """A model that was pruned, where it lies; its rows are the edits.

    Attributes:
        plan: what was carried out, with what was fitted.
        source_bytes: of the weights that it was pruned from.
        forecast: what the cost model predicts of it; ``None`` where the source is no whole model.
    """

    plan: Plan
    source_bytes: int
    forecast: Forecast | None = None

    def rows(self) -> Iterator[Row]:
        return self.plan.rows()

"""In this process, one order after the other; a model stays loaded for the orders that are about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gatenorm.audit.orders import Order, Result
from gatenorm.audit.work import Progress, carry_out, release


class LocalExecutor:
    """The default executor."""

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        release()

    def run(self, orders: Iterable[Order], progress: Progress | None = None) -> Iterator[tuple[Order, Result]]:
        """See :class:`gatenorm.audit.executors.Executor`."""
        for order in orders:
            yield order, carry_out(order, progress)

"""When gatenorm itself talks to a hub: over HTTP alone, and every answer is looked through."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock


class Transfers:
    """The blocks, of all threads, in which files come from a hub to gatenorm.

    A hub says by whom a xet download is served, and where the user's token goes for it; and the package that downloads
    has a client of its own. No request has an option for that, only huggingface_hub as a whole: so its switch is off
    while a block is open. What the process does outside of them is as the user has set it.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._blocks = 0
        self._before = False

    @property
    def going_on(self) -> bool:
        return self._blocks > 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """A block in which huggingface_hub fetches nothing over xet, and its answers are checked."""
        from huggingface_hub import constants

        with self._lock:
            if not self._blocks:
                self._before = constants.HF_HUB_DISABLE_XET
            self._blocks += 1
            constants.HF_HUB_DISABLE_XET = True
        try:
            yield
        finally:
            with self._lock:
                self._blocks -= 1
                if not self._blocks:
                    constants.HF_HUB_DISABLE_XET = self._before


# One, as huggingface_hub has one switch and one client in a process, whose threads inherit no context.
TRANSFERS = Transfers()

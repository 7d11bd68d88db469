"""How files of the hub come here: over HTTP alone, where every answer is looked through."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock


class XetSwitch:
    """The one switch that huggingface_hub has for xet, which is off while any block of any thread needs it off.

    A hub says by whom a xet download is served, and where the user's token goes for it; and the package that downloads
    has a client of its own. No request has an option for that, so the switch is set, counting the blocks that are open:
    what the process does outside of them is as the user has set it.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._open = 0
        self._before = False

    @contextmanager
    def off(self) -> Iterator[None]:
        """Have huggingface_hub fetch nothing over xet in the block."""
        from huggingface_hub import constants

        with self._lock:
            if not self._open:
                self._before = constants.HF_HUB_DISABLE_XET
            self._open += 1
            constants.HF_HUB_DISABLE_XET = True
        try:
            yield
        finally:
            with self._lock:
                self._open -= 1
                if not self._open:
                    constants.HF_HUB_DISABLE_XET = self._before


# One, as there is one such switch in a process.
XET = XetSwitch()

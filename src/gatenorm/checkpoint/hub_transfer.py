"""How files of the hub come here: over HTTP alone, where every answer is looked through."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

_lock = Lock()
_blocks = 0
_before = False


@contextmanager
def without_xet() -> Iterator[None]:
    """Have huggingface_hub fetch nothing over xet in the block.

    A hub says by whom a xet download is served, and where the user's token goes for it; and the package that downloads
    has a client of its own. What the process does outside of such blocks is as the user has set it.
    """
    global _blocks, _before
    from huggingface_hub import constants

    with _lock:
        if not _blocks:
            _before = constants.HF_HUB_DISABLE_XET
        _blocks += 1
        constants.HF_HUB_DISABLE_XET = True
    try:
        yield
    finally:
        with _lock:
            _blocks -= 1
            if not _blocks:
                constants.HF_HUB_DISABLE_XET = _before

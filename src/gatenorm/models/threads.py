"""How many threads of the processor compute."""

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """NumPy and PyTorch compute in so many threads inside, and in as many as before afterwards; ``None`` changes
    nothing.

    Sums of floats depend on how they are split: where figures are compared, the number must be the same.
    """
    if not count:
        yield
        return
    try:
        import torch
    except ImportError:
        torch = None
    with threadpool_limits(count):
        before = torch.get_num_threads() if torch else count
        try:
            if torch:
                torch.set_num_threads(count)
            yield
        finally:
            if torch:
                torch.set_num_threads(before)

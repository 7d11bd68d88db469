"""Sequences through a model some at a time: as many as fit, and half of them where memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

from gatenorm.errors import EvaluationError

Item = TypeVar("Item")
Result = TypeVar("Result")
# How allocators say it where the error has no type of its own, as on a CPU.
_SAID = ("out of memory", "can't allocate memory", "not enough memory")


class HasRoom(Protocol):
    """Where sequences go through a model; ``rows(tokens)`` of them at a time, or ``batch_size`` if somebody said so."""

    @property
    def device(self) -> str: ...

    @property
    def batch_size(self) -> int | None: ...

    def rows(self, tokens: int) -> int: ...


def in_batches(
    room: HasRoom,
    items: Sequence[Item],
    compute: Callable[[list[Item]], Result],
    tokens: Callable[[Item], int],
) -> Iterator[tuple[list[Item], Result]]:
    """Runs ``compute`` on batches of items of like length, the longest first; half of one where memory runs out.

    Yields each batch with its result.

    Args:
        tokens: the length of an item's sequence.

    Raises:
        EvaluationError: not enough memory for one sequence, or for as many as ``batch_size`` says.
    """
    import torch

    ordered = sorted(items, key=tokens, reverse=True)
    most: int | None = None
    while ordered:
        longest = tokens(ordered[0])
        count = min(room.rows(longest), most or len(ordered), len(ordered))
        try:
            result = compute(ordered[:count])
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if count == 1 or room.batch_size:
                raise _too_little(room.device, count, longest) from None
            torch.cuda.empty_cache()
            most = count // 2
            continue
        yield ordered[:count], result
        ordered = ordered[count:]


@contextmanager
def memory_for(device: str, count: int, tokens: int) -> Iterator[None]:
    """Says in one line that memory ran out over so many sequences of that length.

    Raises:
        EvaluationError: it did.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise _too_little(device, count, tokens) from None


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: that of a GPU, or the system's."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in _SAID)


def _too_little(device: str, count: int, tokens: int) -> EvaluationError:
    if count == 1:
        what, remedy = f"a sequence of {tokens:,} tokens", "a smaller --window, shorter texts or --dtype bfloat16"
    else:
        what, remedy = f"{count} sequences of {tokens:,} tokens", "a smaller --batch-size or --window"
    return EvaluationError(f"not enough memory on {device} for {what}: give {remedy}")

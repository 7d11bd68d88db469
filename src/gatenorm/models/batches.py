"""Sequences through a model some at a time: as many as fit, and half of them where memory runs out."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from gatenorm.errors import EvaluationError, named

Item = TypeVar("Item")
Result = TypeVar("Result")
# How allocators say it where the error has no type of its own, as on a CPU.
_SAID = ("out of memory", "can't allocate memory", "not enough memory")
# Of float32 logits at a time: what a batch may hold where no batch size is given.
LOGITS_BYTES = 512 << 20
MOST_ROWS = {"cpu": 16}
_MOST_ROWS_ELSEWHERE = 64


class HasRows(Protocol):
    """Something that says how many sequences of a length go through it at a time."""

    @property
    def device(self) -> str: ...

    @property
    def batch_size(self) -> int | None: ...

    def rows(self, tokens: int) -> int: ...


@dataclass(frozen=True)
class BatchBudget:
    """``batch_size`` sequences at a time, or as many as have logits that fit into the memory set aside for them."""

    device: str
    vocabulary: int
    batch_size: int | None = None

    def rows(self, tokens: int) -> int:
        """How many sequences of that length: at least one."""
        fit = LOGITS_BYTES // (max(tokens, 1) * self.vocabulary * 4)
        return self.batch_size or max(1, min(fit, MOST_ROWS.get(self.device, _MOST_ROWS_ELSEWHERE)))


def in_batches(
    budget: HasRows,
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
        count = min(budget.rows(longest), most or len(ordered), len(ordered))
        try:
            result = compute(ordered[:count])
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if count == 1 or budget.batch_size:
                raise _too_little(budget.device, count, longest) from None
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
        what = f"a sequence of {tokens:,} tokens"
        hint = f"give a smaller {named('window')}, shorter texts or {named('dtype')} bfloat16"
    else:
        what = f"{count} sequences of {tokens:,} tokens"
        hint = f"give a smaller {named('batch_size')} or {named('window')}"
    return EvaluationError("out-of-memory", f"not enough memory on {device} for {what}", hint=hint)


def check_vocabulary(sequences: Sequence[Sequence[int]], vocabulary: int) -> None:
    """Raise EvaluationError for tokens that the model has no embedding for."""
    highest = max((max(ids) for ids in sequences if ids), default=0)
    if highest >= vocabulary:
        raise EvaluationError(
            "token-outside-vocabulary",
            f"token {highest} is outside the model's vocabulary of {vocabulary}: wrong tokenizer?",
        )

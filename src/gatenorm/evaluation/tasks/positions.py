"""Loss by position: the mean negative log-likelihood of tokens by how much of the text stands before them.

A model that uses what was said long ago predicts late tokens of a window better than early ones. Where the removal of
attention has cut that off, the late buckets lose and the early ones do not: this shows even in models that are too
small to answer a question.
"""

import time

import msgspec

from gatenorm.evaluation.core.job import Job, TaskOptions
from gatenorm.evaluation.core.task import Task
from gatenorm.evaluation.core.text import Text, data_error, read_text
from gatenorm.evaluation.tasks.perplexity import DEFAULT_WINDOW, Protocol, digest, encode
from gatenorm.models.batches import in_batches
from gatenorm.models.forward import token_losses
from gatenorm.models.model import Model
from gatenorm.progress import Progress
from gatenorm.records.evidence import Bucket, Item, Positions

# Windows that are enough for a curve.
_WINDOWS = 200


def buckets(window: int) -> list[tuple[int, int]]:
    """Runs of positions, first and last, that double in length: 1, 2-3, 4-7, ... up to the window's last token.

    Position ``i`` (from 0) is predicted from the ``i`` tokens before it. A last bucket less than half as long as it
    should be is joined with the one before.
    """
    ranges, start = [], 1
    while start < window:
        ranges.append((start, min(2 * start, window) - 1))
        start *= 2
    if len(ranges) > 1 and (ranges[-1][1] - ranges[-1][0] + 1) * 2 < ranges[-1][0]:
        last = ranges.pop()
        ranges[-1] = (ranges[-1][0], last[1])
    return ranges


def prepare(options: TaskOptions) -> list[Job]:
    """Loss by position on the text that ``--data`` names, as a job.

    Raises:
        EvaluationError: no text is given, or it cannot be read.
    """
    if options.data is None:
        raise data_error("data-missing", "is missing", expected="a text with long documents")
    text = read_text(options.data, options.text_field)
    window = options.window or min(options.context or DEFAULT_WINDOW, DEFAULT_WINDOW)
    protocol = Protocol(window, limit=options.limit or _WINDOWS, spread=options.spread)

    def run(model: Model, progress: Progress | None) -> Positions:
        return losses_by_position(model, text, protocol, progress)

    key = {"data": text.sha256, "text": text.protocol, "window": window, "limit": protocol.limit}
    key |= {"spread": protocol.spread}
    return [Job("positions", "loss by position", "windows", key, run)]


def losses_by_position(model: Model, text: Text, protocol: Protocol, progress: Progress | None = None) -> Positions:
    """The mean loss in every bucket of positions, in nats per token, over windows of a text that do not overlap.

    Positions are counted in tokens from the window's start.

    Raises:
        EvaluationError: a text shorter than one window, or logits that are not finite.
    """
    began = time.perf_counter()
    sequences, described = encode(model.tokenizer, text, protocol, model.module.config)
    runs = buckets(len(sequences[0]))
    rows = [tuple(s) for s in sequences]
    by_bucket: dict[tuple[int, ...], dict[str, float]] = {}
    done = 0
    for batch, losses in in_batches(model, rows, lambda batch: token_losses(model.module, batch), len):
        for row, loss in zip(batch, losses, strict=True):
            # The loss of token i stands at i - 1: the first is not predicted.
            by_bucket[row] = {f"nll_{a}-{b}": float(loss[a - 1 : b].mean()) for a, b in runs}
        done += len(batch)
        if progress:
            progress(done, len(rows))
    items = tuple(Item(id=number, metrics=by_bucket[row]) for number, row in enumerate(rows))

    def mean(name: str) -> float:
        return sum(item.metrics[name] for item in items) / len(items)

    return Positions(
        buckets=tuple(Bucket(first=a, last=b, nll=mean(f"nll_{a}-{b}")) for a, b in runs),
        protocol=msgspec.structs.replace(described, positions="tokens before the predicted one", **model.hardware()),
        data=msgspec.structs.replace(text.identity(), tokens_sha256=digest(sequences)),
        seconds=time.perf_counter() - began,
        items=items,
    )


EVALUATION = Task("loss by position in a text", prepare, data="text", place=6)

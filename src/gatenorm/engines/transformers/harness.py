"""lm-eval's class for transformers models, on a model that is loaded already."""

import copy
from collections.abc import Callable
from typing import Any

from lm_eval.models.huggingface import HFLM

from gatenorm.engines._harness import Answering
from gatenorm.engines.transformers.likelihood import continuations
from gatenorm.models.model import Model

# Where lm-eval knows no limit of a model.
_DEFAULT_CONTEXT = 2048


class _InOurBatches(HFLM):
    """Batches by the length of the requests, where lm-eval's own are as small as the longest input needs them."""

    asked: Model
    count: Callable[[int], None]

    def _loglikelihood_tokens(self, requests: Any, *_: Any, **__: Any) -> list[tuple[float, bool]]:
        # What is too long loses its beginning; the last token is only predicted, not read.
        kept = [(before + after)[-(self.max_length + 1) :] for _, before, after in requests]
        pairs = [(ids[: -len(after)], after) for ids, (_, _, after) in zip(kept, requests, strict=True)]
        counted = 0

        def passes(done: int, total: int) -> None:
            """Requests that differ in their last token share a pass: they count by the share of passes done."""
            nonlocal counted
            now = len(requests) * done // total
            self.count(now - counted)
            counted = now

        return [(answer.loglikelihood, answer.greedy) for answer in continuations(self.asked, pairs, passes)]


class TransformersAnswering(Answering, _InOurBatches):
    """lm-eval's view of the model."""

    spare_tokens = 1  # the last token of a request is only predicted, not read

    def __init__(self, model: Model):
        self.asked = model
        context = model.context or _DEFAULT_CONTEXT
        super().__init__(
            pretrained=model.module,
            # It is given a padding token, which other tasks need not know of.
            tokenizer=copy.deepcopy(model.tokenizer),
            backend="causal",
            max_length=context,
            batch_size=model.rows(context),
        )

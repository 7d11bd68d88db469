"""lm-eval's class for transformers models, on a model that is loaded already."""

from __future__ import annotations

import copy
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM

from gatenorm.engines._harness import Answering
from gatenorm.models.model import Model

# Where lm-eval knows no limit of a model.
_DEFAULT_CONTEXT = 2048


class TransformersAnswering(Answering, HFLM):
    """lm-eval's view of the model, which it runs without a key/value cache."""

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

    def _model_call(self, inps: Any, attn_mask: Any = None, labels: Any = None) -> Any:
        with torch.inference_mode():
            logits = self.model(inps, use_cache=False).logits
        self.count(len(inps))
        return logits

"""Words and bytes behind a text's tokens: what a loss can be counted by that no tokenizer chooses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gatenorm.records.evidence import TextProtocol

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def per_token(
    tokenizer: PreTrainedTokenizerBase, pieces: Sequence[str], described: TextProtocol
) -> tuple[float, float]:
    """Words between whitespace and UTF-8 bytes for each token of the text, or of the part that a limit leaves.

    Not a number where that part is not known: slow tokenizers do not say where a token ends. A word that the part's end
    cuts counts as one.

    Args:
        pieces: the text, or its documents.
        described: its ``text_tokens`` include special ones; ``tokens_read`` where a limit leaves out windows.
    """
    plain = described.text_tokens - len(pieces) * tokenizer.num_special_tokens_to_add()
    if described.tokens_read is not None:
        if not getattr(tokenizer, "is_fast", False):
            return math.nan, math.nan
        pieces, plain = _beginning(tokenizer, pieces[0], described.tokens_read)
    return sum(len(p.split()) for p in pieces) / plain, sum(len(p.encode()) for p in pieces) / plain


def _beginning(tokenizer: PreTrainedTokenizerBase, content: str, tokens: int) -> tuple[list[str], int]:
    """What the first tokens of a text stand for, and how many of them are not special."""
    encoded = tokenizer(content, return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False)
    end = max(stop for _, stop in encoded["offset_mapping"][:tokens])
    return [content[:end]], tokens - sum(encoded["special_tokens_mask"][:tokens])

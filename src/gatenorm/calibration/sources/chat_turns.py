"""A chat template, cut where its speakers take turns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gatenorm.errors import EvaluationError
from gatenorm.models.chat_template import render

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Stand for what is said; no template has a reason to hold them.
_SAID = ("gatenormfirstquestion", "gatenormfirstanswer", "gatenormsecondquestion")


@dataclass(frozen=True)
class ChatTurns:
    """Token ids of what a chat template puts around what is said.

    Attributes:
        opening: in front of the user's first turn.
        to_assistant: from the end of a user's turn to the beginning of the assistant's.
        to_user: from the end of an assistant's turn to the beginning of the user's next.
        ends: the tokenizer's special tokens: a turn in which one is written is over.
    """

    opening: tuple[int, ...]
    to_assistant: tuple[int, ...]
    to_user: tuple[int, ...]
    ends: frozenset[int]


def chat_turns(tokenizer: PreTrainedTokenizerBase | None) -> ChatTurns | None:
    """The template of a tokenizer; ``None`` where it has none, or one that does not say what is said once and in order.

    Raises:
        EvaluationError: it does not end, or fills memory.
    """
    if tokenizer is None or not getattr(tokenizer, "chat_template", None):
        return None
    roles = ("user", "assistant", "user")
    messages = [{"role": role, "content": said} for role, said in zip(roles, _SAID, strict=True)]
    try:
        rest = render(tokenizer, messages, add_generation_prompt=False)
    except EvaluationError as error:
        if error.code == "chat-template-broken":
            return None
        raise
    parts: list[tuple[int, ...]] = []
    for said in _SAID:
        if rest.count(said) != 1:
            return None
        before, _, rest = rest.partition(said)
        parts.append(_tokens(tokenizer, before))
    opening, to_assistant, to_user = parts
    ends = frozenset(map(int, tokenizer.all_special_ids))
    return ChatTurns(opening, to_assistant, to_user, ends) if opening and to_assistant and to_user else None


def _tokens(tokenizer: Any, text: str) -> tuple[int, ...]:
    # The template writes the special tokens out itself.
    return tuple(map(int, tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]))

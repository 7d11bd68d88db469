"""From stories to what a model is trained and measured on: a tokenizer, and numbered rows of tokens."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from gatenorm.demo.tinyworld import CONTEXT, END, Story, go_on, source_of, story_of, token_count
from gatenorm.evaluation.core.text import Text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

VOCABULARY = 1024
# Tokens that training after pruning is given: it takes seconds to write them, and nobody has needed more.
_MOST = 1_000_000
# Stories of which a twentieth still fills the model's context: it is watched in training.
_FEWEST = 160


def train_tokenizer(stories: int = 2000) -> PreTrainedTokenizerBase:
    """A byte-level BPE of at most ``VOCABULARY`` tokens, trained on the training worlds; every word becomes one token.

    It is GPT-2's kind (the same pre-tokenizer and byte alphabet), which every engine knows.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = (story_of("train", "tokenizer", number)[0].text for number in range(stories))
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, bos_token=END, model_max_length=CONTEXT)


def training_text(tokens: int) -> Text:
    """Stories of the training worlds, none of which the built-in model's evaluations tell, one a row.

    Args:
        tokens: how many are asked for, of which there are a million at most; a twentieth comes on top for watching.
    """
    tokens = min(tokens, _MOST)
    texts: list[str] = []
    have = 0
    while have < tokens * 1.06 + 2 * CONTEXT or len(texts) < _FEWEST:
        text = story_of("train", "recovery", len(texts))[0].text
        texts.append(text)
        have += token_count(text) + 1
    content = "\n\n".join(texts)
    how = f"{len(texts)} stories of tinyworld, of the worlds for training"
    return Text("stories of the built-in model's world", content, _sha256(content), how, tuple(texts))


def _sha256(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def row(tokenizer: Any, split: str, number: int, length: int = CONTEXT) -> list[int]:
    """Row ``number`` of the endless corpus: ``length`` tokens that begin with a story's beginning.

    Stories follow each other with the end token between them; the last one is told no further than the row goes. The
    row depends on nothing but its number, so a training run can be taken up anywhere.
    """
    ids: list[int] = []
    while len(ids) < length:
        story = Story(source_of(split, number, len(ids)))
        while story.length < length - len(ids) and go_on(story):
            pass
        ids += [*tokenizer(story.text)["input_ids"], tokenizer.eos_token_id]
    return ids[:length]

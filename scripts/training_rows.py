"""What the built-in model is trained on: a tokenizer, and numbered rows of tokens."""

from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from gatenorm.demo.tinyworld import CONTEXT, END, Story, go_on, source_of, story_of

VOCABULARY = 1024


def train_tokenizer(stories: int = 2000) -> PreTrainedTokenizerBase:
    """A byte-level BPE of at most ``VOCABULARY`` tokens, trained on the training worlds; every word becomes one token.

    It is GPT-2's kind (the same pre-tokenizer and byte alphabet), which every engine knows.
    """
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

"""Stories as texts: to measure the built-in model on, and to train it on after pruning."""

import hashlib

from gatenorm.demo.tasks import SPLIT
from gatenorm.demo.tinyworld import CONTEXT, END, story_of, token_count
from gatenorm.evaluation.core.text import Text

# Tokens that training after pruning is given: it takes seconds to write them, and nobody has needed more.
_MOST = 1_000_000
# Stories of which a twentieth still fills the model's context: it is watched in training.
_FEWEST = 160


def stories(count: int) -> Text:
    """Held-out stories, others than those that the evaluation's perplexity is taken on."""
    texts = [story_of(SPLIT, "layers", number)[0].text for number in range(count)]
    return Text("held-out stories", END + "".join(t + END for t in texts), "", "stories of tinyworld")


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
    return Text(
        "stories of the built-in model's world",
        content,
        hashlib.sha256(content.encode()).hexdigest(),
        how,
        tuple(texts),
    )

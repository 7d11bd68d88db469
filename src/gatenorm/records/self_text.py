"""How text that a model wrote itself came about, and whether it is text."""

from typing import Literal

from gatenorm.records.serialization import Value

Beginning = Literal["chat", "start token", "random token"]

# Text repeats itself less: packaged text up to 10%, samples that read well up to 11%; loops repeat 50% and more.
REPEATED = 0.3


class TextFigures(Value, frozen=True, kw_only=True):
    """What can be seen of a text without reading it.

    Attributes:
        nll: the mean ``-log p(token | tokens before)`` by the model, in nats, over the tokens that it chose.
        repeated: the share of runs of four tokens that stand in the same sample once before.
        distinct: different tokens as a share of all, in a sample.
    """

    nll: float
    repeated: float
    distinct: float


class SelfText(Value, frozen=True, kw_only=True):
    """Text that a model wrote itself.

    Attributes:
        beginning: what it went on from: the opening of a user's turn of its chat template, from where on it wrote both
            sides; the token that texts begin with; or a token drawn for each sample, where there is none.
        temperature, top_p: how tokens were drawn.
        seen: of the samples.
        generic: of the packaged mixture under the same model; ``None`` where its tokenizer is missing.
    """

    beginning: Beginning
    temperature: float
    top_p: float
    seen: TextFigures
    generic: TextFigures | None = None

    @property
    def gibberish(self) -> str:
        """What was seen that is not so of text, and what to do; empty where it passes for text.

        Loops: more than 30% of the runs of four tokens are repetitions. Noise: the model gives what it wrote a lower
        probability than the mixture.
        """
        if self.seen.repeated > REPEATED:
            seen = f"{self.seen.repeated:.0%} of its runs of four tokens are repetitions"
        elif self.generic is not None and self.seen.nll > self.generic.nll:
            seen = f"its loss is {self.seen.nll:.2f} nats a token, that of ordinary text {self.generic.nll:.2f}"
        else:
            return ""
        return f"the text that the model wrote itself is gibberish: {seen}; use generic text instead"

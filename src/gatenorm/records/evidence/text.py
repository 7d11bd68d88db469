"""Losses on a text: perplexity, and the loss by position."""

from collections.abc import Mapping

from gatenorm.records.evidence.base import Evidence, Item, Protocol
from gatenorm.records.serialization import Value


class TextProtocol(Protocol, frozen=True, kw_only=True, omit_defaults=True):
    """How a text became token sequences: windows that follow each other every ``stride`` tokens, or documents.

    ``text_tokens`` are those of the whole text, ``tokens_read`` those that a limit left; ``spread``: of the windows, or
    documents, those lie evenly over the text.
    """

    text: str = ""
    text_tokens: int = 0
    bos: bool = False
    window: int | None = None
    stride: int | None = None
    windows: int | None = None
    last_shorter_window: str = ""
    tokens_read: int | None = None
    spread: bool = False
    documents: int | None = None
    separator: str = ""
    cut_at: int | None = None
    positions: str = ""


class Perplexity(Evidence, frozen=True, kw_only=True, tag="gatenorm/perplexity/1"):
    """``perplexity = exp(nll)``, the mean loss in nats over the predicted ``tokens``.

    ``entropy`` is what the text itself costs under the source that made it, where that is known, in nats a token.
    """

    protocol: TextProtocol = TextProtocol()
    perplexity: float
    nll: float
    tokens: int
    word_perplexity: float | None = None
    bits_per_byte: float | None = None
    entropy: float | None = None
    items: tuple[Item, ...] = ()

    def numbers(self) -> Mapping[str, float]:
        return self.known("perplexity", "nll", "tokens", "word_perplexity", "bits_per_byte", "entropy")


class Bucket(Value, frozen=True, kw_only=True):
    """The mean loss, in nats a token, of the tokens that have ``first`` to ``last`` others before them."""

    first: int
    last: int
    nll: float

    @property
    def name(self) -> str:
        """As its metric is called: ``nll_16-31``."""
        return f"nll_{self.first}-{self.last}"


class Positions(Evidence, frozen=True, kw_only=True, tag="gatenorm/positions/1"):
    """Loss by position in a window."""

    protocol: TextProtocol = TextProtocol()
    buckets: tuple[Bucket, ...]
    items: tuple[Item, ...] = ()

    def numbers(self) -> Mapping[str, float]:
        return {bucket.name: bucket.nll for bucket in self.buckets}

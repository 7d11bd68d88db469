"""The tokens that a model was run on to rank or fit its sublayers, and how it was run."""

from gatenorm.records.evidence.base import Data
from gatenorm.records.evidence.text import TextProtocol
from gatenorm.records.self_text import SelfText
from gatenorm.records.serialization import Value


class CalibrationTokens(Value, frozen=True, kw_only=True, omit_defaults=True):
    """Where tokens came from, and how many they are.

    Attributes:
        source: as it was named: a text file, ``self``, ``random``, ``generic``, ``hub:NAME``.
        samples: how many sequences, each of at most ``length`` tokens.
        tokens: of all sequences.
        seed: of tokens that were drawn.
        bos: whether the token that texts begin with stands in front of those that were drawn.
        batch_size: samples that a model wrote at a time, which decides what it draws.
        data, text: the text that was read, and how it was cut.
        self_text: of text that a model wrote itself.
    """

    source: str
    samples: int
    length: int
    tokens: int
    seed: int | None = None
    bos: bool = False
    batch_size: int | None = None
    data: Data | None = None
    text: TextProtocol | None = None
    self_text: SelfText | None = None


class CalibrationSeconds(Value, frozen=True, kw_only=True):
    """What a scoring takes on its own: loading the model, drawing the tokens, the passes over them."""

    loading: float
    drawing: float
    passes: float


class CalibrationRun(CalibrationTokens, frozen=True, kw_only=True, omit_defaults=True):
    """The tokens that a criterion saw, how the model was run on them, and what else came of it.

    Attributes:
        called: what the tokens are called where their file's name alone does not tell them from others.
        layer_by_layer: whether one block at a time was in memory.
        score: what a score is, with its unit, where that is not the criterion's own figure.
        path: where sublayers go one after another: the loss or the divergence, in nats per predicted token, before the
            first and after each.
    """

    called: str = ""
    dtype: str
    device: str
    layer_by_layer: bool = False
    score: str = ""
    path: tuple[float, ...] = ()
    seconds: CalibrationSeconds
    versions: dict[str, str]

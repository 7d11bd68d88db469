"""Where calibration tokens come from: a text, a hub data set, the packaged mixture, the model itself, or chance."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from gatenorm.calibration.generic import documents, mixture_sha256
from gatenorm.errors import CalibrationError, EvaluationError, MissingExtraError, fields_named, named
from gatenorm.evaluation.core.text import Text, read_text
from gatenorm.evaluation.tasks.perplexity import Protocol, encode
from gatenorm.records import to_json
from gatenorm.records.evidence import TextProtocol

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SELF, RANDOM, GENERIC, HUB = "self", "random", "generic", "hub:"
# Sources that need nobody's data: no separator cuts them into documents.
DATA_FREE = (SELF, RANDOM, GENERIC)
# Characters a token that are surely enough, so that a few windows of a large text do not cost tokenising all of it.
_CHARACTERS = 12


@dataclass(frozen=True)
class Calibration:
    """Which tokens a criterion looks at.

    ``source`` (empty: none yet) is a text file (or ``wikitext2``, ``wikitext2=FILE``), ``self`` for text that the model
    samples from itself, ``random`` for tokens drawn uniformly from the vocabulary, ``generic`` for the packaged mixture
    of public-domain texts, or ``hub:NAME[:CONFIG[:SPLIT]]`` for
    a data set of the hub with a column ``text``. ``samples`` windows of ``length`` tokens are taken from the front of a
    text; with a ``separator``, that many documents, each cut at ``length`` and padded in its batch. ``seed`` is that of
    ``self`` and ``random``; ``batch_size`` counts samples, and decides what ``self`` draws.
    """

    source: str
    samples: int = 32
    length: int = 256
    separator: str | None = None
    seed: int = 0
    batch_size: int | None = None

    def __post_init__(self) -> None:
        for what, given, least in (("samples", self.samples, 1), ("length", self.length, 2)):
            if given < least:
                raise CalibrationError(
                    f"{what}-out-of-range", "is too few", field=what, given=given, expected=f"{least} or more"
                )
        if self.separator == "":
            raise CalibrationError(
                "documents-empty", "is empty", field="documents", expected="a separator, such as '<|endoftext|>'"
            )
        if self.source in DATA_FREE and self.separator is not None:
            raise CalibrationError(
                "documents-unused",
                "is about a text",
                field="documents",
                hint=f"leave it out with {named('calibration')} {self.source}",
            )

    @property
    def drawn(self) -> bool:
        """Whether the tokens are drawn, so that a seed decides them."""
        return self.source in (SELF, RANDOM)


def with_source(calibration: Calibration, source: str) -> Calibration:
    """The same calibration on other tokens; what is about texts alone is left out where tokens are drawn."""
    return replace(calibration, source=source, separator=None if source in DATA_FREE else calibration.separator)


@dataclass(frozen=True)
class Samples:
    """Token sequences, and in words how they came about."""

    sequences: tuple[tuple[int, ...], ...]
    protocol: Mapping[str, Any]
    batch_size: int | None = None

    @property
    def tokens(self) -> int:
        return sum(map(len, self.sequences))

    @property
    def predicted(self) -> int:
        """Tokens that have others in front of them."""
        return self.tokens - len(self.sequences)


def text_samples(calibration: Calibration, tokenizer: PreTrainedTokenizerBase, config: Any) -> Samples:
    """The first windows, or documents, of the calibration's text.

    Raises:
        CalibrationError: no such file, a hub data set that cannot be read, fewer tokens than one window, tokens outside
            the vocabulary, or samples that are nothing but padding.
        MissingExtraError: a hub data set needs ``datasets``.
    """
    protocol = Protocol(calibration.length, calibration.separator, calibration.samples)
    with _in_our_words():
        text = from_hub(calibration) if calibration.source.startswith(HUB) else read_text(calibration.source)
        sequences, described = _encode_front(tokenizer, text, protocol, config, calibration)
    padding = getattr(tokenizer, "pad_token_id", None)
    if padding is not None and padding != tokenizer.eos_token_id and {*chain(*sequences)} == {padding}:
        raise CalibrationError(
            "only-padding",
            f"is nothing but padding (token {padding})",
            field="calibration",
            given=text.name,
            expected="text",
        )
    stated = {"source": calibration.source, **described.facts(), "data": to_json(text.identity())}
    return _samples(sequences, stated, calibration)


def random_samples(calibration: Calibration, config: Any, opening: int | None) -> Samples:
    """Tokens drawn uniformly from the vocabulary, behind ``opening`` where the tokenizer puts one in front.

    The draw depends on the seed and the vocabulary's size only, on every machine and version the same.
    """
    _check_length(calibration, config)
    draw = random.Random(calibration.seed)  # `random()` is the method whose sequence Python promises to keep
    first = [] if opening is None else [opening]
    sequences = [
        first + [int(draw.random() * config.vocab_size) for _ in range(calibration.length - len(first))]
        for _ in range(calibration.samples)
    ]
    return _samples(sequences, {"source": RANDOM, "seed": calibration.seed, "bos": bool(first)}, calibration)


def generic_samples(calibration: Calibration, tokenizer: PreTrainedTokenizerBase, config: Any) -> Samples:
    """Windows of the packaged mixture: the first of every document in order, then the second of every one, and so on.

    Every window so begins as the document does or where its last one ended, and kinds of text take turns.

    Raises:
        CalibrationError: the mixture holds fewer windows, they are longer than the model takes, or a token lies outside
            the vocabulary.
    """
    _check_length(calibration, config)
    length, texts = calibration.length, documents()
    sequences: list[list[int]] = []
    encoded: list[list[int]] = []
    turn = 0
    while len(sequences) < calibration.samples:
        before = len(sequences)
        for at, document in enumerate(texts):
            if len(sequences) == calibration.samples:
                break
            if turn == 0:
                encoded.append(list(tokenizer(document.text, verbose=False)["input_ids"]))
            window = encoded[at][turn * length : (turn + 1) * length]
            if len(window) == length:
                sequences.append(window)
        if len(sequences) == before and turn:
            raise CalibrationError(
                "data-too-short",
                f"holds {before} windows of {length} tokens",
                field="samples",
                given=calibration.samples,
                expected=f"{before} or fewer with {named('calibration')} {GENERIC}",
            )
        turn += 1
    highest = max(max(window) for window in sequences)
    if highest >= config.vocab_size:
        raise CalibrationError(
            "vocabulary-wrong",
            f"the tokenizer gives token {highest}, and the model has {config.vocab_size:,}",
            field="calibration",
            given=GENERIC,
        )
    return _samples(sequences, {"source": GENERIC, "sha256": mixture_sha256()}, calibration)


def self_samples(
    calibration: Calibration,
    model: PreTrainedModel,
    opening: int | None,
    progress: Callable[[int, int], None] | None = None,
) -> Samples:
    """Text that the model samples from itself at temperature 1, behind ``opening``, or a random token without one.

    An end-of-text token does not end a sample. Samples are drawn a batch at a time, 16 unless the calibration says
    otherwise, whose rows take turns with one generator: tokens are equal for equal seeds and batch sizes, on one
    device, dtype and version of torch. The record states the batch size.

    Args:
        progress: called with (tokens drawn, tokens to draw).

    Raises:
        CalibrationError: samples longer than the model takes, or probabilities that are not finite.
    """
    import torch

    config = model.config
    _check_length(calibration, config)
    generator = torch.Generator().manual_seed(calibration.seed)
    size = calibration.batch_size or 16
    sequences: list[list[int]] = []
    total = calibration.samples * calibration.length
    while len(sequences) < calibration.samples:
        rows = min(size, calibration.samples - len(sequences))
        drawn = torch.full((rows, 1), opening or 0)
        if opening is None:
            drawn = torch.randint(config.vocab_size, (rows, 1), generator=generator)
        fresh, cache = drawn, None
        with torch.inference_mode():
            for _ in range(calibration.length - 1):
                out = model(input_ids=fresh.to(model.device), past_key_values=cache, use_cache=True)
                chances, cache = out.logits[:, -1].float().softmax(-1).cpu(), out.past_key_values
                if not bool(chances.isfinite().all()):
                    raise CalibrationError(
                        "not-finite",
                        "the model's logits are not finite (NaN or infinity)",
                        hint=f"try {named('dtype')} float32",
                    )
                fresh = torch.multinomial(chances, 1, generator=generator)
                drawn = torch.cat([drawn, fresh], 1)
                if progress:
                    progress(len(sequences) * calibration.length + rows * drawn.shape[1], total)
        sequences += drawn.tolist()
    stated = {
        "source": SELF,
        "seed": calibration.seed,
        "batch_size": size,
        "temperature": 1.0,
        "bos": opening is not None,
    }
    return _samples(sequences, stated, calibration)


def opening_token(tokenizer: PreTrainedTokenizerBase | None, config: Any) -> int | None:
    """The token that this model's texts begin with, where its tokenizer puts one in front or its config names one that
    also ends them; ``None`` without.
    """
    if tokenizer is not None:
        ids = tokenizer("a")["input_ids"]
        if ids and ids[0] == tokenizer.bos_token_id:
            return int(ids[0])
    begin, end = getattr(config, "bos_token_id", None), getattr(config, "eos_token_id", None)
    if begin is None or begin not in (end if isinstance(end, list) else [end]):
        return None
    return int(begin) if begin < config.vocab_size else None


def batches(samples: Samples, tokens_at_a_time: int = 4096) -> Iterator[Sequence[Sequence[int]]]:
    """Samples of like length together, as many as the calibration says, or as ``tokens_at_a_time`` allows."""
    ordered = sorted(samples.sequences, key=len, reverse=True)
    while ordered:
        count = samples.batch_size or max(1, tokens_at_a_time // len(ordered[0]))
        yield ordered[:count]
        ordered = ordered[count:]


@contextmanager
def _in_our_words() -> Iterator[None]:
    try:
        with fields_named({"data": "calibration", "window": "length"}):
            yield
    except EvaluationError as error:
        if error.code == "text-field-missing":
            error.hint = "a text to calibrate on must be in that field"
        raise error.as_kind(CalibrationError) from error


def _samples(sequences: Iterable[Sequence[int]], stated: Mapping[str, Any], calibration: Calibration) -> Samples:
    kept = tuple(tuple(s) for s in sequences)
    lengths = {"samples": len(kept), "length": calibration.length, "tokens": sum(map(len, kept))}
    return Samples(kept, {**stated, **lengths}, calibration.batch_size)


def _check_length(calibration: Calibration, config: Any) -> None:
    longest = getattr(config, "max_position_embeddings", None)
    if longest and calibration.length > longest:
        raise CalibrationError(
            "length-too-long",
            f"is longer than the model's {longest} positions",
            field="length",
            given=calibration.length,
        )


def _encode_front(
    tokenizer: PreTrainedTokenizerBase, text: Text, protocol: Protocol, config: Any, calibration: Calibration
) -> tuple[list[list[int]], TextProtocol]:
    """The front of a text as sequences; the whole text only where its front does not hold enough of them."""
    enough = calibration.samples * calibration.length * _CHARACTERS
    if calibration.separator is None and len(text.content) > enough:
        with suppress(EvaluationError):
            found = encode(tokenizer, replace(text, content=text.content[:enough]), protocol, config)
            if len(found[0]) == calibration.samples:
                return found
    return encode(tokenizer, text, protocol, config)


def from_hub(calibration: Calibration) -> Text:
    """The first rows of a hub data set, as many as surely suffice; they are streamed, not downloaded whole.

    Raises:
        CalibrationError: it cannot be read, or has no column ``text``.
        MissingExtraError: ``datasets`` is not installed.
    """
    try:
        from datasets import load_dataset
    except ImportError:
        raise MissingExtraError(f"{named('calibration')} {calibration.source}", "datasets", "eval") from None
    name, config, split = [*calibration.source.removeprefix(HUB).split(":"), "", ""][:3]
    between = "\n\n" if calibration.separator is None else calibration.separator
    enough = calibration.samples * calibration.length * _CHARACTERS
    rows: list[str] = []
    size = 0
    try:
        for row in load_dataset(name, config or None, split=split or "train", streaming=True):
            rows.append(str(row["text"]))
            size += len(rows[-1])
            if size >= enough or (calibration.separator is not None and len(rows) >= calibration.samples):
                break
    except KeyError:
        raise CalibrationError(
            "text-field-missing", "has no column 'text'", field="calibration", given=calibration.source
        ) from None
    except Exception as error:  # datasets lets through whatever its network layers and readers raise
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CalibrationError(
            "data-unreadable", f"could not be read: {why:.200}", field="calibration", given=calibration.source
        ) from error
    content = between.join(rows)
    if calibration.separator is not None:
        content = between + content + between
    if not content.strip():
        raise CalibrationError("data-empty", "is empty", field="calibration", given=calibration.source)
    digest = hashlib.sha256(content.encode()).hexdigest()
    return Text(calibration.source, content, digest, f"the first {len(rows)} rows of the data set", tuple(rows))

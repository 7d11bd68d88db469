"""Text that someone wrote: a file, or rows of a data set of the hub."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from gatenorm.calibration.samples import HUB, Calibration, CalibrationSamples
from gatenorm.errors import CalibrationError, EvaluationError, fields_named, named, needing
from gatenorm.evaluation.core.text import Text, read_text
from gatenorm.evaluation.tasks.perplexity import Protocol, encode
from gatenorm.records.evidence import TextProtocol

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Characters a token that are surely enough, so that a few windows of a large text do not cost tokenising all of it.
_CHARACTERS = 12


def text_samples(calibration: Calibration, tokenizer: PreTrainedTokenizerBase, config: Any) -> CalibrationSamples:
    """The first windows, or documents, of the calibration's text.

    Raises:
        CalibrationError: no such file, a hub data set that cannot be read, fewer tokens than one window, tokens outside
            the vocabulary, or samples that are nothing but padding.
        MissingExtraError: a hub data set needs ``datasets``.
    """
    protocol = Protocol(calibration.length, calibration.separator, calibration.samples)
    with in_our_words():
        text = from_hub(calibration) if calibration.source.startswith(HUB) else read_text(calibration.source)
        sequences, described = _encode_front(tokenizer, text, protocol, config, calibration)
    padding = getattr(tokenizer, "pad_token_id", None)
    if padding is not None and padding != tokenizer.eos_token_id and {*chain(*sequences)} == {padding}:
        problem = f"is nothing but padding (token {padding})"
        raise CalibrationError("only-padding", problem, field="calibration", given=text.name, expected="text")
    return CalibrationSamples.of(sequences, calibration, data=text.identity(), text=described)


@contextmanager
def in_our_words() -> Iterator[None]:
    """Errors of evaluations, whose texts these are, as those of a calibration."""
    try:
        with fields_named({"data": "calibration", "window": "length"}):
            yield
    except EvaluationError as error:
        if error.code == "text-field-missing":
            error.hint = "a text to calibrate on must be in that field"
        raise error.as_kind(CalibrationError) from error


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
    with needing(f"{named('calibration')} {calibration.source}", "datasets", "eval"):
        from datasets import load_dataset
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

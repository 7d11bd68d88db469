"""Text to train on that nobody owns: the packaged mixture, and what the unpruned model writes itself."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

from gatenorm.calibration.samples import DATA_FREE, RANDOM, SELF, Calibration
from gatenorm.calibration.sources import draw
from gatenorm.errors import RecoveryError
from gatenorm.evaluation.core.generic import documents
from gatenorm.evaluation.core.text import GENERIC, Text
from gatenorm.families import Layout
from gatenorm.models.model import Model
from gatenorm.progress import Progress
from gatenorm.records import Value, to_json
from gatenorm.records.self_text import SelfText
from gatenorm.results import Fingerprint, ResultStore

_SOURCES = (GENERIC, SELF)


@dataclass(frozen=True)
class DrawnText(Text):
    """A text whose rows are documents of the mixture and samples of a model; ``self_text`` says how it wrote these."""

    self_text: SelfText | None = None


class _Written(Value, frozen=True, kw_only=True):
    rows: tuple[str, ...]
    self_text: SelfText


def drawn_sources(data: str, called: str = "data") -> tuple[str, ...]:
    """The sources that ``data`` names, joined by commas; none where it is a text.

    Args:
        called: the parameter that names them, for errors.

    Raises:
        RecoveryError: sources and something else, or one that is no text.
    """
    names = tuple(data.split(","))
    if not any(name in DATA_FREE for name in names):
        return ()
    wrong = next((name for name in names if name not in _SOURCES), None)
    if wrong is not None:
        problem = "has no meaning to learn" if wrong == RANDOM else "cannot be mixed with text that is drawn"
        expected = " or ".join((*_SOURCES, ",".join(_SOURCES)))
        raise RecoveryError("source-unusable", problem, field=called, given=wrong, expected=expected)
    return tuple(dict.fromkeys(names))


def check_not_trained_on(data: str, other: str, called: str) -> None:
    """Raise RecoveryError where a training would be judged by documents that it sees: both texts hold the mixture. What
    a model wrote is drawn by another seed.

    Args:
        called: the parameter that names the other text.
    """
    if GENERIC in drawn_sources(data) and GENERIC in drawn_sources(other, called):
        problem = "has the documents that are trained on"
        hint = "name another text; without one, a part of the data is held out"
        raise RecoveryError("text-trained-on", problem, field=called, given=other, hint=hint)


def drawn_text(
    names: Sequence[str],
    writer: Layout | None,
    calibration: Calibration,
    *,
    device: str,
    dtype: str,
    progress: Progress | None = None,
) -> DrawnText:
    """The text of these sources: documents and samples in an order that the seed decides.

    What a model wrote is kept in the store of results, so that the next training from the same model, or the same one
    again, finds it.

    Args:
        writer: the unpruned model, which writes the text of ``self``.
        calibration: how many samples it writes, how long they are, and how it draws their tokens.
        progress: called with (tokens drawn, tokens to draw).

    Raises:
        RecoveryError: there is nobody to write.
        CalibrationError, EvaluationError: as drawing samples.
    """
    rows: list[str] = []
    said, self_text = [], None
    for name in names:
        if name == GENERIC:
            texts = tuple(document.text for document in documents())
            said.append(f"{GENERIC}: {len(texts)} documents")
        else:
            if writer is None:
                raise RecoveryError(
                    "parent-missing", "is missing", field="parent", expected=f"the unpruned model, which writes {SELF}"
                )
            written = _written(writer, calibration, device, dtype, progress)
            texts, self_text = written.rows, written.self_text
            said.append(f"{SELF}: {len(texts)} samples of {calibration.length} tokens")
        rows += texts
    random.Random(calibration.seed).shuffle(rows)
    content = "\n\n".join(rows)
    digest = hashlib.sha256(content.encode()).hexdigest()
    return DrawnText(",".join(names), content, digest, "; ".join(said), tuple(rows), self_text)


def _written(writer: Layout, calibration: Calibration, device: str, dtype: str, progress: Progress | None) -> _Written:
    store = ResultStore()
    asked = {"text": to_json(calibration), "device": device, "dtype": dtype}
    fingerprint = Fingerprint.of(asked, {"model": writer.checkpoint.fingerprint()})
    kept = store.get(fingerprint, _Written)
    if kept is not None:
        return kept
    model = Model.of_layout(writer, device=device, dtype=dtype)
    samples = draw(calibration, model, progress)
    self_text = samples.protocol.self_text
    assert self_text is not None  # it was asked to write
    rows = model.tokenizer.batch_decode([list(ids) for ids in samples.sequences], clean_up_tokenization_spaces=False)
    written = _Written(rows=tuple(rows), self_text=self_text)
    model.release()
    writer.checkpoint.check_unchanged()
    store.put(fingerprint, written)
    return written

"""What an export is held against: its source in transformers, or an unpruned file in the engine itself."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from gatenorm.checkpoint import open_store
from gatenorm.checkpoint.parts import ByteRange, Part, repeated, write_parts
from gatenorm.engines import Engine, GreedySession, check_opened
from gatenorm.errors import EvaluationError, first_line
from gatenorm.exports.verify.gguf_comparison import Compared, compare_copies
from gatenorm.families import Layout
from gatenorm.files import scratch_copy
from gatenorm.models.model import Model
from gatenorm.progress import Progress
from gatenorm.records import Edits

Float64 = npt.NDArray[np.float64]


class Reference(Protocol):
    """Something that computes what an export should compute; ``what`` it is, for people."""

    what: ClassVar[str]

    @property
    def vocabulary(self) -> int:
        """How many tokens it knows."""

    def logprobs(self, prompt: Sequence[int], tokens: Sequence[int]) -> Float64:
        """The log-probabilities of each of ``tokens`` after what stands before it, ``[tokens, vocabulary]``.

        NaN where they are not known. There are fewer rows where its own choices part from ``tokens``, and it knows no
        others.
        """

    def tokenize(self, text: str, special: bool) -> list[int] | None:
        """How it cuts a text; None where it has no tokenizer."""

    def hold(self, exported: Path, progress: Progress) -> Compared | None:
        """Compare the tensors of a GGUF file with those that it should have; None where they are not known.

        ``progress`` is called with (bytes compared, bytes).
        """


class InTransformers:
    """A directory in transformers, in float32: one pass over a prompt with all the tokens behind it."""

    what: ClassVar[str] = "transformers, float32, one pass over the prompt and the engine's tokens"

    def __init__(self, layout: Layout):
        self._layout, self._model = layout, Model.of_layout(layout, dtype="float32")
        self._model.check_hardware()  # says what is missing where torch is

    @property
    def vocabulary(self) -> int:
        return self._model.vocabulary

    def logprobs(self, prompt: Sequence[int], tokens: Sequence[int]) -> Float64:
        import torch

        begin = len(prompt) - 1
        ids = torch.tensor([[*prompt, *tokens]])
        try:
            with torch.inference_mode():
                logits = self._model.module(ids, use_cache=False).logits[0, begin : begin + len(tokens)].double()
        except (ValueError, KeyError, IndexError, TypeError, RuntimeError) as error:
            problem = f"transformers cannot run the reference: {first_line(error)}"
            raise EvaluationError("reference-cannot-run", problem) from error
        found: Float64 = logits.log_softmax(-1).numpy()
        if not np.isfinite(found).all():
            raise EvaluationError("weights-damaged", "the reference computes NaN or infinity: its weights are damaged")
        return found

    def tokenize(self, text: str, special: bool) -> list[int] | None:
        if not self._model.has_tokenizer:
            return None  # a model without a tokenizer can be served by token numbers alone
        return list(self._model.tokenizer(text, add_special_tokens=special)["input_ids"])

    def hold(self, exported: Path, progress: Progress) -> Compared | None:
        from gatenorm.exports.verify.dequantized_model import hold

        return hold(exported, self._layout, self._model.module, progress)


class InEngine:
    """A file in an engine, which continues prompts greedily; ``expected`` is what an export of it should be."""

    what: ClassVar[str] = "the unpruned file in the same engine, with zeros for what the removed sublayers add"

    def __init__(self, session: GreedySession, expected: Layout):
        self._session, self._expected = session, expected

    @property
    def vocabulary(self) -> int:
        return self._session.vocabulary

    def logprobs(self, prompt: Sequence[int], tokens: Sequence[int]) -> Float64:
        [own] = self._session.continue_greedily([prompt], len(tokens))
        same = next((i for i, pair in enumerate(zip(own.tokens, tokens, strict=True)) if len({*pair}) > 1), len(tokens))
        # The row in which the choices part still has the same tokens before it.
        return own.logprobs[: same + 1].astype(np.float64)

    def tokenize(self, text: str, special: bool) -> list[int] | None:
        return self._session.tokenize(text, special)

    def hold(self, exported: Path, progress: Progress) -> Compared | None:
        return compare_copies(open_store(exported), self._expected, progress)


@contextmanager
def silenced(source: Layout, expected: Layout, engine: Engine, near: Path) -> Iterator[InEngine]:
    """The file ``source`` in an engine, with zeros where sublayers that ``expected`` lacks add to the stream.

    Args:
        near: a directory with room for a copy of the file, while it runs.
    """
    path = source.checkpoint.path
    with scratch_copy(path, near / f"{path.name}-silenced", path.stat().st_size) as copy:
        with copy.open("wb") as file:
            for _ in write_parts(_parts(source, expected.edits - source.edits), file.fileno()):
                pass
        session = engine.open(copy)
        check_opened(engine, session, "continue_greedily")
        try:
            yield InEngine(session, expected)
        finally:
            session.close()


def _parts(source: Layout, edits: Edits) -> Iterator[Part]:
    checkpoint, path, done = source.checkpoint, source.checkpoint.path, 0
    modules = [source.tensor(layer, source.roles.o) for layer in edits.attention]
    modules += [source.tensor(layer, source.mlp.down) for layer in edits.mlp]
    names = [f"{module}.{what}" for module in modules for what in ("weight", "bias")]
    # Whatever the type, zero bytes are zeros: blocks have a scale, which is zero then.
    ranges = (checkpoint.byte_range(name) for name in names if name in checkpoint)
    for zeros in sorted(ranges, key=lambda one: one.begin):
        yield ByteRange(path, done, zeros.begin)
        yield repeated(bytes(1), zeros.nbytes)
        done = zeros.end
    yield ByteRange(path, done, checkpoint.files[path.name])

"""What llama.cpp should compute from a GGUF file, computed by transformers: the checkpoint with the file's own tensors.

A quantised model differs from its source by nats, and one wrong tensor by little more. So every tensor is first held
against the source's, and then taken over into the reference: what is left is llama.cpp's rounding of activations to 8
bits, in which no wrong layer, bias or rotation can hide.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gatenorm.checkpoint import TensorStore
from gatenorm.checkpoint.dtypes import Float32
from gatenorm.checkpoint.formats.gguf.model import in_halves
from gatenorm.checkpoint.formats.gguf.store import GgufStore
from gatenorm.errors import EvaluationError
from gatenorm.exports import llama_like
from gatenorm.exports.gguf.tensors import Tensor
from gatenorm.exports.verify.gguf_comparison import ARCHITECTURES, Compared, compare
from gatenorm.families import Layout
from gatenorm.progress import Progress

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Weights of these types are told from the source's end to end; all others are blocks of a few bits.
_PLAIN = {"F32", "F16", "BF16"}


def hold(path: Path, layout: Layout, model: PreTrainedModel, progress: Progress | None = None) -> Compared | None:
    """Hold a file's tensors against those of ``layout``; where it is quantised, ``model`` gets the right ones of them.

    Tensors that are not the checkpoint's are not taken over: an engine that computes with them computes otherwise then.
    ``None`` where the file is of another architecture than those whose tensors are known here, and not quantised.

    Args:
        path: the file.
        layout: the checkpoint that it was written from.
        model: that checkpoint, loaded in float32.
        progress: called with (bytes compared, bytes).

    Raises:
        EvaluationError: it is quantised, and its architecture or one of its types is not known here.
        CheckpointError: it is no whole GGUF file, or the checkpoint lacks a tensor.
    """
    contents = GgufStore(path)
    few_bits = not {spec.dtype for spec in contents.specs.values()} <= _PLAIN
    architecture = contents.metadata.get("general.architecture")
    if architecture not in ARCHITECTURES or llama_like.obstacles(layout):
        if few_bits:
            raise EvaluationError(
                "architecture-unknown",
                f"{path} is a quantised file of architecture {architecture!r:.40}, whose tensors cannot be held "
                "against the source's here",
                expected=f"{' or '.join(ARCHITECTURES)}, or a file in f32",
            )
        return None
    return take_over(model, contents, layout, progress) if few_bits else compare(contents, layout, progress=progress)


def take_over(
    model: PreTrainedModel, contents: TensorStore, layout: Layout, progress: Progress | None = None
) -> Compared:
    """Give ``model`` those tensors of a file that are the checkpoint's, each as the file has it.

    Raises:
        EvaluationError: a tensor is stored in a type whose rounding is not known.
        CheckpointError: the checkpoint lacks a tensor.
    """
    import torch

    parameters = dict(model.named_parameters())

    def keep(part: Tensor, values: Float32) -> None:
        assert part.source is not None
        # The files of a base model lack the first component of a name.
        name = part.source if part.source in parameters else f"{model.base_model_prefix}.{part.source}"
        found = in_halves(values, part.step) if part.step > 1 else values
        with torch.no_grad():
            parameters[name].copy_(torch.from_numpy(found))

    return compare(contents, layout, keep, progress)

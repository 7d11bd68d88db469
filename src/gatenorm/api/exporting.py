"""Pruned checkpoints in the forms that engines serve, and whether an engine computes the same from them."""

import os
from pathlib import Path

from gatenorm.api.opening import ModelLike, open_model
from gatenorm.exports import decoded
from gatenorm.exports.registry import export_form
from gatenorm.exports.verify import verify as verification
from gatenorm.progress import Bars, Progress
from gatenorm.records import Written
from gatenorm.records.evidence import Verification


def export(
    model: ModelLike,
    to: str,
    out: str | os.PathLike[str],
    *,
    dtype: str = "auto",
    family: str | None = None,
    progress: Progress | None = None,
) -> Written:
    """Write a model, pruned or dense, in a form that engines serve unpatched; ``out`` appears whole or not at all.

    Args:
        to: ``gguf`` (llama.cpp, Ollama) or ``nemotron-nas`` (vLLM, SGLang, TensorRT-LLM, ExLlamaV3, MLX-LM).
        dtype: of the weights, where the form has a choice; ``auto`` keeps what is stored.

    Raises:
        OutputError: the model cannot be written so (the message says why), or ``out`` is taken.
        MissingExtraError: a package that writing needs is not installed.
    """
    form = export_form(to)
    form.check_output(Path(out))  # before a model is fetched
    return form.write(open_model(model, family), Path(out), dtype=dtype, progress=progress)


def convert(
    model: ModelLike,
    out: str | os.PathLike[str],
    *,
    dtype: str = "bfloat16",
    family: str | None = None,
    progress: Progress | None = None,
) -> Written:
    """Write a GGUF file or quantised weights, decoded, as the directory ``out`` for transformers.

    Args:
        dtype: ``bfloat16``, ``float16`` or ``float32``.

    Raises:
        OutputError: the model cannot be written so (the message says why), or ``out`` is taken.
    """
    return decoded.write(open_model(model, family), Path(out), dtype, progress)


def verify(
    exported: str | os.PathLike[str],
    against: ModelLike,
    engine: str | None = None,
    *,
    tokens: int = 64,
    tolerance: float | None = None,
    seed: int = 0,
    family: str | None = None,
    bars: Bars | None = None,
) -> Verification:
    """Compare what an engine computes from an export with what transformers computes from its source.

    The arguments, the result and the errors are those of :func:`gatenorm.exports.verify.verify.verify`; ``family`` is
    that of :func:`gatenorm.open_model`, for ``against``.
    """
    layout = open_model(against, family)
    return verification.verify(Path(exported), layout, engine, tokens=tokens, tolerance=tolerance, seed=seed, bars=bars)

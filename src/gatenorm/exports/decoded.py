"""A dense model as a directory that transformers loads, its weights decoded: for what runs in PyTorch.

A GGUF file and its tokenizer, or a directory with quantised weights. Memory stays flat: a piece of one tensor exists at
a time.
"""

import tempfile
from collections.abc import Iterator
from math import prod
from pathlib import Path

from gatenorm.checkpoint import GGUF, NewTensor, TensorStore
from gatenorm.checkpoint.companions import SINGLE
from gatenorm.checkpoint.dtypes import COMPUTED, STORAGE_TYPES, from_float32
from gatenorm.checkpoint.formats.safetensors.writer import NewFile, NewFiles
from gatenorm.checkpoint.parts import Made
from gatenorm.checkpoint.quantisation import without_settings
from gatenorm.errors import CheckpointError, OutputError, first_line, needing
from gatenorm.exports.gguf.tensors import ROPE_FACTORS
from gatenorm.families import Layout
from gatenorm.files import check_apart, check_new_directory, new_directory, write_json
from gatenorm.progress import Progress
from gatenorm.records import Written
from gatenorm.surgery.disk import carry_over
from gatenorm.surgery.proof import can_prove, check_loads

# How many numbers are decoded at once.
_NUMBERS = 8 << 20


def write(layout: Layout, out: Path, dtype: str = "bfloat16", progress: Progress | None = None) -> Written:
    """Write a model with all its weights in one plain type, as the new directory ``out``.

    Raises:
        OutputError: ``out`` is taken, or the model has what a directory of its family has not.
        CheckpointError: its tokenizer cannot be read, it was changed meanwhile, or weights are not finite or beyond the
            range of ``dtype``.
        MissingExtraError: transformers is not installed, which reads tokenizers out of GGUF files.
    """
    if dtype not in COMPUTED:
        raise OutputError("dtype-unknown", "is not known", field="dtype", given=dtype, expected=", ".join(COMPUTED))
    checkpoint = layout.checkpoint
    check_new_directory(out)
    check_apart(out, checkpoint.path)
    why = _obstacle(layout)
    if why:
        problem = f"{checkpoint.path} cannot be written as a directory for transformers: {why}"
        raise OutputError("not-convertible", problem)
    # What llama.cpp reads from the tensor of factors, transformers computes from the configuration.
    names = [name for name in checkpoint.specs if name != ROPE_FACTORS]
    tensors = tuple(_decoded(checkpoint, name, COMPUTED[dtype].name) for name in names)
    proved = can_prove()
    files = NewFiles((NewFile(SINGLE, tensors, {"format": "pt"}),))
    with new_directory(out, files.size) as temporary:
        files.write(temporary, progress)
        write_json(temporary / "config.json", {**without_settings(checkpoint.config), "dtype": dtype})
        if checkpoint.form == GGUF:
            _write_tokenizer(checkpoint.path, temporary)
        _, left_out = carry_over(checkpoint, temporary, {"config.json"})
        if proved:
            check_loads(temporary, layout.data, base_only=layout.prefix != layout.block.path)
    return Written(out=str(out), dtype=dtype, bytes=files.size, left_out=tuple(left_out), proved=proved)


def _obstacle(layout: Layout) -> str | None:
    if layout.edits:
        return "it is pruned: convert the unpruned model, and prune the directory"
    if layout.checkpoint.form != GGUF:
        return None
    if layout.data.mixture:
        return "its experts lie in one tensor a layer, which is not taken apart"
    own = [key for key in layout.checkpoint.config if "." in key]
    own += [name for name in layout.checkpoint.specs if name.startswith("blk.")]
    if own:
        return f"it has {', '.join(own[:3])}, for which {layout.model_type} has no place there"
    if layout.rotary is not None and " " in layout.rotary.kind:
        return "its rotary waves are stretched by factors of their own"
    return None


def _decoded(checkpoint: TensorStore, name: str, dtype: str) -> NewTensor:
    shape = checkpoint.spec(name).shape
    step = max(1, _NUMBERS // max(1, prod(shape[1:])))

    def pieces() -> Iterator[bytes]:
        for begin in range(0, shape[0], step):
            rows = checkpoint.float32(name, slice(begin, min(begin + step, shape[0])))
            yield from_float32(rows, dtype, name).tobytes()

    return NewTensor(name, dtype, shape, (Made(prod(shape) * STORAGE_TYPES[dtype].itemsize, pieces),))


def _write_tokenizer(file: Path, target: Path) -> None:
    with needing("reading the tokenizer of a GGUF file", "transformers", "torch"):
        from transformers import AutoTokenizer
    try:
        # From a directory of its own: transformers also reads the settings, and the code, that lie beside a file.
        with tempfile.TemporaryDirectory() as alone:
            (Path(alone) / file.name).symlink_to(file.resolve())
            loaded = AutoTokenizer.from_pretrained(alone, gguf_file=file.name, trust_remote_code=False)
        loaded.save_pretrained(target)
    except Exception as error:  # whatever classes of other people raise
        raise CheckpointError(
            "tokenizer-unreadable", f"transformers cannot read the tokenizer of {file}: {first_line(error):.200}"
        ) from error

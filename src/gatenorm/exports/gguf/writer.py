"""One GGUF file for llama.cpp and what is built on it (Ollama, LM Studio, ...).

The architecture is ``llama``, and of a pruned model ``deci``, which llama.cpp has for NVIDIA's Nemotron models: Llama
with a head count for every layer, 0 where there is no attention. Such a layer costs no key/value cache. Blocks that are
gone altogether are left out, and the others move up. Stock engines read the file.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatenorm.checkpoint.formats.gguf.header import ALIGNMENT, read_header
from gatenorm.checkpoint.formats.gguf.metadata import kv_heads, read_model
from gatenorm.checkpoint.formats.gguf.model import GgufModel
from gatenorm.checkpoint.formats.gguf.store import RECORD_KEY
from gatenorm.errors import EvaluationError, GatenormError, MissingExtraError, needing, printable
from gatenorm.exports import llama_like
from gatenorm.exports.gguf.carried import Carried
from gatenorm.exports.gguf.tensors import FORM, NO_MLP, Tensor, file_type, hidden, tensors, written
from gatenorm.exports.gguf.tokenizer import Tokenizer, tokenizer
from gatenorm.exports.gguf.types import check_quantiser
from gatenorm.exports.registry import Variant
from gatenorm.families import Layout
from gatenorm.families.family import positive, value
from gatenorm.files import check_new_file, new_file, open_regular, parse_json
from gatenorm.progress import Progress
from gatenorm.records import ATTENTION, Edits, ModelIdentity, Written, spans, to_json
from gatenorm.surgery.exported import export_entries
from gatenorm.surgery.operation import leaves_nothing

if TYPE_CHECKING:
    from gguf import GGUFWriter

DENSE, PRUNED = "llama", "deci"
# In original layer numbers; the last two where MLPs are gone, since the blocks of the file may then be fewer.
EDITS_KEY = "gatenorm.edits"
_CONTEXT = 2048
# Where a licence is stated: at the beginning of the card.
_CARD, _HEAD = "README.md", 1 << 16


def obstacles(layout: Layout) -> list[str]:
    """Why this model cannot be written as GGUF, one line a reason; empty when it can."""
    reasons = llama_like.obstacles(layout)
    if reasons:
        return reasons
    if layout.head_dim % 2:
        reasons.append(f"its heads have {layout.head_dim} dimensions, an odd number, which no rotation has")
    try:
        reasons += llama_like.foreign(
            layout, {part.source for part in tensors(layout, "auto", read=False) if part.source}, FORM
        )
        _words(layout)
    except GatenormError as error:
        reasons.append(str(error))
    return reasons


def remarks(layout: Layout) -> list[str]:
    """What whoever serves this model in this form should know, one line each."""
    return list(_remarks(layout, _words(layout)))


def write(layout: Layout, out: Path, *, dtype: str = "auto", progress: Progress | None = None) -> Written:
    """Write the model as one GGUF file.

    Raises:
        OutputError: ``out`` is taken or cannot be written, or the weights do not fit the type.
        MissingExtraError: gguf is not installed, or for the K types no package that brings ggml's quantiser.
        CheckpointError: a tensor is missing or has another shape than its config implies.
    """
    GGUFWriter = _writer()
    check_new_file(out)
    check_quantiser(dtype)
    words = _words(layout)
    parts = tensors(layout, dtype)
    total = sum(part.nbytes for part in parts)
    with new_file(out, total) as temporary:
        writer = GGUFWriter(temporary, PRUNED if layout.edits else DENSE)
        _describe(writer, layout, words, parts, dtype)
        _declare(writer, parts)
        done = 0
        with temporary.open("r+b") as file:
            file.seek(0, 2)
            for part in parts:
                file.write(bytes(-file.tell() % ALIGNMENT))
                for chunk in part.chunks():
                    file.write(chunk.data)
                    done += chunk.nbytes
                    if progress:
                        progress(done, total)
            file.write(bytes(-file.tell() % ALIGNMENT))
        layout.checkpoint.check_unchanged()
    notes = tuple(_notes(layout, words, parts, dtype))
    return Written(out=str(out), bytes=out.stat().st_size, notes=notes)


def recognises(path: Path) -> bool:
    """Whether it is a GGUF file, by its name or its first bytes.

    Raises:
        EvaluationError: it cannot be read.
    """
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return path.suffix.lower() == ".gguf" or file.read(4) == b"GGUF"
    except OSError as error:
        raise EvaluationError("export-unreadable", f"{path} cannot be read: {error.strerror or error}") from None


def read(path: Path) -> Variant:
    """What a GGUF file says of the model in it.

    Raises:
        CheckpointError, EvaluationError: it is damaged, or no language model's.
        MissingExtraError: gguf is not installed.
    """
    if find_spec("gguf") is None:
        raise MissingExtraError("reading GGUF files", "gguf", "gguf")
    fields = read_model(path)
    architecture = str(fields["general.architecture"])
    layers, context = int(fields[f"{architecture}.block_count"]), int(fields[f"{architecture}.context_length"])
    edits = Edits.of(ATTENTION, (i for i, count in enumerate(kv_heads(fields)) if count == 0))
    if EDITS_KEY in fields:
        edits = _edits(path, fields[EDITS_KEY])
        # Blocks that are gone altogether are not in the file.
        layers += sum(all(leaves_nothing(edit) for edit in edits.at(layer)) for layer in edits.blocks)
    with path.open("rb") as file:
        begin = hashlib.sha256(file.read(1 << 20)).hexdigest()  # the header: its keys, names and shapes
    identity = ModelIdentity(printable(path.name), architecture, layers, begin, {path.name: path.stat().st_size})
    return Variant(path, FORM, identity, edits, context)


def _edits(path: Path, text: Any) -> Edits:
    try:
        return Edits.from_json(parse_json(text.encode()))
    except (AttributeError, TypeError, ValueError) as error:
        problem = f"{path}: {EDITS_KEY} is {text!r:.80} ({error})"
        raise EvaluationError("gguf-edits-unreadable", problem, expected="a list of edits") from None


def stored_types(path: Path) -> set[str]:
    """The types of the tensors in a GGUF file: ``F32``, ``BF16``, ``Q8_0``, ...

    Raises:
        EvaluationError: it is no whole GGUF file.
        MissingExtraError: gguf is not installed.
    """
    _writer()
    return {tensor.dtype for tensor in read_header(path).tensors.values()}


def _writer() -> type[GGUFWriter]:
    with needing("writing GGUF files", "gguf", "gguf"):
        from gguf import GGUFWriter
    return GGUFWriter


def _rows(layout: Layout) -> int:
    return layout.checkpoint.spec(llama_like.outer(layout, "embedding")).shape[0]


def _words(layout: Layout) -> Tokenizer | Carried:
    source = layout.checkpoint
    return Carried(source) if isinstance(source, GgufModel) else tokenizer(layout, _rows(layout))


def _describe(writer: GGUFWriter, layout: Layout, words: Tokenizer | Carried, parts: list[Tensor], dtype: str) -> None:
    from gguf import GGML_QUANT_VERSION, RopeScalingType

    assert layout.rotary is not None
    config, data, gone = layout.config, layout.data, set(layout.edits.attention)
    if isinstance(words, Tokenizer):
        writer.add_type("model")
        writer.add_name(layout.checkpoint.name.encode("utf-8", "replace").decode())
        for key, text in _licence(layout).items():
            writer.add_string(key, text)
    if isinstance(words, Tokenizer) or dtype != "auto":
        writer.add_file_type(file_type(parts, dtype))
        writer.add_quantization_version(GGML_QUANT_VERSION)
    if layout.edits:
        writer.add_string(EDITS_KEY, json.dumps(to_json(layout.edits)))
    if layout.pruned:
        writer.add_string(RECORD_KEY, json.dumps(to_json(layout.pruned)))

    layers = written(layout)
    writer.add_block_count(len(layers))
    writer.add_context_length(layout.context or _CONTEXT)
    writer.add_embedding_length(layout.width)
    writer.add_vocab_size(_rows(layout))
    writer.add_feed_forward_length(_by_layer(layout, [hidden(layout, i) for i in layers]))
    # llama.cpp takes the head size from the first layer, whose count must therefore not be 0.
    # A layer with heads and without key/value heads is read as one with a matrix in its attention's place.
    replaced = {i for i in layers if ATTENTION in export_entries(layout, FORM, i)}
    whole = {i for place, i in enumerate(layers) if i not in gone or i in replaced or not place}
    writer.add_head_count(_by_layer(layout, [layout.heads if i in whole else 0 for i in layers]))
    writer.add_head_count_kv(_by_layer(layout, [0 if i in gone else layout.kv_heads for i in layers]))
    for add in (writer.add_key_length, writer.add_value_length, writer.add_rope_dimension_count):
        add(layout.head_dim)
    writer.add_layer_norm_rms_eps(positive("rms_norm_eps", value(config, data, "rms_norm_eps")))
    writer.add_rope_freq_base(layout.rotary.theta)
    if layout.rotary.kind == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(positive("factor", layout.rotary.scaling.get("factor")))
    words.describe(writer)


def _by_layer(layout: Layout, numbers: list[int]) -> list[int] | int:
    """One number for all layers of a dense model where it can be, as llama.cpp's converter writes it."""
    return numbers if layout.edits or len(set(numbers)) > 1 else numbers[0]


def _declare(writer: GGUFWriter, parts: list[Tensor]) -> None:
    import numpy as np
    from gguf import GGMLQuantizationType

    for part in parts:
        writer.add_tensor_info(
            part.name, part.shape, np.dtype(np.float32), part.nbytes, GGMLQuantizationType[part.type]
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()


def _licence(layout: Layout) -> dict[str, str]:
    if not layout.checkpoint.is_own(_CARD):
        return {}
    try:
        with open_regular(layout.checkpoint.directory / _CARD) as file:  # of any size: no reason to write nothing
            parts = file.read(_HEAD).decode("utf-8", "replace").split("---", 2)
    except OSError:
        return {}
    if len(parts) < 3 or parts[0].strip():
        return {}
    keys = {
        "license": "general.license",
        "license_name": "general.license.name",
        "license_link": "general.license.link",
    }
    found = dict(re.findall(r"^(license(?:_name|_link)?): *[\"']?([^\"'\n]+?)[\"']? *$", parts[1], re.MULTILINE))
    return {keys[name]: text for name, text in found.items()}


def _remarks(layout: Layout, words: Tokenizer | Carried) -> Iterator[str]:
    yield from words.notes
    layers = written(layout)
    if layers[0] in layout.edits.attention and ATTENTION not in export_entries(layout, FORM, layers[0]):
        yield (
            f"layer {layers[0]} keeps one product with a zero {layout.width} x {layout.width} matrix, without which "
            "llama.cpp does not load it; it needs no cache"
        )
    if len(layers) < layout.layers:
        yield (
            f"blocks {spans(layout.edits.blocks)} are gone altogether and not written: the file counts its "
            f"{len(layers)} blocks anew"
        )
    mlps = [layer for layer in layers if layer in layout.edits.mlp]
    if mlps:
        yield (
            f"in place of the MLP of layers {spans(mlps)} stands one of {NO_MLP} hidden units that computes zero, "
            "since llama.cpp leaves out the attention of layers without an MLP"
        )


def _notes(layout: Layout, words: Tokenizer | Carried, parts: list[Tensor], dtype: str) -> Iterator[str]:
    yield from _remarks(layout, words)
    other = sorted({part.type.lower() for part in parts if len(part.shape) > 1} - {dtype})
    if dtype == "q8_0" and other:
        yield f"some rows do not fill q8_0's blocks of 32 and are written as {', '.join(other)}"

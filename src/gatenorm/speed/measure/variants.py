"""What can be benchmarked, whatever form it lies in: who it is, what was removed from it, how long its context is."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gatenorm.checkpoint import TensorStore, open_store
from gatenorm.checkpoint.formats.gguf.metadata import kv_heads, read_model
from gatenorm.errors import EvaluationError, MissingExtraError
from gatenorm.exports.gguf.writer import EDITS_KEY
from gatenorm.families import Layout
from gatenorm.records import ATTENTION, MLP, REMOVE, Edits, ModelIdentity

NEMOTRON = "nemotron-nas"


@dataclass(frozen=True)
class Variant:
    """One model to time.

    Attributes:
        form: ``transformers``, ``nemotron-nas`` or ``gguf``.
        edits: what was edited, in original layers.
        context: the most tokens that it takes, where its files say so.
        layout: what gatenorm understood of it; ``None`` for forms that it only writes.
    """

    path: Path
    form: str
    identity: ModelIdentity
    edits: Edits
    context: int | None
    layout: Layout | None = None

    @property
    def name(self) -> str:
        return self.identity.name

    @classmethod
    def of(cls, layout: Layout) -> Variant:
        """A transformers directory, dense or pruned."""
        return cls(
            path=layout.checkpoint.directory,
            form="transformers",
            identity=layout.identity(),
            edits=layout.edits,
            context=layout.context,
            layout=layout,
        )

    @classmethod
    def exported(cls, path: Path) -> Variant | None:
        """What ``export`` wrote at ``path``; ``None`` where it is something else.

        Raises:
            EvaluationError: a GGUF file that is damaged, or no language model's.
            MissingExtraError: the package that reads GGUF files is not installed.
        """
        if path.is_file() and path.suffix.lower() == ".gguf":
            return _gguf(path)
        if (path / "config.json").is_file():
            checkpoint = open_store(path)
            if checkpoint.config.get("model_type") == NEMOTRON:
                return _nemotron(checkpoint)
        return None


def _nemotron(checkpoint: TensorStore) -> Variant:
    config = checkpoint.config
    blocks = config.get("block_configs") or []
    try:
        edits = Edits.of(ATTENTION, (i for i, block in enumerate(blocks) if block["attention"]["no_op"]))
        edits |= Edits.of(MLP, (i for i, block in enumerate(blocks) if block["ffn"]["no_op"]))
    except (TypeError, KeyError):
        raise EvaluationError(
            "config-wrong", f"{checkpoint.directory}/config.json: block_configs do not say what was removed"
        ) from None
    identity = ModelIdentity(
        name=checkpoint.name,
        model_type=NEMOTRON,
        layers=len(blocks),
        config_sha256=checkpoint.config_sha256,
        files=checkpoint.files,
        sample_sha256=checkpoint.sample_sha256(),
    )
    context = config.get("max_position_embeddings")
    return Variant(
        path=checkpoint.directory,
        form=NEMOTRON,
        identity=identity,
        edits=edits,
        context=context if isinstance(context, int) else None,
    )


def _gguf(path: Path) -> Variant:
    if find_spec("gguf") is None:
        raise MissingExtraError("reading GGUF files", "gguf", "gguf")
    fields = read_model(path)
    architecture = str(fields["general.architecture"])
    layers, context = int(fields[f"{architecture}.block_count"]), int(fields[f"{architecture}.context_length"])
    edits = Edits.of(ATTENTION, (i for i, count in enumerate(kv_heads(fields)) if count == 0))
    if EDITS_KEY in fields:
        edits = _edits(path, fields[EDITS_KEY])
        layers += sum(
            all(edit.operation == REMOVE for edit in edits.at(layer)) for layer in edits.blocks
        )  # blocks that are gone altogether are not in the file
    with path.open("rb") as file:
        begin = hashlib.sha256(file.read(1 << 20)).hexdigest()  # the header: its keys, names and shapes
    return Variant(
        path=path,
        form="gguf",
        identity=ModelIdentity(path.name, architecture, layers, begin, {path.name: path.stat().st_size}),
        edits=edits,
        context=context,
    )


def _edits(path: Path, text: Any) -> Edits:
    try:
        return Edits.from_json(json.loads(text))
    except (TypeError, ValueError) as error:
        raise EvaluationError(
            "gguf-edits-unreadable", f"{path}: {EDITS_KEY} is {text!r:.80} ({error})", expected="a list of edits"
        ) from None

"""What can be benchmarked, whatever form it lies in: who it is, what was removed from it, how long its context is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gatenorm.checkpoint import TensorStore, open_store
from gatenorm.checkpoint.formats.gguf.metadata import MOST_LAYERS, kv_heads, read_model
from gatenorm.errors import EvaluationError, MissingExtraError
from gatenorm.export.gguf.writer import DROP_KEY, DROP_MLP_KEY, LAYERS_KEY
from gatenorm.families import Layout
from gatenorm.records import ModelIdentity, Removal

NEMOTRON = "nemotron-nas"


@dataclass(frozen=True)
class Variant:
    """One model to time.

    Attributes:
        form: ``transformers``, ``nemotron-nas`` or ``gguf``.
        removed: original numbers of the layers without attention.
        removed_mlp: those of the layers without MLP.
        context: the most tokens that it takes, where its files say so.
        layout: what gatenorm understood of it; ``None`` for forms that it only writes.
    """

    path: Path
    form: str
    identity: ModelIdentity
    removed: tuple[int, ...]
    context: int | None
    layout: Layout | None = None
    removed_mlp: tuple[int, ...] = ()

    @property
    def removal(self) -> Removal:
        """The sublayers that it lacks."""
        return Removal(self.removed, self.removed_mlp)

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
            removed=layout.drop,
            context=layout.context,
            layout=layout,
            removed_mlp=layout.drop_mlp,
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
        removed = tuple(i for i, block in enumerate(blocks) if block["attention"]["no_op"])
        removed_mlp = tuple(i for i, block in enumerate(blocks) if block["ffn"]["no_op"])
    except (TypeError, KeyError):
        raise EvaluationError(
            f"{checkpoint.directory}/config.json: block_configs do not say what was removed"
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
        removed=removed,
        context=context if isinstance(context, int) else None,
        removed_mlp=removed_mlp,
    )


def _gguf(path: Path) -> Variant:
    if find_spec("gguf") is None:
        raise MissingExtraError("reading GGUF files", "gguf", "gguf")
    fields = read_model(path)
    architecture = str(fields["general.architecture"])
    layers, context = int(fields[f"{architecture}.block_count"]), int(fields[f"{architecture}.context_length"])
    removed = tuple(i for i, count in enumerate(kv_heads(fields)) if count == 0)
    removed_mlp: tuple[int, ...] = ()
    if LAYERS_KEY in fields:  # its blocks are not those of the source
        layers = fields[LAYERS_KEY]
        if type(layers) is not int or not 0 < layers <= MOST_LAYERS:
            raise EvaluationError(f"{path}: {LAYERS_KEY} is {layers!r:.40}, expected a number from 1 to {MOST_LAYERS}")
        removed, removed_mlp = (_layers(path, fields, key, layers) for key in (DROP_KEY, DROP_MLP_KEY))
    with path.open("rb") as file:
        begin = hashlib.sha256(file.read(1 << 20)).hexdigest()  # the header: its keys, names and shapes
    return Variant(
        path=path,
        form="gguf",
        identity=ModelIdentity(path.name, architecture, layers, begin, {path.name: path.stat().st_size}),
        removed=removed,
        context=context,
        removed_mlp=removed_mlp,
    )


def _layers(path: Path, fields: Mapping[str, Any], key: str, layers: int) -> tuple[int, ...]:
    """Layer numbers that a file of ours lists; none where it does not."""
    given = fields.get(key, [])
    known = isinstance(given, list) and all(type(i) is int and 0 <= i < layers for i in given)
    if not known or len(set(given)) < len(given):
        raise EvaluationError(f"{path}: {key} is {given!r:.40}, expected a list of layers from 0 to {layers - 1}")
    return tuple(given)

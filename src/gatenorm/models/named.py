"""Models of installed packages that are opened by a name instead of a path, such as ``demo``.

A package adds one with an entry point of the group ``gatenorm.models``. Where the model has a language of its own, its
:class:`NamedModel` says what replaces evaluations and training texts in English, for that model and for whatever was
pruned or trained from it.
"""

import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gatenorm.checkpoint import TensorStore
from gatenorm.errors import CheckpointError
from gatenorm.extensions import Extension, check_kind, extensions, passing_over, working
from gatenorm.families import Layout
from gatenorm.files import new_directory

_TOKENIZER = "tokenizer.json"
_TOKENIZERS = (_TOKENIZER, "tokenizer.model", "vocab.json")


@dataclass(frozen=True)
class OwnEvaluation:
    """An evaluation in a model's own language; ``audit_limit`` is how many items of it an audit takes."""

    name: str
    audit_limit: int


@dataclass(frozen=True, kw_only=True)
class NamedModel:
    """A model directory with a name.

    Attributes:
        directory: where it is installed.
        check: refuses a damaged directory with a :class:`CheckpointError`.
        default: whether it is the model of commands that are given none.
        evaluation: of its own ones, that which is run when none is named; empty where it has no language of its own.
        evaluations: by the name of a standard evaluation, its own one, which replaces it where no data are given.
        training_text: gives a text of about that many tokens.
        name: set by :func:`named_models`.
    """

    directory: Path
    check: Callable[[Path], None] = lambda _: None
    default: bool = False
    evaluation: str = ""
    evaluations: Mapping[str, OwnEvaluation] = field(default_factory=dict)
    training_text: Callable[[int], Any] | None = None
    name: str = ""

    def checked_directory(self) -> Path:
        """The directory, whose files are as they should be.

        Raises:
            CheckpointError: as ``check``.
        """
        self.check(self.directory)
        return self.directory

    def unpack(self, out: Path) -> None:
        """Copy the model to the new directory ``out``, whole or not at all.

        Raises:
            CheckpointError: the installed files are damaged.
            OutputError: ``out`` is not empty or cannot be written.
        """
        files = [path for path in sorted(self.checked_directory().iterdir()) if path.is_file()]
        with new_directory(out, sum(path.stat().st_size for path in files)) as temporary:
            for path in files:
                shutil.copyfile(path, temporary / path.name)


def named_model(name: str) -> NamedModel | None:
    """The model of that name, if there is one.

    Raises:
        GatenormError: what a package adds under that name cannot be loaded, or is no :class:`NamedModel`.
    """
    added = known().get(name)
    if added is None:
        return None
    model: NamedModel = added.load()
    check_kind(f"the directory of {added}", model.directory, Path)
    return replace(model, name=name)


def known() -> Mapping[str, Extension]:
    """All of them by name."""
    return extensions("models", kind=NamedModel)


def named_models() -> list[NamedModel]:
    """All models that have a name, and can be loaded."""
    return [replace(model, name=name) for name, model in working(known()).items()]


def default_model() -> str:
    """The name of the model for commands that are given none.

    Raises:
        CheckpointError: no installed package has one.
    """
    name = next((model.name for model in named_models() if model.default), None)
    if name is None:
        raise CheckpointError("model-missing", "is not named, and no package brings a default one", field="model")
    return name


def language_of(checkpoint: TensorStore) -> NamedModel | None:
    """The named model whose language a checkpoint speaks: that model itself, or one pruned or trained from it.

    They have the same tokenizer. ``None`` for all other models, those whose tokenizer cannot be read among them.
    """
    content = None
    with suppress(CheckpointError):  # whoever needs the tokenizer says what is wrong with it
        content = checkpoint.read(_TOKENIZER) if _TOKENIZER in checkpoint.companions else None
    for model in named_models() if content is not None else ():
        with passing_over(known()[model.name]):
            own = model.directory / _TOKENIZER
            if model.evaluation and own.is_file() and own.read_bytes() == content:
                return model
    return None


def reads_text(layout: Layout) -> bool:
    """Whether the model has a tokenizer and no language of its own, so that ordinary text means something to it."""
    companions = layout.checkpoint.companions
    return any(name in companions for name in _TOKENIZERS) and language_of(layout.checkpoint) is None


def named_text(name: str) -> Callable[[int], Any] | None:
    """The training text that a named model brings, if there is one of that name."""
    model = named_model(name)
    return model.training_text if model else None


def training_source(layout: Layout, given: str | None) -> str:
    """The text to train on: the one given, else that of the language that the model speaks.

    Raises:
        CheckpointError: none was given, and the model speaks no language of its own.
    """
    language = language_of(layout.checkpoint)
    if given is None and language is None:
        raise CheckpointError("data-missing", "is needed to train on", field="data")
    return given or language.name  # type: ignore[union-attr]

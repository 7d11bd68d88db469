"""What a model, pruned or dense, can be written as, besides the transformers directory that pruning leaves.

A form is a module of ``gatenorm.exports.forms`` with an :class:`Export` as ``EXPORT``; another package adds one with
an entry point of the group ``gatenorm.exports``. The command line and ``export --list`` follow from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from msgspec import structs

from gatenorm.errors import OutputError
from gatenorm.extensions import Extension, check_kind, extension, extensions, passing_over, working
from gatenorm.families import Layout
from gatenorm.files import check_apart, check_new_directory, check_new_file, new_output
from gatenorm.progress import Progress
from gatenorm.records import Edits, ModelIdentity, Written
from gatenorm.surgery.exported import engines_reading, operation_notes, unexportable


@dataclass(frozen=True)
class Variant:
    """A model that an engine can serve, whatever form it lies in.

    Attributes:
        form: ``transformers``, or the name of an export form.
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
        """A checkpoint as it lies, dense or pruned."""
        checkpoint = layout.checkpoint
        return cls(checkpoint.path, checkpoint.form, layout.identity(), layout.edits, layout.context, layout)

    @classmethod
    def exported(cls, path: Path) -> Variant | None:
        """What ``export`` wrote at ``path``; ``None`` where it is something else.

        Raises:
            CheckpointError, EvaluationError: what lies there is damaged, or no language model's.
            MissingExtraError: the package that reads the form is not installed.
        """
        form = form_at(path)
        return None if form is None else form.read(path)


class _Module(Protocol):
    def obstacles(self, layout: Layout) -> list[str]:
        """Why this model cannot be written so, one line a reason; empty when it can."""

    def remarks(self, layout: Layout) -> list[str]:
        """What whoever serves it should know, one line each."""

    def write(self, layout: Layout, out: Path, *, dtype: str, progress: Progress | None) -> Written:
        """Write it, whole or not at all; who serves it, and in which form and type, is said by the registry."""

    def recognises(self, path: Path) -> bool:
        """Whether a file or directory is of this form."""

    def read(self, path: Path) -> Variant:
        """What it says of itself."""


@dataclass(frozen=True)
class Export:
    """A form that engines read.

    Attributes:
        summary: what it is, for people.
        engines: those that serve it unpatched.
        dtypes: the types that it can be written in; ``auto`` keeps what is stored.
        is_file: whether it is one file or a directory.
        module: the module that writes it, with the functions ``obstacles``, ``remarks`` and ``write``; what is to be
            timed and verified needs ``recognises`` and ``read`` too, which say what an engine will find at a path.
        name: set by the registry.
    """

    summary: str
    engines: tuple[str, ...]
    dtypes: tuple[str, ...]
    is_file: bool
    module: str
    name: str = ""

    def obstacles(self, layout: Layout) -> list[str]:
        operation = unexportable(layout.edits, self.name)
        return self._module.obstacles(layout) + ([operation] if operation else [])

    def remarks(self, layout: Layout) -> list[str]:
        return self._module.remarks(layout) + operation_notes(layout, self.name)

    def engines_for(self, layout: Layout) -> tuple[str, ...]:
        """Those of ``engines`` that serve this model."""
        return engines_reading(layout, self.name, self.engines)

    def check_output(self, out: Path) -> None:
        """Raise OutputError, before any work is done, for an output that would replace or mix with something else."""
        (check_new_file if self.is_file else check_new_directory)(out)

    def write(self, layout: Layout, out: Path, *, dtype: str = "auto", progress: Progress | None = None) -> Written:
        """Write the model to ``out``, whole or not at all.

        Args:
            dtype: one of ``dtypes``.
            progress: called with (bytes written, bytes in all).

        Raises:
            OutputError: the model cannot be written so (with the reason), the dtype is unknown, or ``out`` is taken or
                lies inside the model.
            MissingExtraError: a package that writing needs is not installed.
        """
        if dtype not in self.dtypes:
            raise OutputError.unknown("dtype", dtype, self.dtypes, problem=f"is no type of {self.name}")
        if not self.is_file:  # a file for an engine often lies beside the weights that it was made from
            check_apart(out, layout.checkpoint.path)
        reasons = self.obstacles(layout)
        if reasons:
            problem = f"{layout.checkpoint.name} cannot be written as {self.name}: {'; '.join(reasons)}"
            raise OutputError("not-exportable", problem)
        written = self._written(layout, out, dtype=dtype, progress=progress)
        notes = (*written.notes, *operation_notes(layout, self.name))
        engines = self.engines_for(layout)
        return structs.replace(written, to=self.name, dtype=dtype, notes=notes, engines=engines)

    def _written(self, layout: Layout, out: Path, **how: Any) -> Written:
        """What the module writes, in a place of its own where it is another package's."""
        added = known().get(self.name)
        if added is None or not added.package:
            return self._module.write(layout, out, **how)
        self.check_output(out)
        with new_output(out) as place:
            written = self._module.write(layout, place, **how)
            check_kind(f"what {added} says of what it wrote", written, Written)
            if not (place.is_file() if self.is_file else place.is_dir() and any(place.iterdir())):
                expected = "a file" if self.is_file else "a directory"
                raise OutputError(
                    "out-missing", f"was not written by {added}", field="out", given=out, expected=expected
                )
        return structs.replace(written, out=str(out))

    def recognises(self, path: Path) -> bool:
        return hasattr(self._module, "recognises") and self._module.recognises(path)

    def read(self, path: Path) -> Variant:
        return self._module.read(path)

    @property
    def _module(self) -> _Module:
        # Imported when it is used: writers bring packages of their own.
        return cast(_Module, import_module(self.module))


def known() -> Mapping[str, Extension]:
    """All forms by name; none is imported."""
    return extensions("exports", ("gatenorm.exports.forms",), "EXPORT", Export)


def export_form(name: str) -> Export:
    """The form of that name.

    Raises:
        OutputError: there is none.
    """
    found: Export = extension(name, known(), OutputError, "to")
    return replace(found, name=name)


def export_forms() -> list[Export]:
    """All forms."""
    return [replace(found, name=name) for name, found in working(known()).items()]


def form_at(path: Path) -> Export | None:
    """The form of what lies at ``path``."""
    for form in export_forms():
        with passing_over(known()[form.name]):
            if form.recognises(path):
                return form
    return None

"""What a pruned checkpoint can be written as, besides the transformers directory that pruning leaves.

A new target is a module with ``obstacles`` and ``write``, and one entry here: the command line, ``export --list`` and
the table in the docs follow from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from gatenorm.errors import OutputError, did_you_mean
from gatenorm.families import Layout
from gatenorm.files import check_apart, check_new_directory, check_new_file

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Exported:
    """What was written: bytes in all, and what whoever serves it should know, one line each."""

    nbytes: int
    notes: tuple[str, ...] = ()


class _Module(Protocol):
    """What the module of a target has."""

    def obstacles(self, layout: Layout) -> list[str]:
        """Why this model cannot be written so, one line a reason; empty when it can."""

    def remarks(self, layout: Layout) -> list[str]:
        """What whoever serves it should know, one line each."""

    def write(self, layout: Layout, out: Path, *, dtype: str, progress: Progress | None) -> Exported:
        """Write it, whole or not at all."""


@dataclass(frozen=True)
class Target:
    """A form that engines read.

    ``engines`` are those that serve it unpatched; ``dtypes`` the types that ``--dtype`` may name, of which ``auto``
    keeps what is stored; ``is_file`` whether it is one file or a directory.
    """

    name: str
    summary: str
    engines: tuple[str, ...]
    dtypes: tuple[str, ...]
    is_file: bool
    module: str

    def obstacles(self, layout: Layout) -> list[str]:
        """Why this model cannot be written so, one line a reason; empty when it can."""
        return self._module.obstacles(layout)

    def remarks(self, layout: Layout) -> list[str]:
        """What whoever serves this model in this form should know, one line each."""
        return self._module.remarks(layout)

    def check_output(self, out: Path) -> None:
        """Refuse an output that would replace or mix with something else, before any work is done.

        Raises:
            OutputError: it is there already.
        """
        (check_new_file if self.is_file else check_new_directory)(out)

    def write(self, layout: Layout, out: Path, *, dtype: str = "auto", progress: Progress | None = None) -> Exported:
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
            raise OutputError(f"{self.name} has no type {dtype!r}; {did_you_mean(dtype, self.dtypes)}")
        self.check_output(out)
        if not self.is_file:  # a file for an engine often lies beside the weights that it was made from
            check_apart(out, layout.checkpoint.directory)
        reasons = self.obstacles(layout)
        if reasons:
            raise OutputError(f"{layout.checkpoint.name} cannot be written as {self.name}: {'; '.join(reasons)}")
        return self._module.write(layout, out, dtype=dtype, progress=progress)

    @property
    def _module(self) -> _Module:
        # Imported when it is used: writers bring packages of their own.
        return cast(_Module, import_module(self.module))


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target(
            name="gguf",
            summary="one GGUF file of architecture deci",
            engines=("llama.cpp", "Ollama"),
            dtypes=("auto", "f32", "f16", "bf16", "q8_0", "q4_k_m", "q5_k_m", "q6_k"),
            is_file=True,
            module="gatenorm.exports.gguf.writer",
        ),
        Target(
            name="nemotron-nas",
            summary="a directory of type nemotron-nas",
            engines=("vLLM", "SGLang", "TensorRT-LLM", "ExLlamaV3", "MLX-LM"),
            dtypes=("auto",),
            is_file=False,
            module="gatenorm.exports.nemotron.writer",
        ),
    )
}


def target(name: str) -> Target:
    """The target of that name.

    Raises:
        OutputError: there is none.
    """
    if name not in TARGETS:
        raise OutputError(f"--to {name} is not known; {did_you_mean(name, TARGETS)}")
    return TARGETS[name]

"""What people have in the place of a checkpoint, recognised for what it is."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gatenorm.checkpoint.companions import INDEX, SINGLE
from gatenorm.errors import CheckpointError

# What transformers would load into the model, and other engines would not.
ADAPTER, CONFIG = "adapter_config.json", "config.json"
# How the text begins that Git LFS leaves in the place of a large file that was not fetched.
_POINTER = b"version https://git-lfs"
PICKLED = (".bin", ".pt", ".pth", ".ckpt")
_SHOWN = 3


def check_pointer(begin: bytes, file: str | Path) -> None:
    """Raise CheckpointError for a file that begins as a Git LFS pointer does; the first 23 bytes tell."""
    if begin.startswith(_POINTER):
        problem = f"{file} is a Git LFS pointer, not the file itself"
        raise CheckpointError("lfs-pointer", problem, hint="run git lfs pull where it was cloned")


def adapter_beside(directory: Path) -> CheckpointError:
    """The error for an adapter beside the weights of a whole model."""
    problem = f"{directory} holds {ADAPTER} beside the weights of a whole model: some loaders apply it"
    return CheckpointError("adapter-beside-weights", problem, hint="merge the adapter, or move its files away")


def adapter_alone(directory: Path, settings: dict[str, Any]) -> CheckpointError:
    """The error for a directory that holds an adapter and no model."""
    base = settings.get("base_model_name_or_path")
    of = f" of {base:.80}" if isinstance(base, str) and base else ""
    hint = "merge it into its base first, with PEFT's merge_and_unload, and save that"
    return CheckpointError("adapter-alone", f"{directory} holds a LoRA adapter{of}, not a whole model", hint=hint)


def without_weights(directory: Path, names: Sequence[str]) -> CheckpointError:
    """The error for a directory in which no safetensors are found under the names that transformers reads.

    Args:
        names: what lies there besides companion files.
    """

    def ending(*endings: str) -> list[str]:
        return [name for name in names if name.lower().endswith(endings)]

    shards, files, pickled = ending(".safetensors"), ending(".gguf"), ending(*PICKLED)
    if shards:
        problem = f"{directory} holds {_some(shards)}, and no {INDEX} that says which of them are the model"
        return CheckpointError("index-missing", problem, hint=f"fetch that file too, or name a single one {SINGLE}")
    if files:
        problem = f"{directory} holds {_some(files)}: a GGUF file is a model by itself"
        return CheckpointError("gguf-in-directory", problem, hint=f"give {directory / files[0]}")
    if pickled:
        problem = f"{directory} holds only pickled weights, which can run code when loaded"
        hint = f"convert it to safetensors, or give {directory / pickled[0]} to have it read without running any"
        return CheckpointError("weights-pickled", problem, hint=hint)
    if not os.path.lexists(directory / CONFIG):
        return without_config(directory, whole=False)
    return CheckpointError(
        "weights-missing", f"{directory} has neither {SINGLE} nor {INDEX}", expected="safetensors weights"
    )


def without_config(directory: Path, *, whole: bool) -> CheckpointError:
    """The error for a directory without ``config.json``, ``whole`` where it has weights."""
    problem = f"{directory} has weights and no {CONFIG}" if whole else f"{directory} is no model: it has no {CONFIG}"
    expected = f"a directory with {CONFIG} and *.safetensors, or a .gguf file"
    return CheckpointError("config-missing", problem, expected=expected)


def file_unknown(place: str) -> CheckpointError:
    """The error for a file of no format."""
    path = Path(place)
    expected, hint = f"a directory with {CONFIG} and *.safetensors", ""
    if path.is_file() and path.name.endswith((".safetensors", INDEX, CONFIG)):
        hint = f"give the directory that it lies in, {path.parent}"
    return CheckpointError("format-unknown", f"{place} is a file", expected=expected, hint=hint)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")

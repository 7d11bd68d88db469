"""What a training that is killed at any time needs to go on as if it had not been: one file, replaced whole."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatenorm.criteria.fingerprint import differences
from gatenorm.errors import OutputError, RecoveryError

if TYPE_CHECKING:
    from torch import Tensor

STATE_SCHEMA = "gatenorm/recovery-state/1"
_FLAT = "."


@dataclass
class State:
    """After ``step`` steps: adapters, their best values so far, the optimiser's moments, what was watched.

    ``history`` has an entry a look at the held-out text: ``step``, ``held_out`` and ``loss`` (of training, mean since
    the look before) in nats per token, ``seconds`` since the beginning. ``tensors`` maps ``adapters``, ``best``,
    ``first`` and ``second`` to tensors by the parameter's name.
    """

    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    tensors: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    diverged: str | None = None

    @property
    def best(self) -> dict[str, float]:
        """The look at which the held-out loss was the least; the first of equals."""
        return min(self.history, key=lambda look: look["held_out"])

    @property
    def start(self) -> float:
        """The held-out loss before the first step."""
        return self.history[0]["held_out"]

    @property
    def seconds(self) -> float:
        return self.history[-1]["seconds"] if self.history else 0.0


def state_file(out: Path) -> Path:
    """Where the state of the recovery into ``out`` lies meanwhile."""
    return out.with_name(out.name + ".recovery-state")


def save(state: State, path: Path, key: Mapping[str, Any]) -> None:
    """Write the state so that, whenever the machine stops, this one or the one before is there whole.

    Raises:
        OutputError: it cannot be written.
    """
    from safetensors.torch import save_file

    told = {"step": state.step, "history": state.history, "diverged": state.diverged}
    metadata = {"schema": STATE_SCHEMA, "key": json.dumps(key), "told": json.dumps(told)}
    flat = {
        f"{kind}{_FLAT}{name}": tensor.detach().cpu().contiguous()
        for kind, tensors in state.tensors.items()
        for name, tensor in tensors.items()
    }
    temporary = path.with_name(f".partial-{os.getpid()}-{path.name}"[:255])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(flat, temporary, metadata)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{path} could not be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def load(path: Path, key: Mapping[str, Any]) -> State | None:
    """The state in ``path``, or ``None`` where there is none.

    Raises:
        RecoveryError: it is another recovery's, which is said by name, or damaged.
    """
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        told, theirs = json.loads(metadata["told"]), json.loads(metadata["key"])
    except (SafetensorError, OSError, KeyError, ValueError):
        raise RecoveryError(f"{path} is no readable state of a recovery: delete it, or name another -o") from None
    if metadata.get("schema") != STATE_SCHEMA:
        raise RecoveryError(f"{path} has schema {metadata.get('schema')!r}, expected {STATE_SCHEMA!r}: delete it")
    check_same(theirs, key, f"{path} is the state of another recovery", "delete it to begin anew, or name another -o")
    tensors: dict[str, dict[str, Any]] = {}
    for flat, tensor in found.items():
        kind, name = flat.split(_FLAT, 1)
        tensors.setdefault(kind, {})[name] = tensor
    return State(int(told["step"]), list(told["history"]), tensors, told["diverged"])


def check_same(found: Mapping[str, Any], asked: Mapping[str, Any], what: str, do: str) -> None:
    """Refuse what was made with another key.

    Raises:
        RecoveryError: one line with the first things that differ.
    """
    shown = differences(found, asked)
    if shown:
        raise RecoveryError(f"{what} ({shown}): {do}")

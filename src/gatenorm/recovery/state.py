"""What a training that is killed at any time needs to go on as if it had not been: one file, replaced whole."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gatenorm.errors import RecordError, RecoveryError
from gatenorm.files import replacing
from gatenorm.records.serialization import Value, from_json, to_json
from gatenorm.recovery.look import Look
from gatenorm.results import Fingerprint, check_same
from gatenorm.results.hashes import digest

if TYPE_CHECKING:
    from torch import Tensor

STATE_SCHEMA = "gatenorm/recovery-state/1"
_FLAT = "."


@dataclass
class State:
    """After ``step`` steps: what is trained, its best values so far, the optimiser's moments, what was watched.

    ``history`` has an entry a look at the held-out text. ``tensors`` maps ``adapters``, ``best``, ``first`` and
    ``second`` to tensors by the parameter's name.
    """

    step: int = 0
    history: list[Look] = field(default_factory=list)
    tensors: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    diverged: str | None = None

    @property
    def best(self) -> Look:
        """The look at which the held-out loss was the least; the first of equals."""
        return min(self.history, key=lambda look: look.held_out)

    @property
    def start(self) -> float:
        """The held-out loss before the first step."""
        return self.history[0].held_out

    @property
    def seconds(self) -> float:
        return self.history[-1].seconds if self.history else 0.0


class _Progress(Value, frozen=True, kw_only=True):
    """Of a state, everything but its tensors."""

    step: int
    history: list[Look]
    diverged: str | None


def state_file(out: Path) -> Path:
    """Where the state of the recovery into ``out`` lies meanwhile."""
    return out.with_name(out.name + ".recovery-state")


def save(state: State, path: Path, key: Fingerprint) -> None:
    """Write the state so that, whenever the machine stops, this one or the one before is there whole.

    Raises:
        OutputError: it cannot be written.
    """
    from safetensors.torch import save_file

    progress = _Progress(step=state.step, history=state.history, diverged=state.diverged)
    metadata = {"schema": STATE_SCHEMA, "key": json.dumps(to_json(key)), "progress": json.dumps(to_json(progress))}
    flat = {
        f"{kind}{_FLAT}{name}": tensor.detach().cpu().contiguous()
        for kind, tensors in state.tensors.items()
        for name, tensor in tensors.items()
    }
    metadata["sha256"] = digest([metadata["progress"], metadata["key"], sorted(flat)])
    with replacing(path, parents=True) as temporary:
        save_file(flat, temporary, metadata)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())


def load(path: Path, key: Fingerprint) -> State | None:
    """The state in ``path``, or ``None`` where there is none.

    Raises:
        OutputError: it is another recovery's; it says what differs.
        RecoveryError: it is damaged.
    """
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            saved = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        if metadata["sha256"] != digest([metadata["progress"], metadata["key"], sorted(saved)]):
            raise ValueError
        progress = from_json(_Progress, json.loads(metadata["progress"]), "a recovery")
        other = from_json(Fingerprint, json.loads(metadata["key"]), "a recovery")
        tensors: dict[str, dict[str, Tensor]] = {}
        for flat, tensor in saved.items():
            kind, name = flat.split(_FLAT, 1)
            tensors.setdefault(kind, {})[name] = tensor
    except (SafetensorError, OSError, KeyError, ValueError, RecursionError, RecordError):
        raise RecoveryError(
            "state-damaged", f"{path} is no readable state of a recovery", hint="delete it, or write elsewhere"
        ) from None
    if metadata.get("schema") != STATE_SCHEMA:
        problem = f"{path} has schema {metadata.get('schema')!r}"
        raise RecoveryError("schema-unknown", problem, expected=repr(STATE_SCHEMA), hint="delete it")
    check_same(other, key, f"{path} is the state of another recovery", "delete it to begin anew, or write elsewhere")
    return State(progress.step, progress.history, tensors, progress.diverged)

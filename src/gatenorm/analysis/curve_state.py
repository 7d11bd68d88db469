"""What a curve has measured so far, in a file if one is named, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gatenorm.criteria.fingerprint import differences
from gatenorm.errors import EvaluationError, OutputError
from gatenorm.records import read_json

STATE_SCHEMA = "gatenorm/curve-state/1"

Figures = Mapping[str, float]


class CurveState:
    """Figures by set of removed layers and by what measured them.

    A file of another model (its tokenizer counts), text or protocol, or of other software, is refused; so is one in
    which something of the same name was measured in another way. What is asked for anew, such as a task, is added.

    Args:
        key: the model, the text, how perplexity is taken and the software, as plain JSON.
        probes: what decides the figures of everything that is measured, by name.

    Raises:
        EvaluationError: a file of another curve, or a damaged one.
    """

    def __init__(self, path: Path | None, key: Mapping[str, Any], probes: Mapping[str, Mapping[str, Any]]):
        self.path = path
        self._known: dict[frozenset[int], dict[str, Figures]] = {}
        self._protocols: dict[str, Any] = {}
        # Through JSON and back, so that they compare with what was read.
        self._key: dict[str, Any] = json.loads(json.dumps(key))
        self._probes: dict[str, Any] = json.loads(json.dumps(probes))
        if path is not None and path.exists():
            self._read(path)

    def has(self, layers: frozenset[int], probe: str) -> bool:
        """Whether that was measured."""
        return probe in self._known.get(layers, {})

    def get(self, layers: frozenset[int], probe: str) -> Figures:
        """The figures that were measured."""
        return self._known[layers][probe]

    def protocol(self, probe: str) -> Mapping[str, Any]:
        """How it was measured, as it was said when that was done."""
        found: Mapping[str, Any] = self._protocols[probe]
        return found

    def keep(self, layers: frozenset[int], probe: str, figures: Figures, protocol: Mapping[str, Any]) -> None:
        """Add figures, and write the file.

        Args:
            protocol: how they were measured, for whoever goes on from here.

        Raises:
            OutputError: it cannot be written.
        """
        self._known.setdefault(layers, {})[probe] = figures
        self._protocols[probe] = json.loads(json.dumps(protocol))
        if self.path is None:
            return
        measured = [{"removed": sorted(gone), "figures": found} for gone, found in self._known.items()]
        probes = {"probes": self._probes, "protocols": self._protocols}
        whole = {"schema": STATE_SCHEMA, "key": self._key, **probes, "measured": measured}
        temporary = self.path.with_name(f".partial-{os.getpid()}-{self.path.name}"[:255])
        try:
            temporary.write_text(json.dumps(whole) + "\n", encoding="utf-8")
            temporary.replace(self.path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise OutputError(f"--state {self.path} could not be written: {error.strerror}") from None

    def _read(self, path: Path) -> None:
        found = read_json(path, "--state")
        theirs = found.get("key")
        if found.get("schema") != STATE_SCHEMA or not isinstance(theirs, dict):
            raise EvaluationError(f"--state {path} is no state of a curve that can be read: name another file")
        differ = differences(theirs, self._key)
        if differ:
            raise EvaluationError(f"--state {path} holds another curve's measurements ({differ}): name another file")
        try:
            earlier, self._protocols = dict(found["probes"]), dict(found["protocols"])
            for entry in found["measured"]:
                figures = {
                    str(probe): {str(name): float(value) for name, value in of_one.items()}
                    for probe, of_one in entry["figures"].items()
                }
                self._known[frozenset(entry["removed"])] = dict(figures)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise EvaluationError(f"--state {path} is damaged: delete it, or name another file") from None
        differs = next((name for name, key in self._probes.items() if earlier.get(name, key) != key), None)
        if differs is not None:
            how = differences(earlier[differs], self._probes[differs])
            raise EvaluationError(f"--state {path} holds {differs} measured in another way ({how}): name another file")
        self._probes = {**earlier, **self._probes}

"""What a curve has measured so far, kept in a directory if one is named, so that a stopped run can continue."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gatenorm.records.serialization import Value
from gatenorm.results import Fingerprint, ResultStore


class Measurement(Value, frozen=True, kw_only=True):
    """Figures by name, and how they were measured."""

    figures: dict[str, float]
    protocol: dict[str, Any]


class CurveResults:
    """Measurements by set of removed layers and by what measured them.

    A directory of another model (its tokenizer counts), text or protocol, or of other software, is refused; so is one
    in which something of the same name was measured in another way. What is asked for anew, such as a task, is added.

    Args:
        probes: what the figures of everything that is measured follow from, by name; ``None`` keeps nothing.

    Raises:
        OutputError: a directory of another curve, or one that cannot be written.
        RecordError: a damaged directory.
    """

    def __init__(self, directory: Path | None, probes: Mapping[str, Fingerprint] | None):
        self._store = None if directory is None else ResultStore(directory)
        self._probes = dict(probes or {})
        self._known: dict[tuple[frozenset[int], str], Measurement] = {}
        if self._store is not None:
            for name, fingerprint in self._probes.items():
                self._store.claim(f"{name} of a curve", fingerprint, "state")

    def has(self, layers: frozenset[int], probe: str) -> bool:
        if (layers, probe) not in self._known and self._store is not None:
            kept = self._store.get(self._fingerprint(layers, probe), Measurement)
            if kept is not None:
                self._known[layers, probe] = kept
        return (layers, probe) in self._known

    def get(self, layers: frozenset[int], probe: str) -> Mapping[str, float]:
        return self._known[layers, probe].figures

    def protocol(self, probe: str) -> Mapping[str, Any]:
        return next(measurement.protocol for (_, name), measurement in reversed(self._known.items()) if name == probe)

    def keep(
        self, layers: frozenset[int], probe: str, figures: Mapping[str, float], protocol: Mapping[str, Any]
    ) -> None:
        """Add figures, and write them.

        Raises:
            OutputError: they cannot be written.
        """
        measurement = Measurement(figures=dict(figures), protocol=dict(protocol))
        self._known[layers, probe] = measurement
        if self._store is not None:
            self._store.put(self._fingerprint(layers, probe), measurement)

    def _fingerprint(self, layers: frozenset[int], probe: str) -> Fingerprint:
        return self._probes[probe].asking(removed=sorted(layers))

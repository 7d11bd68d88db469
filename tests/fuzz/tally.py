"""How much was tried of each parser, in this run and in those before it whose folder it was given."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Count:
    """``first`` and ``second``: how many were read and refused, or how many inputs there were and reached new code."""

    seconds: float = 0.0
    first: int = 0
    second: int = 0
    findings: list[str] = field(default_factory=list)


class Tally:
    """Counts by parser, which lie in a file where there is one."""

    def __init__(self, file: Path | None, *, guided: bool):
        self._file, self._guided = file, guided
        given = json.loads(file.read_text(encoding="utf-8")) if file is not None and file.exists() else {}
        self._counts = {name: Count(**count) for name, count in given.items()}

    @classmethod
    def of(cls, folder: Path | None, *, guided: bool) -> Tally:
        """That of a folder, or of no more than this run."""
        if folder is None:
            return cls(None, guided=guided)
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder / ("guided.json" if guided else "mutants.json"), guided=guided)

    def __getitem__(self, name: str) -> Count:
        return self._counts.get(name, Count())

    def add(self, name: str, count: Count) -> None:
        """What was tried besides; of inputs that reached new code, the number is that of all of them."""
        before = self[name]
        second = count.second if self._guided else before.second + count.second
        seconds, findings = before.seconds + count.seconds, [*before.findings, *count.findings]
        self._counts[name] = Count(seconds, before.first + count.first, second, findings)
        if self._file is not None:
            text = json.dumps({name: asdict(count) for name, count in self._counts.items()}, indent=1)
            temporary = self._file.with_suffix(".new")
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(self._file)

    def table(self, names: Sequence[str]) -> str:
        """As the documentation has it."""
        columns = ("inputs", "that reached new code") if self._guided else ("read", "refused")
        lines = [f"| parser | seconds | {columns[0]} | {columns[1]} | findings |", "|---|---|---|---|---|"]
        found = [(name, self[name]) for name in names]
        total = Count(*(sum(getattr(count, key) for _, count in found) for key in ("seconds", "first", "second")))
        total.findings.extend(line for _, count in found for line in count.findings)
        for name, count in [*found, ("all", total)]:
            figures = f"{count.seconds:,.0f} | {count.first:,} | {count.second:,} | {len(count.findings)}"
            lines.append(f"| {name} | {figures} |")
        return "\n".join(lines) + "\n"

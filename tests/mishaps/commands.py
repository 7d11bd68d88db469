"""The commands that mishaps are made for, on the smallest models, and what a look at their folder says afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from gatenorm.cli import main
from gatenorm.demo.package import MODEL
from tests.audit.audits import SMALL, differences, figures, without_timings
from tests.families.gguf_files import write as write_gguf

AUDIT: dict[str, Any] = {
    **SMALL,
    "budgets": {"shares": [0.125], "replace": ["remove"]},
    "rankings": {"criteria": ["gate-norm"], "length": 16, "random_draws": 0},
    "evaluation": {"stories_limit": 1, "zeroshot_limit": 1, "refusal": "none", "retrieval": False},
    "search": {"gate": None},
}
_RECOVERY = "--steps 12 --watch-every 2 --watch-windows 2 --length 32 --batch 1 --rank 2 --held-out demo --data demo"
_SCORE = "--criterion cosine@random --samples 8 --length 64 --layer-by-layer"
# Long enough ago that what lies there is no longer being made.
_LONG_AGO = 3600


class Models:
    """What the commands read, made once."""

    def __init__(self, folder: Path):
        self.demo = str(shutil.copytree(MODEL.checked_directory(), folder / "demo"))
        self.gguf = str(write_gguf(Path(self.demo), "llama", folder / "model.gguf"))
        self.pruned = str(folder / "pruned")
        self.audit, self.ray = str(folder / "audit.yaml"), str(folder / "ray.yaml")
        Path(self.audit).write_text(yaml.safe_dump(AUDIT), encoding="utf-8")
        on_ray = {**AUDIT["run"], "executor": "ray"}
        Path(self.ray).write_text(yaml.safe_dump({**AUDIT, "run": on_ray}), encoding="utf-8")
        assert ended(start(["prune", self.demo, "--drop", "1,2", "-o", self.pruned], folder / "log"), 600) == 0


@dataclass(frozen=True)
class Command:
    """One command: its arguments, its output's name and option, and whether it goes on where it was stopped.

    ``FOLDER`` in its arguments is where the output lies. ``workers`` are Ray's; nothing else happens to such a command
    than that these are killed. One that ``judges`` what it reads has another answer when that changes.
    """

    name: str
    arguments: Callable[[Models], str]
    source: Callable[[Models], str]
    out: str = "out"
    resumes: bool = False
    workers: bool = False
    option: str = "-o"
    judges: bool = False

    @property
    def audits(self) -> bool:
        return self.name.startswith("audit")

    def line(self, models: Models, folder: Path) -> list[str]:
        arguments = [str(folder) if one == "FOLDER" else one for one in self.arguments(models).split()]
        return [*arguments, self.option, str(folder / self.out)]


COMMANDS = {
    command.name: command
    for command in (
        Command("prune", lambda m: f"prune {m.demo} --drop 1", lambda m: m.demo),
        Command("prune (GGUF)", lambda m: f"prune {m.gguf} --drop 1", lambda m: m.gguf, "out.gguf"),
        Command("export (GGUF)", lambda m: f"export {m.pruned} --to gguf", lambda m: m.pruned, "out.gguf"),
        Command("export (NAS)", lambda m: f"export {m.pruned} --to nemotron-nas", lambda m: m.pruned),
        Command("convert", lambda m: f"convert {m.gguf}", lambda m: m.gguf),
        Command(
            *("score", lambda m: f"score {m.demo} {_SCORE} --activations FOLDER", lambda m: m.demo, "out.json"),
            option="--json",
        ),
        Command(
            *("verify", lambda m: f"verify {m.pruned} --against {m.pruned} --tokens 4", lambda m: m.pruned),
            *("out.json",),
            option="--json",
            judges=True,
        ),
        Command("recover", lambda m: f"recover {m.pruned} {_RECOVERY}", lambda m: m.pruned, resumes=True),
        Command("audit", lambda m: f"audit {m.demo} --config {m.audit}", lambda m: m.demo, resumes=True),
        Command(
            "audit (Ray)", lambda m: f"audit {m.demo} --config {m.ray}", lambda m: m.demo, resumes=True, workers=True
        ),
    )
}


def start(
    line: list[str], log: Path, prepare: Callable[[], object] = lambda: None, imported: Path | None = None
) -> int:
    """The process number of a command that has just begun in a child, which shares this process's imports.

    The child writes to ``imported`` which modules it has in the end.
    """
    number = os.fork()
    if number:
        return number
    status = 70
    try:
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(target, 1)
        os.dup2(target, 2)
        prepare()
        if sys.stdout is not None:  # the parent's knows whether that one was a file
            sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        status = main(line)
        if imported is not None:
            imported.write_text("\n".join(sys.modules), encoding="utf-8")
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)


def ended(number: int, within: float, by: int = signal.SIGKILL) -> int | None:
    """The exit status of a child; ``None``: it had not ended by then, and was sent the signal ``by``."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        found, status = os.waitpid(number, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(number, by)
    if by == signal.SIGKILL:
        os.waitpid(number, 0)
    return None


def import_all(names: list[str]) -> None:
    """Import what a child had to, so that those to come have it already."""
    for name in names:
        if name not in sys.modules and name != "__main__":
            with suppress(Exception):  # some are made by others, and some names are not importable
                import_module(name)


@dataclass
class Series:
    """One command in a folder of its own, again and again, and what it should end in."""

    command: Command
    models: Models
    folder: Path
    wanted: Path
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    @classmethod
    def begun(cls, command: Command, models: Models, place: Path) -> Series:
        """After two undisturbed runs, which end in the same; the second takes ``seconds``, with imports shared."""
        folder = place / command.name.replace(" ", "-")
        series = cls(command, models, folder / "torn", folder / "whole" / command.out)
        (folder / "whole").mkdir(parents=True)
        modules = folder / "modules"
        status = ended(series.start_in(folder / "whole", imported=modules), 600)
        assert status == 0, (command.name, status, series.said())
        import_all(modules.read_text(encoding="utf-8").split())
        series.renew()
        began = time.monotonic()
        series.finish()
        series.seconds = time.monotonic() - began
        series.renew()
        return series

    def renew(self) -> None:
        """Begin with an empty folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()

    def begin(self) -> None:
        """Begin with an empty folder, or go on with what a command that can left there."""
        self.aged()
        if not self.command.resumes or self.left() == "whole":
            self.renew()

    def start(self, prepare: Callable[[], object] = lambda: None) -> int:
        return self.start_in(self.folder, prepare)

    def start_in(self, folder: Path, prepare: Callable[[], object] = lambda: None, imported: Path | None = None) -> int:
        """The command with another folder."""
        line = self.command.line(self.models, folder)

        def prepared() -> None:
            os.environ["GATENORM_CACHE"] = str(folder / "cache")
            prepare()

        return start(line, self.log, prepared, imported)

    @property
    def log(self) -> Path:
        return self.folder.with_name("log")

    @property
    def out(self) -> Path:
        return self.folder / self.command.out

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace").strip() if self.log.exists() else ""

    def left(self) -> str:
        """``nothing``, ``whole`` or ``resumable``; anything else is a finding."""
        others = {p.name for p in self.folder.iterdir()} - {
            self.command.out,
            "cache",
            f"{self.command.out}.recovery-state",
        }
        strays = sorted(name for name in others if not _is_partial(name))
        if strays:
            return f"stray {strays}"
        if self.out.exists():
            differing = self.differing()
            if not differing:
                return "whole"
            return "resumable" if self.command.audits else f"torn: {differing}"
        return "resumable" if self.state().exists() else "nothing"

    def state(self) -> Path:
        """Where a recovery keeps what it goes on from."""
        return self.out.with_name(f"{self.command.out}.recovery-state")

    def measured(self) -> dict[str, int]:
        """The measurements that an audit keeps, with the time of each file: none is lost, or made again."""
        return {p.name: p.stat().st_mtime_ns for p in (self.out / "state" / "measured").glob("*.json")}

    def partials(self) -> list[Path]:
        """What is half written, here or further down."""
        return [path for path in self.folder.rglob("*") if _is_partial(path.name)]

    def aged(self) -> None:
        """Let what is half written look as though it had been left an hour ago."""
        for path in self.partials():
            os.utime(path, times=(time.time() - _LONG_AGO,) * 2, follow_symlinks=False)

    def differing(self, other: Path | None = None) -> list[str]:
        """Where the output differs from another one, that of an undisturbed run, but for timings."""
        other = other or self.wanted
        if self.command.audits:
            names = [{str(p.relative_to(top)) for p in top.glob("*")} for top in (self.out, other)]
            if names[0] != names[1]:
                return sorted(names[0] ^ names[1])
            return differences(figures(self.out), figures(other))
        found, wanted = contents(self.out), contents(other)
        return sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))

    def finish(self) -> None:
        """Run to the end; note what is wrong then: another outcome, or something half written that stayed."""
        self.aged()
        status = ended(self.start(), 600)
        if status != 0 or self.left() != "whole":
            self.wrong.append(f"ended with {status}: {self.left()}: {self.said():.300}")
        self.wrong += [f"still there at the end: {path.name}" for path in self.partials()]


def _is_partial(name: str) -> bool:
    return name.startswith(".") and "partial-" in name


def contents(out: Path) -> dict[str, str]:
    """A hash of each file, without timings; of a recovery's records only that they can be read."""
    files = [out] if out.is_file() else [path for path in out.rglob("*") if path.is_file()]
    found = {}
    for path in files:
        data = path.read_bytes()
        if path.name in ("recovery.json", "README.md"):
            data = b"read" if path.suffix == ".md" or json.loads(data) else b""
        elif path == out and path.suffix == ".json":
            data = json.dumps(without_timings(json.loads(data))).encode()
        found[str(path.relative_to(out))] = hashlib.sha256(data).hexdigest()
    return found

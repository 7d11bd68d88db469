"""A package that extends gatenorm, put on the path of commands: what the tests of broken ones share."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "evil-extension"
CRITERION = """
import numpy as np
from gatenorm.criteria.criterion import ForwardCriterion, Measured, WeightCriterion
def formula(weights, backend):
    {}
THING = WeightCriterion(summary="s", formula=formula, reads=("q",))
"""
MODEL = """
from gatenorm.models.named import NamedModel
THING = NamedModel(directory={}, evaluation="evil")
"""

# Runs a command in a child for each line, so that all share what is imported, and none what it found out.
SERVER = """
import json, os, sys
import torch, transformers.models.llama.modeling_llama
import gatenorm.api, gatenorm.cli.application

for line in sys.stdin:
    place, out, err, *arguments = json.loads(line)
    number = os.fork()
    if not number:
        status = 99
        try:
            for stream, path in ((1, out), (2, err)):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), stream)
            sys.path.insert(0, place)
            os.environ["GATENORM_CACHE"] = place + "/cache"
            os.environ["PYTHONPATH"] = place  # of its own children, such as those that time
            status = gatenorm.cli.main(arguments)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]), flush=True)
"""


@dataclass(frozen=True)
class Answer:
    status: int
    out: str
    err: str


class Installed:
    """A package on the path, and commands that meet it."""

    def __init__(self, place: Path, server: subprocess.Popen[str]):
        self.place, self.server = place, server
        (place / "evil").mkdir(parents=True)
        (place / "evil/__init__.py").touch()

    def add(self, source: str, points: str, package: str = PACKAGE) -> Installed:
        """One module ``evil.thing``, and its entry points."""
        (self.place / "evil/thing.py").write_text(source)
        described = self.place / f"{package.replace('-', '_')}-1.0.dist-info"
        described.mkdir()
        (described / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (described / "entry_points.txt").write_text(points)
        return self

    def run(self, *arguments: object) -> Answer:
        """A command in a process that knows of no other package than this one."""
        out, err = self.place / "out.txt", self.place / "err.txt"
        asked = [str(self.place), str(out), str(err), *map(str, arguments)]
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(json.dumps(asked) + "\n")
        self.server.stdin.flush()
        return Answer(int(self.server.stdout.readline()), out.read_text("utf-8"), err.read_text("utf-8"))

    def works(self, *arguments: object, warned: bool = True) -> Answer:
        """A command that needs nothing of the package: it says at most that the package is broken."""
        found = self.run(*arguments)
        assert found.status == 0, (arguments, found.err)
        check_printable(found)
        lines = [line for line in found.err.splitlines() if "evil" in line]
        assert len(lines) <= 1, found.err
        assert all(line.startswith(f"warning: the package {PACKAGE} is broken") for line in lines), found.err
        assert not warned or lines, arguments
        return found

    def doctor(self) -> dict[str, list[str]]:
        """What doctor says of the package."""
        (found,) = json.loads(self.run("doctor", "--json", "-").out)["packages"]
        assert found["name"] == PACKAGE
        return {key: found[key] for key in ("adds", "problems")}

    def refused(self, *arguments: object, lines: int = 1) -> str:
        """A command that needs the package: one line that names it."""
        found = self.run(*arguments)
        assert found.status == 2, (arguments, found)
        check_printable(found)
        said = found.err.splitlines()
        assert said[-1].startswith("error: "), found.err
        assert len(said) <= lines, found.err
        assert "evil" in said[-1] or lines > 1, found.err
        assert not [path.name for path in self.place.iterdir() if path.name.startswith(("made", ".made"))]
        return said[-1]


def check_printable(found: Answer) -> None:
    for text in (found.out, found.err):
        assert all(line.isprintable() for line in text.splitlines()), text
        assert "Traceback" not in text, text


def points(*groups: str, name: str = "evil") -> str:
    return "".join(f"[gatenorm.{group}]\n{name} = evil.thing:THING\n" for group in groups)


def with_config(model: Path, place: Path, **changes: object) -> Path:
    shutil.copytree(model, place)
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**config, **changes}))
    return place

"""Packages that extend gatenorm and are broken, or lie: in the way of nobody who does not ask for what they add."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gatenorm.extensions import GROUPS

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")

ROOT = Path(__file__).parents[2]
PACKAGE = "evil-extension"
# How the import of everything that the package adds ends.
IMPORTS = {
    "ImportError": "raise ImportError('no such\\nlibrary \\x1b[31mred')",
    "SyntaxError": "def (",
    "SystemExit": "raise SystemExit(3)",
    "many lines": "raise RuntimeError('first \\x1b]0;owned\\x07\\nsecond\\n' + 'x' * 5000)",
    "no message": "raise ZeroDivisionError",
    "no attribute": "",
    "wrong type": "THING = 7",
}
CRITERION = """
import numpy as np
from gatenorm.criteria.criterion import ForwardCriterion, Measured, WeightCriterion
def formula(weights, backend):
    {}
THING = WeightCriterion(summary="s", formula=formula, reads=("q",))
"""
FORWARD = """
from gatenorm.criteria.criterion import ForwardCriterion, Measured
def measure(run):
    {}
THING = ForwardCriterion(summary="s", measure=measure)
"""
EVALUATION = """
import sys
from gatenorm.evaluation.core.job import Job
from gatenorm.evaluation.core.task import Task
from gatenorm.records.evidence import Evidence
def measure(model, progress):
    progress(1, 2)
    {}
def prepare(request):
    {}
    return [Job("evil", "evil", "models", {{}}, measure)]
THING = Task("what", prepare)
"""
ENGINE = """
from gatenorm.engines.transformers import Transformers
class THING(Transformers):
    {}
"""
EXPORT = """
from gatenorm.exports.registry import Export
from gatenorm.records import Written
def obstacles(layout):
    {}
    return []
def remarks(layout):
    return []
def recognises(path):
    {}
    return False
def write(layout, out, *, dtype, progress):
    {}
    return Written(out=str(out), bytes=1)
THING = Export(summary="s", engines=("none",), dtypes=("auto",), is_file=True, module="evil.thing")
"""
FORMAT = """
class Format:
    def recognises(self, place):
        {}
        return place.endswith(".evil")
    def open(self, place):
        {}
THING = Format()
"""
QUANTISATION = """
from gatenorm.checkpoint.quantisation import Quantisation
def recognises(settings):
    {}
    return settings.get("quant_method") == "evil"
def float32(parts, rows):
    {}
THING = Quantisation(
    summary="evil", recognises=recognises, markers=(".evil",), parts=(".evil",), float32=float32,
    shape=lambda parts: parts.shape(".evil"),
)
"""
OPERATION = """
from gatenorm.surgery.operation import Operation
def shapes(width):
    {}
THING = Operation(summary="s", shapes=shapes)
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


@pytest.fixture(scope="module")
def server() -> Iterator[subprocess.Popen[str]]:
    program = [sys.executable, "-c", SERVER]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        yield process


@pytest.fixture
def installed(tmp_path: Path, server: subprocess.Popen[str]) -> Installed:
    return Installed(tmp_path / "installed", server)


def points(*groups: str, name: str = "evil") -> str:
    return "".join(f"[gatenorm.{group}]\n{name} = evil.thing:THING\n" for group in groups)


def with_config(model: Path, place: Path, **changes: object) -> Path:
    shutil.copytree(model, place)
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**config, **changes}))
    return place


# ---- what cannot be imported


@pytest.mark.parametrize("how", IMPORTS)
def test_commands_that_do_not_need_it(how: str, installed: Installed):
    installed.add(IMPORTS[how], points(*GROUPS))
    pruned = installed.place / "pruned"
    installed.works("score", "demo", warned=False)
    installed.works("prune", "demo", "--drop", 1, "-o", pruned, warned=False)
    for command in (
        ["score", "--help"],
        ["eval", "--help"],
        ["inspect", "demo"],
        ["export", "--list", pruned],
        ["export", pruned, "--to", "nemotron-nas", "-o", installed.place / "nas"],
        ["eval", pruned, "--limit", 1],
    ):
        installed.works(*command)
    assert PACKAGE in installed.works("doctor").out
    shown = installed.doctor()
    assert sorted(shown["adds"]) == sorted(f"{group}: evil" for group in GROUPS)
    assert shown["problems"]


@pytest.mark.parametrize("how", IMPORTS)
def test_commands_that_need_it(how: str, installed: Installed, tiny_models: Callable[..., Path]):
    installed.add(IMPORTS[how], points(*GROUPS))
    place, tiny = installed.place, tiny_models("llama-gqa")
    made = place / "made"
    (place / "model.evil").touch()
    installed.refused("score", "demo", "--criterion", "evil")
    installed.refused("eval", "demo", "--tasks", "evil")
    installed.refused("eval", "demo", "--engine", "evil")
    installed.refused("bench", "demo", "--engine", "evil")
    installed.refused("export", "demo", "--to", "evil", "-o", made)
    installed.refused("score", "evil")
    installed.refused("prune", "demo", "--drop", 1, "--replace", "evil", "-o", made)
    family = with_config(tiny, place / "family", model_type="evil")
    installed.refused("score", family)
    installed.refused("score", tiny, "--family", "evil")
    # Nobody can know that it would have been theirs.
    quantised = with_config(tiny, place / "quantised", quantization_config={"quant_method": "evil"})
    installed.refused("score", quantised, lines=2)
    installed.refused("score", place / "model.evil", lines=2)


def test_entry_points_that_cannot_be_read(installed: Installed):
    installed.add("", "[gatenorm.criteria]\nno equals sign\n")
    installed.works("score", "demo")
    assert "cannot be read" in installed.doctor()["problems"][0]


@pytest.mark.parametrize("value", ["no colon ( here", ":", "evil.thing:THING.what", "..evil:x", ""])
def test_entry_points_that_lead_nowhere(value: str, installed: Installed):
    installed.add("THING = 1", f"[gatenorm.criteria]\nevil = {value}\n")
    installed.works("score", "demo", warned=False)
    installed.works("score", "--help")
    installed.refused("score", "demo", "--criterion", "evil")


# ---- names


@pytest.mark.parametrize(
    "name", ["\x1b[31mred", "[red]x[/red]", "<img src=x>", "../../x", "a,b", "a@b", "a:b", "-x", "x" * 5000 + "!"]
)
def test_names_that_are_none(name: str, installed: Installed):
    installed.add(CRITERION.format("return 1.0"), points("criteria", "evaluations", "exports", "families", name=name))
    found = installed.works("score", "demo")
    assert "proper name" in found.err
    assert all("proper name" in problem for problem in installed.doctor()["problems"])


def test_a_built_in_name_stays_what_it_is(installed: Installed):
    before = installed.run("score", "demo", "--json", "-").out
    installed.add(CRITERION.format("return 1.0"), points("criteria", name="gate-norm"))
    found = installed.works("score", "demo", "--json", "-")
    assert "has the name of gate-norm of the package gatenorm" in found.err
    assert json.loads(found.out)["layers"] == json.loads(before)["layers"]


def test_a_built_in_family_and_model_stay_what_they_are(installed: Installed, tiny_models: Callable[..., Path]):
    source = f"{MODEL.format('None')}\nFAMILY = {{'model_type': 'llama', 'like': 'gpt2'}}"
    installed.add(source, points("models", name="demo") + "[gatenorm.families]\nllama = evil.thing:FAMILY\n")
    installed.works("score", "demo")
    installed.works("score", tiny_models("llama-gqa"))


def test_a_name_that_two_packages_claim_is_neither_s(installed: Installed):
    source = CRITERION.format("return 1.0")
    installed.add(source, points("criteria")).add(source, points("criteria"), "evil-twin")
    found = installed.run("score", "demo")
    assert found.status == 0
    assert found.err.count("warning: ") == 1
    said = installed.refused("score", "demo", "--criterion", "evil", lines=2)
    assert PACKAGE in said
    assert "evil-twin" in said


# ---- what they do when they are asked


@pytest.mark.parametrize(
    "body",
    [
        "return float('nan')",
        "return float('inf')",
        "return None",
        "return 'x'",
        "return 1j",
        "return [1.0]",
        "return np.ones(99)",
        "return np.ones(0)",
        "return np.ones((2, 2))",
        "return np.array(['a'] * 4)",
        "return np.array([None] * 4)",
        "return np.full(4, np.nan)",
        "raise KeyError('first\\nsecond \\x1b[31m')",
        "import sys; sys.exit(0)",
        "return weights.nothing",
    ],
)
def test_criteria_from_weights(body: str, installed: Installed):
    installed.add(CRITERION.format(body), points("criteria"))
    made = installed.place / "made"
    installed.refused("score", "demo", "--criterion", "evil")
    installed.refused("prune", "demo", "--criterion", "evil", "--layers", 1, "-o", made)
    installed.refused("score", "demo", "--criterion", "evil", "--json", made)


@pytest.mark.parametrize(
    "body",
    [
        "return None",
        "return Measured(None)",
        "return Measured({})",
        "return Measured({0: 1.0})",
        "return Measured({layer: float('nan') for layer in run.layers})",
        "return Measured({layer: 'x' for layer in run.layers})",
        "return Measured({**{layer: 1.0 for layer in run.layers}, 99: 1.0})",
        "raise RuntimeError",
    ],
)
def test_criteria_that_run_the_model(body: str, installed: Installed):
    installed.add(FORWARD.format(body), points("criteria"))
    few = ("--samples", 1, "--length", 8)
    installed.refused("score", "demo", "--criterion", "evil@random", *few, "--json", installed.place / "made")


@pytest.mark.parametrize(
    ("measure", "prepare"),
    [
        ("raise RuntimeError('first\\nsecond')", ""),
        ("sys.exit(0)", ""),
        ("return {'loss': 1.0}", ""),
        ("return None", ""),
        ("", "raise ValueError"),
        ("", "return None"),
        ("", "return [1]"),
    ],
)
def test_evaluations(measure: str, prepare: str, installed: Installed):
    installed.add(EVALUATION.format(measure or "pass", prepare or "pass"), points("evaluations"))
    installed.refused("eval", "demo", "--tasks", "evil", "--json", installed.place / "made")
    installed.works("eval", "demo", "--limit", 1, warned=False)


@pytest.mark.parametrize(
    "body",
    [
        "can = classmethod(lambda cls, able: 1 / 0)",
        "reads = None",
        "package = None",
        "installed = property(lambda self: 1 / 0)",
        "__init__ = None",
    ],
)
def test_engines_that_cannot_say_what_they_can(body: str, installed: Installed):
    installed.add(ENGINE.format(body), points("engines"))
    pruned = installed.place / "pruned"
    installed.works("eval", "demo", "--limit", 1, warned=False)
    installed.works("prune", "demo", "--drop", 1, "-o", pruned, warned=False)
    installed.works("verify", pruned, "--against", pruned, "--tokens", 2, warned="can" not in body)
    installed.works("doctor", warned="reads" not in body)


def test_engines_that_open_nothing(installed: Installed):
    installed.add(ENGINE.format("def open(self, path): raise RuntimeError('x\\ny')"), points("engines"))
    pruned = installed.place / "pruned"
    installed.works("prune", "demo", "--drop", 1, "-o", pruned, warned=False)
    installed.refused("verify", pruned, "--against", pruned, "--engine", "evil", "--tokens", 2)


@pytest.mark.parametrize(
    ("obstacles", "write"),
    [
        ("", "pass"),
        ("", "out.write_text('half'); 1 / 0"),
        ("", "out.mkdir(); (out / 'half').touch(); raise SystemExit(0)"),
        ("", "out.mkdir()"),
        ("", "out.write_text('x'); return None"),
        ("return 1 / 0", "pass"),
    ],
)
def test_export_forms(obstacles: str, write: str, installed: Installed):
    installed.add(EXPORT.format(obstacles or "pass", "pass", write), points("exports"))
    installed.refused("export", "demo", "--to", "evil", "-o", installed.place / "made")
    installed.works("export", "--list", "demo", warned=bool(obstacles))
    installed.works("inspect", "demo", warned=bool(obstacles))


def test_an_export_form_that_fails_to_recognise(installed: Installed):
    installed.add(EXPORT.format("pass", "1 / 0", "pass"), points("exports"))
    pruned = installed.place / "pruned"
    installed.works("prune", "demo", "--drop", 1, "-o", pruned, warned=False)
    installed.works("verify", pruned, "--against", pruned, "--engine", "transformers", "--tokens", 2)


@pytest.mark.parametrize(("recognises", "open_"), [("1 / 0", "pass"), ("pass", "return 7"), ("pass", "1 / 0")])
def test_formats(recognises: str, open_: str, installed: Installed):
    installed.add(FORMAT.format(recognises, open_), points("formats"))
    (installed.place / "model.evil").touch()
    installed.works("score", "demo", warned=False)
    installed.refused("score", installed.place / "model.evil", lines=2 if recognises != "pass" else 1)


@pytest.mark.parametrize(
    ("recognises", "float32"),
    [("1 / 0", "pass"), ("pass", "1 / 0"), ("pass", "return None"), ("pass", "return [1]")],
)
def test_quantisations(recognises: str, float32: str, installed: Installed, tiny_models: Callable[..., Path]):
    from safetensors.numpy import load_file, save_file

    installed.add(QUANTISATION.format(recognises, float32), points("quantisations"))
    model = with_config(
        tiny_models("llama-gqa"), installed.place / "quantised", quantization_config={"quant_method": "evil"}
    )
    tensors = load_file(model / "model.safetensors")
    renamed = {name.replace("q_proj.weight", "q_proj.evil"): tensor for name, tensor in tensors.items()}
    save_file(renamed, model / "model.safetensors")
    installed.works("score", "demo", warned=False)
    installed.refused("score", model, lines=2 if recognises != "pass" else 1)


def test_operations(installed: Installed):
    installed.add(OPERATION.format("1 / 0"), points("operations"))
    installed.works("inspect", "demo")
    installed.works("prune", "demo", "--drop", 1, "-o", installed.place / "pruned", warned=False)
    installed.refused("prune", "demo", "--drop", 1, "--replace", "evil", "-o", installed.place / "made")


@pytest.mark.parametrize("directory", ["None", "'nowhere'", "7"])
def test_named_models(directory: str, installed: Installed):
    installed.add(MODEL.format(directory), points("models"))
    installed.works("eval", "demo", "--limit", 1, warned=False)
    installed.refused("score", "evil")


FAMILIES = {
    "no mapping": "[1]",
    "nothing": "{}",
    "another type": "{'model_type': 'other', 'like': 'llama'}",
    "like nothing": "{'model_type': 'evil', 'like': 'nothing'}",
    "like itself": "{'model_type': 'evil', 'like': 'evil'}",
    "like a list": "{'model_type': 'evil', 'like': ['llama']}",
    "all missing": "{'model_type': 'evil'}",
    "no block": "{'model_type': 'evil', 'like': 'llama', 'block': None}",
    "a number for a module": "{'model_type': 'evil', 'like': 'llama', 'block': {'path': 7}}",
    "roles of another type": "{'model_type': 'evil', 'like': 'llama', 'roles': [1]}",
    "classes of another type": "{'model_type': 'evil', 'like': 'llama', 'classes': {'config': None}}",
    "a tower of nothing": "{'model_type': 'evil', 'tower': {'family': 'nothing', 'config': 'c', 'path': 'p.q'}}",
    "variants of another type": "{'model_type': 'evil', 'like': 'llama', 'variants': 7}",
    "a dimension of another type": "{'model_type': 'evil', 'like': 'llama', 'dimensions': {'heads': {}}}",
    "modules of another type": "{'model_type': 'evil', 'like': 'llama', 'block': {'attention': 7}}",
    "modules that are not there": "{'model_type': 'evil', 'like': 'llama', 'roles': {'q': 'self_attn.nothing'}}",
}


@pytest.mark.parametrize("family", FAMILIES)
def test_families(family: str, installed: Installed, tiny_models: Callable[..., Path]):
    installed.add(f"THING = {FAMILIES[family]}", points("families"))
    model = with_config(tiny_models("llama-gqa"), installed.place / "model", model_type="evil")
    installed.works("score", "demo", warned=False)
    installed.works("inspect", "demo", warned=False)
    lines = 2 if family == "modules that are not there" else 1
    installed.refused("score", model, lines=lines)
    installed.refused("prune", model, "--drop", 1, "-o", installed.place / "made", lines=lines)

"""What other packages add, and what fails or gives something else when asked: one line that names the package."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gatenorm.models.named import named_model
from tests.plugin.installed import CRITERION, MODEL, Installed, points, with_config

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
        "return Measured({layer: 1.0 for layer in run.layers}, {'score': 'x'})",
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


@pytest.mark.parametrize("body", ["raise RuntimeError('x\\ny')", "return None", "return 7"])
def test_engines_that_open_nothing(body: str, installed: Installed):
    installed.add(ENGINE.format(f"def open(self, path): {body}"), points("engines"))
    pruned = installed.place / "pruned"
    installed.works("prune", "demo", "--drop", 1, "-o", pruned, warned=False)
    installed.refused("verify", pruned, "--against", pruned, "--engine", "evil", "--tokens", 2)


def test_engines_that_open_nothing_to_be_timed(installed: Installed):
    installed.add(ENGINE.format("def open_timed(self, path, setting): return None"), points("engines"))
    installed.refused("bench", "demo", "--engine", "evil", "--lengths", 8, "--new-tokens", 2, "--rounds", 1)


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
    "a key that is not known": "{'model_type': 'evil', 'like': 'llama', 'block': {'atention': []}}",
    "a tower in a tower": "{'model_type': 'evil', 'tower': {'family': 'llava', 'config': 'c', 'path': 'p.q'}}",
    "a variant with such a key": (
        "{'model_type': 'evil', 'like': 'llama', 'variants': [{'when': {'x': None}, 'then': {'scael': 1.0}}]}"
    ),
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


# Of a type that transformers knows and we do not; what is wrong with it shows only where it is used.
DESCRIBED = """
CLASSES = {{"config": "MinistralConfig", "model": "MinistralModel", "causal_lm": "MinistralForCausalLM"}}
THING = {{"model_type": "ministral", "like": "llama", "classes": CLASSES}} | {}
"""
FIT = "--replace fold --fit random --fit-samples 16 --length 32 --judge none"
RUN = "--criterion cosine@random --samples 1 --length 8"


@pytest.mark.parametrize(
    ("change", "command"),
    [
        ("{'roles': {'o': 'self_attn.nothing'}}", "score"),
        ("{'block': {'attention': ['nothing']}}", "prune --drop 1"),
        ("{'block': {'attention': ['nothing']}}", f"prune --drop 1 {FIT}"),
        ("{'block': {'branch': ['nothing']}}", "prune --drop 1"),
        ("{'block': {'after': ['nothing']}}", f"score {RUN}"),
        ("{'norms': {'input': 'nothing'}}", "inspect"),
        ("{'norms': {'input': 'nothing'}}", "export --to nemotron-nas"),
        ("{'norms': {'kind': 'nothing'}}", "export --to gguf"),
        ("{'classes': {'config': 'MinistralConfig'}}", "prune --drop 1"),
    ],
)
def test_families_that_are_wrong_where_they_are_used(change: str, command: str, installed: Installed):
    installed.add(DESCRIBED.format(change), points("families", name="ministral"))
    demo = named_model("demo")
    assert demo is not None
    model = with_config(demo.directory, installed.place / "model", model_type="ministral")
    name, *arguments = command.split()
    out = ("-o", installed.place / "made") if name in ("prune", "export") else ()
    installed.refused(name, model, *arguments, *out)


def test_a_later_command_of_the_process_is_not_blamed_on_who_described_an_earlier_model(installed: Installed):
    installed.add(DESCRIBED.format("{}"), points("families", name="ministral"))
    demo = named_model("demo")
    assert demo is not None
    model = with_config(demo.directory, installed.place / "model", model_type="ministral")
    broken = with_config(demo.directory, installed.place / "broken", num_attention_heads=None)
    program = "import sys; sys.path.insert(0, sys.argv[1]); from gatenorm.cli import main; "
    program += "print([main(['inspect', place]) for place in sys.argv[2:]])"
    command = [sys.executable, "-c", program, *map(str, (installed.place, model, broken))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines()[-1] == "[0, 2]"
    assert "evil" not in done.stderr

"""Methods of engines that lie elsewhere are there, whether or not their engine is installed."""

import ast
from importlib.util import find_spec
from pathlib import Path

import pytest

import gatenorm.engines

PLACES = [
    node.args[0].value
    for path in sorted(Path(gatenorm.engines.__file__).parent.rglob("*.py"))
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "later"
    if isinstance(node.args[0], ast.Constant)
]


@pytest.mark.parametrize("place", PLACES)
def test_a_method_that_is_imported_later_is_there(place: str):
    module, _, name = place.partition(":")
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    body = ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body
    for part in name.split("."):
        found = [n for n in body if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and n.name == part]
        assert found, f"{part} of {place}"
        body = found[0].body


def test_every_engine_of_ours_has_some():
    assert {place.split(".")[2] for place in PLACES} >= {"transformers", "llamacpp", "vllm"}

"""Stock vLLM, without gatenorm's plugin, computes from a nemotron-nas directory what the pruned model computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import gatenorm
from gatenorm.exports.registry import export_form
from tests.engines.elsewhere import ask, largest_difference, prompts, python_with
from tests.export import llama_like_models as tiny

pytestmark = pytest.mark.engines

CASES = [("llama", drop) for drop in tiny.DROPS] + [(name, (0, 4)) for name in tiny.CASES if name != "llama"]
NAMES = [f"{name}-{'-'.join(map(str, drop)) or 'dense'}" for name, drop in CASES]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Name to (pruned directory, its prompts, what vLLM answers for what was written from it)."""
    python, place = python_with("vllm", ".venv-vllm"), tmp_path_factory.mktemp("vllm")
    sources = {key: tiny.write(name, place / key, drop) for key, (name, drop) in zip(NAMES, CASES, strict=True)}
    for key, source in sources.items():
        export_form("nemotron-nas").write(gatenorm.open_model(source), place / "exported" / key)
    directories = {key: place / "exported" / key for key in sources}
    vocabularies = dict.fromkeys(sources, tiny.VOCABULARY)
    found = ask(python, ("tests.engines.served_as_is",), directories, vocabularies, place)
    return {key: (source, prompts(tiny.VOCABULARY), found[key]) for key, source in sources.items()}


@pytest.mark.parametrize("name", NAMES)
def test_it_computes_what_the_pruned_model_computes(name: str, answers: dict[str, Any]):
    source, asked, answer = answers[name]
    assert largest_difference(answer, source, asked) < 1e-3
    layout = gatenorm.open_model(Path(source))
    assert answer.cached_layers == len(layout.attention_layers) + (0 in layout.edits.attention)

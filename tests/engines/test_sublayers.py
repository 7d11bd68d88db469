"""Models without some MLPs and blocks, by the code in their directory and in engines, against transformers."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

import gatenorm
from gatenorm.exports.registry import export_form
from tests.engines.elsewhere import ask, largest_difference, prompts, python_with
from tests.engines.servable_models import LAYERS, VOCABULARY, build
from tests.engines.test_transformers_versions import ENVIRONMENTS, SCRIPT, WAYS, interpreter

pytestmark = pytest.mark.engines

# Layer 0 is gone altogether, 2 has lost its MLP, 3 its attention; or MLPs alone, those of both ends among them.
STEPS = {"mixed": [("block", [0]), ("mlp", [2]), ("attention", [3])], "mlps": [("mlp", [0, 2, 4])]}
FAMILIES = ("llama", "gemma2", "falcon", "gpt_neox", "gpt_neo", "opt")
SERVED = ("llama", "gemma2", "gpt_neox", "opt")
CACHED = {"mixed": LAYERS - 2, "mlps": LAYERS}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``<family>-<steps>/dense`` and ``<family>-<steps>/pruned``."""
    place = tmp_path_factory.mktemp("sublayers")
    for name in FAMILIES:
        for steps, taken in STEPS.items():
            folder = place / f"{name}-{steps}"
            build(name).save_pretrained(folder / "dense")
            source = folder / "dense"
            for n, (kind, drop) in enumerate(taken, start=1):
                out = folder / ("pruned" if n == len(taken) else str(n))
                source = gatenorm.prune(source, out, gatenorm.plan(source, drop=drop, kind=kind)).path
    return place


@pytest.mark.parametrize("version", ENVIRONMENTS)
def test_it_equals_the_dense_model_with_silent_branches(version: str, models: Path, tmp_path: Path):
    names = [f"{name}-{steps}" for name in FAMILIES for steps in STEPS]
    variables = {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path)}
    command = [interpreter(ENVIRONMENTS[version]), str(SCRIPT), str(models), *names]
    done = subprocess.run(command, cwd=models, env={**os.environ, **variables}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    assert answer["transformers"].startswith(version)
    for name in names:
        found = answer["results"][name]
        assert set(found) == WAYS, (name, found)
        for way, difference in found.items():
            assert isinstance(difference, float), (name, way, difference)
            assert difference <= 1e-5, (name, way, difference)


def answered(python: str, asker: tuple[str, ...], directories: dict[str, Path], place: Path) -> dict[str, Any]:
    modules = {"HF_MODULES_CACHE": str(place / "modules")}
    return ask(python, asker, directories, dict.fromkeys(directories, VOCABULARY), place, modules)


@pytest.mark.parametrize("family", SERVED)
def test_vllm_serves_the_directories_as_they_are(family: str, models: Path, tmp_path: Path):
    python = python_with("vllm", ".venv-vllm")
    directories = {f"{family}-{steps}": models / f"{family}-{steps}" / "pruned" for steps in STEPS}
    answers = answered(python, ("tests.engines.served_as_is",), directories, tmp_path)
    for name, directory in directories.items():
        assert not answers[name].refused, (name, answers[name].refused)
        assert largest_difference(answers[name], directory, prompts(VOCABULARY)) < 1e-4, name
        assert answers[name].cached_layers == CACHED[name.rpartition("-")[2]], name


@pytest.mark.parametrize(
    ("package", "environment", "asker"),
    [
        ("vllm", ".venv-vllm", ("tests.engines.served_as_is",)),
        ("mlx_lm", ".venv-mlx", ("tests.engines.asked", "mlx")),
    ],
)
def test_engines_read_nemotron_nas(
    package: str, environment: str, asker: tuple[str, ...], models: Path, tmp_path: Path
):
    python, directories = python_with(package, environment), {}
    for steps in STEPS:
        directories[steps] = tmp_path / "exported" / steps
        export_form("nemotron-nas").write(gatenorm.open_model(models / f"llama-{steps}" / "pruned"), directories[steps])
    answers = answered(python, asker, directories, tmp_path)
    for steps, answer in answers.items():
        assert not answer.refused, answer.refused
        assert largest_difference(answer, models / f"llama-{steps}" / "pruned", prompts(VOCABULARY)) < 1e-3
        # Layer 0 without attention is written with one that computes zero, which has a cache.
        assert answer.cached_layers == CACHED[steps] + (steps == "mixed")

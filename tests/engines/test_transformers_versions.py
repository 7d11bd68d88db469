"""Pruned directories load and compute by the code that lies in them, under transformers 4.57 and later ones."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.engines.elsewhere import ROOT
from tests.engines.servable_models import CASES, DROP, write
from tests.replaced import write_replaced

pytestmark = pytest.mark.engines

SCRIPT = Path(__file__).with_name("silenced_equality.py")
ENVIRONMENTS = {"4.57": ".venv-transformers-4", "5.19": ".venv-vllm", "5.23": ".venv"}
# What takes the place of the attention of layers 0 and 3, by family.
REPLACED = {
    "llama": ("linear", "linear:8", "constant"),
    "qwen2-sliding": ("linear",),
    "gpt_neox": ("linear", "constant"),
    "falcon": ("linear",),
    "opt": ("linear",),
}
NAMES = [*CASES, *(f"{name}-{operation.replace(':', '-')}" for name, given in REPLACED.items() for operation in given)]
WAYS = {"dynamic cache", "static cache", "no cache"}


def interpreter(environment: str) -> str:
    python = ROOT / environment / "bin" / "python"
    if environment == ".venv":
        return sys.executable
    if not python.is_file():
        pytest.skip(f"{environment} is absent: make {environment.removeprefix('.venv-')}-env")
    return str(python)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """``compared(environment)``: what the script says of all models there."""
    place = tmp_path_factory.mktemp("versions")
    for name in CASES:
        write(name, place / name)
    for name, operations in REPLACED.items():
        for operation in operations:
            folder = place / f"{name}-{operation.replace(':', '-')}"
            shutil.copytree(place / name / "dense", folder / "dense")
            write_replaced(folder / "dense", folder / "pruned", DROP, operation)

    @cache
    def answer(environment: str) -> dict[str, Any]:
        python = interpreter(environment)
        variables = {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(place / "modules" / environment)}
        command = [python, str(SCRIPT), str(place), *NAMES]
        done = subprocess.run(command, cwd=place, env={**os.environ, **variables}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-4000:]
        return dict(json.loads(done.stdout.strip().splitlines()[-1]))

    return answer


@pytest.mark.parametrize("version", ENVIRONMENTS)
@pytest.mark.parametrize("name", NAMES)
def test_it_equals_the_dense_model_with_silent_or_replaced_attention(name: str, version: str, compared: Any):
    answer = compared(ENVIRONMENTS[version])
    assert answer["transformers"].startswith(version)
    found = answer["results"][name]
    assert set(found) == WAYS, found
    for way, difference in found.items():
        assert isinstance(difference, float), (way, difference)
        assert difference <= 1e-5, (way, difference)

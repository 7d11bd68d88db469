"""The Python API: its names, and what it refuses before any work is done."""

from __future__ import annotations

import pkgutil
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gatenorm
import gatenorm.api
from gatenorm.records import Scores
from tests.errors import refused

TinyModels = Callable[..., Path]


def test_every_verb_is_a_public_name():
    verbs = {"score", "compare", "cross_check", "curve", "plan", "prune", "prune_module", "export", "verify"}
    verbs |= {"evaluate", "recover", "recovery_study", "load", "open_model", "session", "run_audit"}
    assert verbs <= set(dir(gatenorm))
    assert all(callable(getattr(gatenorm, name)) for name in verbs)
    assert gatenorm.Scores is Scores
    with pytest.raises(AttributeError, match="no attribute 'scores'"):
        _ = gatenorm.scores  # type: ignore[attr-defined]


def test_importing_gatenorm_imports_nothing_heavy():
    code = "import sys, gatenorm; print({'numpy', 'torch', 'transformers', 'gatenorm.api'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.mark.parametrize("out", ["inside", "deep/inside"])
def test_nothing_is_written_into_the_model_itself(tiny_models: TinyModels, tmp_path: Path, out: str):
    """Copying or uploading the model would take the output along."""
    model = tmp_path / "model"
    shutil.copytree(tiny_models("llama-gqa"), model)
    pruned = gatenorm.prune(model, tmp_path / "pruned", gatenorm.plan(model, drop=[1])).path
    attempts: list[Callable[[], Any]] = [
        lambda: gatenorm.prune(model, model / out, gatenorm.plan(model, drop=[1])),
        lambda: gatenorm.export(model, "nemotron-nas", model / out),
        lambda: gatenorm.recover(pruned, pruned / out, "demo"),
        lambda: gatenorm.recovery_study(model, model / out, "demo", [0.5]),
        lambda: gatenorm.run_audit(model, model / out),
    ]
    for attempt in attempts:
        with refused("out-inside-model", "out"):
            attempt()
        assert not (model / Path(out).parts[0]).exists()
        assert not (pruned / Path(out).parts[0]).exists()


def test_one_way_of_choosing(tiny_models: TinyModels):
    for ways in ({}, {"layers": 1, "share": 0.5}):
        with refused("choice-unclear"):
            gatenorm.plan(tiny_models("llama-gqa"), **ways)


def test_a_criterion_of_weights_has_no_use_for_tokens(tiny_models: TinyModels):
    with refused("calibration-unused", "calibration"):
        gatenorm.score(tiny_models("llama-gqa"), "gate-norm", calibration="random")


def test_no_package_takes_the_name_of_a_verb():
    """Importing a package of that name would put the module in the verb's place."""
    packages = {module.name for module in pkgutil.iter_modules(gatenorm.__path__)}
    assert not packages & {name for name in dir(gatenorm.api) if callable(getattr(gatenorm.api, name))}

"""The plugin as vLLM meets it, without vLLM: tests/engines/test_vllm.py has the real one."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import warnings
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gatenorm.engines.vllm import plugin as vllm_plugin, sessions
from gatenorm.families import families
from tests.engines.elsewhere import ROOT


class Registry:
    """``vllm.ModelRegistry``, as far as a plugin sees it."""

    def __init__(self, *names: str):
        self.models = dict.fromkeys(names, "vllm")

    def get_supported_archs(self) -> Any:
        return self.models.keys()

    def register_model(self, name: str, model: str) -> None:
        self.models[name] = model


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Any:
    def installed(*names: str) -> Registry:
        vllm = ModuleType("vllm")
        vllm.ModelRegistry = Registry(*names)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "vllm", vllm)
        monkeypatch.setattr(vllm_plugin, "find_spec", lambda name: name)
        return vllm.ModelRegistry

    return installed


def test_vllm_finds_it():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["vllm.general_plugins"]
    module, function = declared["gatenorm"].split(":")
    assert getattr(import_module(module), function) is vllm_plugin.register


def test_it_registers_every_family_once(registry: Any):
    found = registry("TransformersForCausalLM", "DeciLMForCausalLM", "LlamaForCausalLM")
    vllm_plugin.register()
    vllm_plugin.register()
    pruned = {name: model for name, model in found.models.items() if name.startswith("Gatenorm")}
    assert set(pruned) == {f"Gatenorm{family.classes.causal_lm}" for family in families().values()}
    assert set(pruned.values()) == {"gatenorm.engines.vllm.plugin.transformers_backend:TransformersForCausalLM"}
    assert found.models["DeciLMForCausalLM"] == "gatenorm.engines.vllm.plugin.nemotron_nas:DeciLMForCausalLM"
    assert found.models["LlamaForCausalLM"] == "vllm"


def test_it_does_nothing_where_vllm_has_no_such_classes(registry: Any):
    found = registry("LlamaForCausalLM")
    vllm_plugin.register()
    assert found.models == {"LlamaForCausalLM": "vllm"}


def test_opening_leaves_the_warnings_of_whoever_calls(registry: Any, monkeypatch: pytest.MonkeyPatch):
    registry("LlamaForCausalLM")
    monkeypatch.setattr(os, "environ", {**os.environ})
    with warnings.catch_warnings(record=True) as seen:
        before = [*warnings.filters]
        with sessions.opening(Path("model")):
            warnings.warn_explicit("old", FutureWarning, "vllm/torch_utils.py", 1, module="vllm.torch_utils")
        assert warnings.filters == before
    assert not seen


def test_without_vllm_it_imports_nothing():
    script = (
        "import sys\n"
        "from gatenorm.engines.vllm import plugin as vllm_plugin\n"
        "vllm_plugin.find_spec = lambda name: None\n"
        "vllm_plugin.register()\n"
        "assert not {'vllm', 'torch', 'transformers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)

"""What kept measurements belong to: another tokenizer, release or code is another key."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import gatenorm
from gatenorm.criteria.fingerprint import ROOMS, differences, model_key, software
from gatenorm.demo.package import MODEL

TinyModels = Callable[..., Path]


def swap_two_tokens(directory: Path) -> None:
    """As another release of a model's tokenizer may do; nothing else tells it from the first."""
    path = directory / "tokenizer.json"
    told = json.loads(path.read_text())
    words = told["model"]["vocab"]
    first, second = list(words)[300:302]
    words[first], words[second] = words[second], words[first]
    path.write_text(json.dumps(told))


def test_a_model_is_its_weights_and_its_tokenizer_wherever_it_lies(tmp_path: Path):
    for name in ("a", "b"):
        shutil.copytree(MODEL.checked_directory(), tmp_path / name)
    before = model_key(gatenorm.open_model(tmp_path / "a"))
    assert "name" not in before
    assert model_key(gatenorm.open_model(tmp_path / "b")) == before
    swap_two_tokens(tmp_path / "b")
    after = model_key(gatenorm.open_model(tmp_path / "b"))
    assert differences(before, after) == f"content {before['content']}, now {after['content']}"


def test_software_is_this_code_and_versions():
    import torch

    found = software(packages=("peft", "no-such-package"))
    assert found["torch"] == torch.__version__.partition("+")[0] or found["torch"] == torch.__version__
    assert {"gatenorm", "transformers", "tokenizers", "numpy", "peft", "code"} <= set(found)
    assert "no-such-package" not in found
    assert software(("analysis",))["code"] != software(ROOMS)["code"]


def test_differences_are_named_by_where_they_stand():
    theirs = {"a": 1, "model": {"layers": 4, "sha": "x"}, "gone": [1]}
    assert differences(theirs, {**theirs, "gone": (1,)}) == ""
    ours = {"a": 1, "model": {"layers": 5, "sha": "x"}, "new": "y"}
    assert differences(theirs, ours) == "gone [1], now None; model.layers 4, now 5; new None, now y"

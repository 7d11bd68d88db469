"""What results follow from: another tokenizer, release or code is another fingerprint, and people are told which."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import msgspec
import pytest

from gatenorm.checkpoint import open_store
from gatenorm.checkpoint.formats.safetensors import local
from gatenorm.demo.package import MODEL
from gatenorm.files import LARGE
from gatenorm.progress import Progress
from gatenorm.records.serialization import from_json, to_json
from gatenorm.results import Fingerprint
from gatenorm.results.hashes import file_sha256


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
    before = Fingerprint.of({}, {"model": open_store(tmp_path / "a").fingerprint()})
    assert Fingerprint.of({}, {"model": open_store(tmp_path / "b").fingerprint()}) == before
    swap_two_tokens(tmp_path / "b")
    after = Fingerprint.of({}, {"model": open_store(tmp_path / "b").fingerprint()})
    assert before.differences(after) == f"model {before.models['model']}, now {after.models['model']}"


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("vocabulary", True),  # whatever its name, a tokenizer may read it
        ("tokenizer.model.v3", True),
        ("additional_chat_templates/tool_use.jinja", True),
        ("adapter_model.safetensors", False),  # without its adapter_config.json, beside which no model is opened
        ("README.md", False),
        ("pytorch_model.bin", False),
        (".cache", False),
    ],
)
def test_everything_that_the_loader_reads_counts(name: str, counts: bool, tmp_path: Path):
    directory = tmp_path / "model"
    shutil.copytree(MODEL.checked_directory(), directory)
    before = open_store(directory).fingerprint()
    (directory / name).parent.mkdir(exist_ok=True)
    (directory / name).write_text("changed")
    assert (open_store(directory).fingerprint() != before) is counts


def test_a_giant_that_no_loader_opens_counts_and_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A hole of 6 GB: by its size and a sample, which a copy of the model has too."""
    hashed: list[int] = []

    def noted(path: Path, progress: Progress | None = None) -> str:
        hashed.append(path.stat().st_size)
        assert hashed[-1] <= LARGE
        return file_sha256(path, progress)

    monkeypatch.setattr(local, "file_sha256", noted)
    found = []
    for name in ("a", "b"):
        shutil.copytree(MODEL.checked_directory(), tmp_path / name)
        for giant in ("optimizer.dat", "corpus.txt"):
            (tmp_path / name / giant).touch()
            os.truncate(tmp_path / name / giant, 6 << 30)
        found.append(open_store(tmp_path / name).fingerprint())
    assert found[0] == found[1] != open_store(MODEL.checked_directory()).fingerprint()
    os.truncate(tmp_path / "b/optimizer.dat", 7 << 30)
    assert open_store(tmp_path / "b").fingerprint() != found[0]
    with (tmp_path / "a/corpus.txt").open("r+b") as file:
        file.seek((6 << 30) * 3 // 32)
        file.write(b"sampled")
    assert open_store(tmp_path / "a").fingerprint() != found[0]
    assert hashed


def test_software_is_this_code_and_versions():
    import torch

    found = Fingerprint.of({}, packages=("peft", "no-such-package"))
    assert found.versions["torch"] in (torch.__version__, torch.__version__.partition("+")[0])
    assert {"gatenorm", "transformers", "tokenizers", "numpy", "peft"} <= set(found.versions)
    assert "no-such-package" not in found.versions
    assert found.code


def test_differences_are_named_by_where_they_are():
    theirs = Fingerprint.of({"a": 1, "text": {"layers": 4, "sha": "x"}, "gone": [1]})
    assert theirs.differences(Fingerprint.of({"gone": (1,), "text": {"sha": "x", "layers": 4}, "a": 1})) == ""
    ours = Fingerprint.of({"a": 1, "text": {"layers": 5, "sha": "x"}, "new": "y"})
    assert theirs.differences(ours) == "gone [1], now None; new None, now y; text.layers 4, now 5"
    other = msgspec.structs.replace(theirs, versions={**theirs.versions, "torch": "1.0"})
    assert other.differences(theirs) == f"software.torch 1.0, now {theirs.versions['torch']}"


def test_digests_do_not_depend_on_the_order_of_fields_and_survive_a_file():
    found = Fingerprint.of({"a": 1, "b": [2]})
    assert found.digest == Fingerprint.of({"b": [2], "a": 1}).digest != Fingerprint.of({"a": 1, "b": [3]}).digest
    assert from_json(Fingerprint, json.loads(json.dumps(to_json(found))), "a fingerprint") == found
    assert Fingerprint.of({"a": found, "b": (1,)}).asked == {"a": to_json(found), "b": [1]}
    assert found.asking(c=3).digest == Fingerprint.of({"a": 1, "b": [2], "c": 3}).digest

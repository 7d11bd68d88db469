"""Every parser of ours on mutated input: it is read, or refused with an error of ours that is one short line.

``GATENORM_FUZZ=20000`` tries that many of each; docs/security.md says how many were tried without a finding.
"""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import yaml
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from gatenorm import api
from gatenorm.audit.plan.config import Config, read_config
from gatenorm.checkpoint import open_store
from gatenorm.checkpoint.formats.gguf.metadata import read_model
from gatenorm.checkpoint.hub_answers import _check_hash, _named
from gatenorm.demo.package import MODEL
from gatenorm.errors import GatenormError
from gatenorm.exports.gguf.sentencepiece import read_sentencepiece
from gatenorm.exports.gguf.tokenizer import tokenizer
from gatenorm.exports.registry import export_forms
from gatenorm.families import detect_layout
from gatenorm.files import parse_json
from gatenorm.records import Plan, from_json, to_json
from gatenorm.records.evidence import evidence_from_json
from gatenorm.records.identity import ModelIdentity
from gatenorm.results import ResultStore
from gatenorm.results.fingerprint import Fingerprint
from gatenorm.surgery.config import pruned_config, tokenizer_config

EXAMPLES = int(os.environ.get("GATENORM_FUZZ", "40"))
ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 2**64, 10**400, 0.5, 1e308, float("nan"), float("inf"), -1e-300),
    *("", "x", "x" * 5000, "\x1b[31m\u202e", "../../x", "\ud800", "1e30", "llama", "linear", "yarn"),
    *([], {}, [[]], [None], [1, "a"], {"a": 1}, {"": {}}, [0] * 3000, [[[[[[[[[[1]]]]]]]]]]),
]


def mutated(data: Any, draw: random.Random) -> Any:
    """Plain data with one to four places replaced, deleted, or filled from elsewhere."""
    data = copy.deepcopy(data)
    for _ in range(draw.randint(1, 4)):
        places = list(_places(data))
        if not places:
            return draw.choice(ODD)
        owner, key = draw.choice(places)
        kind = draw.randrange(5)
        if kind == 0:
            del owner[key]
        elif kind == 1:
            other, where = draw.choice(places)
            owner[key] = copy.deepcopy(other[where])
        elif kind == 2 and isinstance(owner, dict):
            owner[draw.choice(["x", str(key) + "s", "\x1b"])] = owner.pop(key)
        else:
            owner[key] = copy.deepcopy(draw.choice(ODD))
    return data


def _places(data: Any) -> Iterator[tuple[Any, Any]]:
    for key, value in data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ():
        yield data, key
        yield from _places(value)


def scrambled(data: bytes, draw: random.Random) -> bytes:
    """Bytes that are flipped, cut, doubled, or hold a number too large."""
    found = bytearray(data)
    for _ in range(draw.randint(1, 6)):
        at = draw.randrange(len(found) + 1)
        kind = draw.randrange(5)
        if kind == 0:
            del found[at : at + draw.choice([1, 4, 8, len(found)])]
        elif kind == 1:
            found[at:at] = found[at : at + draw.randrange(64)]
        elif kind == 2:
            size, code = draw.choice([(4, "<I"), (8, "<Q")])
            found[at : at + size] = struct.pack(code, draw.choice([0, 1, 255, 2**31, 2**32 - 1]))
        elif at < len(found):
            found[at] = draw.randrange(256)
    return bytes(found)


def as_json(data: Any, draw: random.Random) -> bytes:
    text = json.dumps(mutated(data, draw)).encode()
    return scrambled(text, draw) if draw.randrange(4) == 0 else text


def plain(data: Any) -> Any:
    """As a file would hold it."""
    return parse_json(json.dumps(data).encode())


class Place:
    """A model to spoil one file of, and what stays of it."""

    def __init__(self, directory: Path):
        self.directory = shutil.copytree(MODEL.checked_directory(), directory)
        self.layout = api.open_model(self.directory)
        self.plan = api.plan(self.directory, drop=[1])
        self.config = json.loads((self.directory / "config.json").read_text())
        self.tokenizer = json.loads((self.directory / "tokenizer.json").read_text())
        self.tokenizer["model"]["merges"] = self.tokenizer["model"]["merges"][:20]
        identity = ModelIdentity(name="m", model_type="llama", layers=4, config_sha256="0" * 64, files={"a": 1})
        self.plan_json = to_json(self.plan)
        self.pruned = json.loads(json.dumps(pruned_config(self.layout, self.plan)))
        self.identity = to_json(identity)
        self.shards = directory.with_name("shards")
        self.shards.mkdir()
        arrays = {"a": np.ones((2, 3), np.float32), "b": np.zeros(4, np.float16)}
        self.weights = safetensors.numpy.save(arrays, {"k": "v"})
        for number in (1, 2):
            name = f"model-0000{number}-of-00002.safetensors"
            (self.shards / name).write_bytes(safetensors.numpy.save({f"t{number}": np.ones(3, np.float32)}))
        (self.shards / "config.json").write_text('{"model_type": "llama"}')
        self.store = ResultStore(directory.with_name("results"))
        self.asked = Fingerprint.of({"task": "a"}, {"model": "sha"})
        self.store.put(self.asked, self.plan)

    def written(self, name: str, content: bytes) -> Path:
        path = self.directory.with_name(name)
        path.write_bytes(content)
        return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("fuzz") / "model")


def safetensors_file(place: Place, draw: random.Random) -> None:
    directory = place.directory.with_name("single")
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(scrambled(place.weights, draw))
    store = open_store(directory)
    for name in store.specs:
        store.raw(name)


def index(place: Place, draw: random.Random) -> None:
    names = {f"t{i}": f"model-0000{i}-of-00002.safetensors" for i in (1, 2)}
    given = {"metadata": {"total_size": 24}, "weight_map": names}
    (place.shards / "model.safetensors.index.json").write_bytes(as_json(given, draw))
    open_store(place.shards)


def config(place: Place, draw: random.Random) -> None:
    path = place.directory / "config.json"
    path.write_bytes(as_json(place.config, draw))
    try:
        layout = detect_layout(open_store(place.directory))
        layout.identity()
        layout.refusal()
        for form in export_forms():
            form.obstacles(layout)
        pruned_config(layout, place.plan)
    finally:
        path.write_text(json.dumps(place.config))


def quantisation(place: Place, draw: random.Random) -> None:
    given = {"quant_method": "gptq", "bits": 4, "group_size": 128, "modules": ["a"]}
    detected(place, place.config | {"quantization_config": mutated(given, draw)})


def pruned_entry(place: Place, draw: random.Random) -> None:
    detected(place, place.pruned | {"gatenorm": plain(mutated(place.pruned["gatenorm"], draw))})


def detected(place: Place, config: dict[str, Any]) -> None:
    place.layout.checkpoint.config = config
    try:
        detect_layout(place.layout.checkpoint)
    finally:
        place.layout.checkpoint.config = place.config


def tokenizer_file(place: Place, draw: random.Random) -> None:
    name = draw.choice(["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"])
    path = place.directory / name
    before = path.read_bytes() if path.exists() else None
    sound = place.tokenizer if name == "tokenizer.json" else {"bos_token": "<s>", "chat_template": [{"name": "a"}]}
    path.write_bytes(as_json(sound, draw))
    try:
        tokenizer_config(place.layout)
        tokenizer(place.layout, 1024)
    finally:
        path.unlink() if before is None else path.write_bytes(before)


def sentencepiece(place: Place, draw: random.Random) -> None:
    piece = b"\x0a\x03abc\x15\x00\x00\x80\x3f\x18\x01"
    sound = b"".join(b"\x0a" + bytes([len(piece)]) + piece for _ in range(3)) + b"\x12\x02\x18\x02\x1a\x02\x20\x00"
    read_sentencepiece(place.written("tokenizer.model", scrambled(sound, draw)))


def gguf(place: Place, draw: random.Random) -> None:
    def text(words: str) -> bytes:
        return struct.pack("<Q", len(words)) + words.encode()

    entries = [text("general.architecture") + struct.pack("<I", 8) + text("llama")]
    for key in ("block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count"):
        entries.append(text(f"llama.{key}") + struct.pack("<II", 4, 8))
    entries.append(text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b"))
    tensor = text("t") + struct.pack("<IQIQ", 1, 32, 0, 0)
    sound = b"GGUF" + struct.pack("<IQQ", 3, 1, len(entries)) + b"".join(entries) + tensor
    read_model(place.written("model.gguf", scrambled(sound + bytes(-len(sound) % 32) + bytes(128), draw)))


def plan_file(place: Place, draw: random.Random) -> None:
    from_json(Plan, parse_json(as_json(place.plan_json, draw)), "a plan")


def evidence(place: Place, draw: random.Random) -> None:
    schemas = ["gatenorm/perplexity/1", "gatenorm/bench/1", "gatenorm/zeroshot/1", "gatenorm/recovery/1", "x", None]
    given = {"schema": draw.choice(schemas), "model": place.identity, "protocol": {"window": 4}, "data": {"name": "a"}}
    evidence_from_json(plain(mutated(given, draw)))


def kept_result(place: Place, draw: random.Random) -> None:
    (file,) = place.store.directory.glob("*.json")
    before = file.read_bytes()
    file.write_bytes(as_json(json.loads(before), draw))
    try:
        assert place.store.get(place.asked, Plan) in (None, place.plan)
    finally:
        file.write_bytes(before)


def audit_yaml(place: Place, draw: random.Random) -> None:
    sound = to_json(Config())
    text = yaml.safe_dump(mutated(sound, draw)) if draw.randrange(2) else yaml.safe_dump(sound)
    read_config(place.written("audit.yaml", scrambled(text.encode("utf-8", "surrogatepass"), draw)))


def hub_answer(place: Place, draw: random.Random) -> None:
    tree = [{"type": "file", "path": "a", "oid": "1" * 40, "size": 1, "lfs": {"oid": "2" * 64, "size": 1}}]
    for name, value in _named(parse_json(as_json({"sha": "0" * 40, "siblings": tree}, draw))):
        _check_hash("hub", name, value)


TARGETS: tuple[Callable[[Place, random.Random], None], ...] = (
    *(safetensors_file, index, config, quantisation, pruned_entry, tokenizer_file, sentencepiece, gguf),
    *(plan_file, evidence, kept_result, audit_yaml, hub_answer),
)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.__name__)
@seed(0)
@given(number=st.integers(0, 2**63))
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
def test_mutants_are_read_or_refused(target: Callable[[Place, random.Random], None], place: Place, number: int):
    try:
        target(place, random.Random(number))
    except GatenormError as error:
        line = error.text()
        assert line.isprintable()
        assert len(line) < 2000
    except ValueError:
        assert target in (
            plan_file,
            evidence,
            pruned_entry,
            hub_answer,
        )  # parse_json, whose caller says which file it was

"""Everything of ours that reads what others wrote, each as a function of the bytes of one file."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import safetensors.numpy
import yaml

from gatenorm import api
from gatenorm.audit.plan.config import Config, read_config
from gatenorm.audit.state import check_directory
from gatenorm.checkpoint import open_store
from gatenorm.checkpoint.code import without_code
from gatenorm.checkpoint.hub_answers import _ask_plainly, _check
from gatenorm.demo.package import MODEL
from gatenorm.errors import CheckpointError
from gatenorm.exports.gguf import writer as gguf_export
from gatenorm.exports.gguf.sentencepiece import read_sentencepiece
from gatenorm.exports.gguf.tokenizer import tokenizer
from gatenorm.exports.nemotron import writer as nas_export
from gatenorm.exports.registry import export_forms
from gatenorm.families import detect_layout
from gatenorm.files import LARGE, parse_json
from gatenorm.models.chat_template import render
from gatenorm.models.companions import check_companions
from gatenorm.records import Plan, Scores, read_json, read_record, to_json
from gatenorm.records.audit import Audit
from gatenorm.records.evidence import evidence_from_json
from gatenorm.records.identity import ModelIdentity
from gatenorm.recovery import state as recovery_state
from gatenorm.recovery.look import Look
from gatenorm.results import ResultStore
from gatenorm.results.fingerprint import Fingerprint
from gatenorm.surgery.card_origin import metadata_of
from gatenorm.surgery.config import pruned_config, tokenizer_config
from tests.checkpoint.test_lying_hub import CLIENT
from tests.families.gguf_files import write as write_gguf
from tests.fuzz.given import Given
from tests.fuzz.parser import Parser, at, text
from tests.tiny_models import save

_AUDIT = Path(__file__).resolve().parents[1] / "fixtures" / "audit_demo.json"
_QUANTISED: tuple[dict[str, Any], ...] = (
    {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": False},
    {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm", "zero_point": True},
    {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [64, 64]},
    {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]},
    {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 4, "group_size": 32}}},
        "ignore": ["lm_head"],
    },
    {"group_size": 64, "bits": 4},
)
_CARD = b"---\nlicense: mit\nbase_model: org/model\ntags: [a, b]\n---\n# A model\n"
_TEMPLATES = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<|a|>{% endif %}",
    "{{ bos_token }}{% set n = namespace(x=0) %}{% for m in messages %}{% set n.x = n.x + 1 %}{{ n.x * m.content }}"
    "{% endfor %}{{ tools | tojson }}{{ raise_exception('no') if n.x > 4 }}{{ strftime_now('%d') }}",
)


class Place:
    """A model to spoil one file of, and what lies beside one."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.model = shutil.copytree(MODEL.checked_directory(), folder / "model")
        self.layout = api.open_model(self.model)
        self.plan = api.plan(self.model, drop=[1])
        self.config = json.loads((self.model / "config.json").read_text())
        self.pruned = json.loads(json.dumps(pruned_config(self.layout, self.plan)))
        self.identity = ModelIdentity(name="m", model_type="llama", layers=4, config_sha256="0" * 64, files={"a": 1})
        arrays = {"a": np.ones((2, 3), np.float32), "b": np.zeros(4, np.float16)}
        self.weights = safetensors.numpy.save(arrays, {"k": "v"})
        self.single, self.shards = folder / "single", folder / "shards"
        for directory in (self.single, self.shards):
            directory.mkdir()
            (directory / "config.json").write_text('{"model_type": "llama"}')
        self.index = {f"t{i}": f"model-0000{i}-of-00002.safetensors" for i in (1, 2)}
        for name, file in self.index.items():
            (self.shards / file).write_bytes(safetensors.numpy.save({name: np.ones(3, np.float32)}))
        self.store, self.asked = ResultStore(folder / "results"), Fingerprint.of({"task": "a"}, {"model": "sha"})
        self.store.put(self.asked, self.plan)
        self.gguf = write_gguf(save("llama-gqa", folder / "tiny"), "llama", folder / "tiny.gguf", "Q8_0").read_bytes()
        self.audit = json.loads(_AUDIT.read_text())

    def parsers(self) -> Iterator[Parser]:
        config, state = self.config, to_json(self.identity)
        yield Parser("safetensors", (self.weights,), self.read_weights, "bytes")
        yield Parser("index", (text({"metadata": {"total_size": 24}, "weight_map": self.index}),), self.read_index)
        yield Parser("config", (text(config), text(self.pruned)), self.read_config)
        yield Parser("quantisation config", tuple(map(text, _QUANTISED)), self.read_quantisation)
        yield Parser("gatenorm entry of a config", (text(self.pruned["gatenorm"]),), self.read_entry)
        yield Parser("config of an export", (text(self.exported()),), self.read_exported)
        given = json.loads((self.model / "tokenizer.json").read_text())
        yield Parser("tokenizer.json", (text(given),), self.beside("tokenizer.json"))
        settings = text({"bos_token": "<s>", "chat_template": [{"name": "a", "template": "b"}], "auto_map": {"a": "b"}})
        yield Parser("tokenizer_config.json", (settings,), self.beside("tokenizer_config.json"))
        special = text({"bos_token": {"content": "<s>", "lstrip": False}, "additional_special_tokens": ["a"]})
        yield Parser("special_tokens_map.json", (special,), self.beside("special_tokens_map.json"))
        yield Parser("added_tokens.json", (text({"<a>": 602, "<b>": 603}),), self.beside("added_tokens.json"))
        yield Parser(
            "SentencePiece", (_sentencepiece(),), at(self.folder, "tokenizer.model", read_sentencepiece), "bytes"
        )
        yield Parser("chat template", tuple(t.encode() for t in _TEMPLATES), _template, "bytes", slow=True)
        yield Parser("GGUF header and metadata", (_gguf(),), at(self.folder, "model.gguf", gguf_export.read), "bytes")
        yield Parser("GGUF as a model", (self.gguf,), at(self.folder, "whole.gguf", _model), "bytes")
        yield Parser("plan", (text(to_json(self.plan)),), at(self.folder, "plan.json", _record(Plan, "a plan")))
        found = [*self.audit["baseline"], *self.audit["variants"][0]["evidence"]]
        yield Parser("evidence", tuple(map(text, found)), at(self.folder, "e.json", _evidence))
        yield Parser(
            "scores", tuple(map(text, self.audit["scores"])), at(self.folder, "s.json", _record(Scores, "scores"))
        )
        yield Parser(
            "audit.json", (text(self.audit),), at(self.folder, "audit.json", _record(Audit, "an audit")), slow=True
        )
        owner = {"schema": "gatenorm/audit-state/1", "model": state, "version": "1", "began": 1.0}
        yield Parser("audit state", (text(owner),), self.read_owner)
        yield Parser(
            "audit.yaml", (yaml.safe_dump(to_json(Config())).encode(),), at(self.folder, "a.yaml", read_config), "yaml"
        )
        yield Parser("recovery state", (self.recovery(),), at(self.folder, "state", self.read_recovery), "bytes")
        (file,) = self.store.directory.glob("*.json")
        yield Parser("kept result", (file.read_bytes(),), self.read_kept)
        tree = [{"type": "file", "path": "a", "oid": "1" * 40, "size": 1, "lfs": {"oid": "2" * 64, "size": 1}}]
        yield Parser("hub answer", (text({"sha": "0" * 40, "siblings": tree}),), _answer)
        yield Parser("head of a card", (_CARD,), self.read_card, "bytes")
        yield from Given(self.folder / "given").parsers()

    def read_weights(self, content: bytes) -> None:
        (self.single / "model.safetensors").write_bytes(content)
        store = open_store(self.single)
        for name in store.specs:
            store.raw(name)

    def read_index(self, content: bytes) -> None:
        (self.shards / "model.safetensors.index.json").write_bytes(content)
        open_store(self.shards)

    def read_config(self, content: bytes) -> None:
        with self._changed("config.json", content):
            layout = detect_layout(open_store(self.model))
            layout.identity()
            layout.refusal()
            for form in export_forms():
                form.obstacles(layout)
            pruned_config(layout, self.plan)

    def read_quantisation(self, content: bytes) -> None:
        self._detect(self.config | {"quantization_config": _plain(content)})

    def read_entry(self, content: bytes) -> None:
        self._detect(self.pruned | {"gatenorm": _plain(content)})

    def _detect(self, config: dict[str, Any]) -> None:
        self.layout.checkpoint.config = config
        try:
            detect_layout(self.layout.checkpoint)
        finally:
            self.layout.checkpoint.config = self.config

    def exported(self) -> dict[str, Any]:
        blocks = [{"attention": {"no_op": bool(i)}, "ffn": {"no_op": False}} for i in range(4)]
        edits = [{"layer": 1, "sublayer": "attention", "operation": "remove"}]
        ours = {"edits": edits, "zero_attention": [0], "layers": 4}
        return {"model_type": "nemotron-nas", "block_configs": blocks, "gatenorm": ours, "max_position_embeddings": 9}

    def read_exported(self, content: bytes) -> None:
        (self.single / "model.safetensors").write_bytes(self.weights)
        (self.single / "config.json").write_bytes(content)
        try:
            nas_export.read(self.single)
        finally:
            (self.single / "config.json").write_text("{}")

    def beside(self, name: str) -> Callable[[bytes], None]:
        """Reads a file beside the weights, as pruning and exports do."""

        def read(content: bytes) -> None:
            with self._changed(name, content):
                check_companions(self.model, (name,))
                without_code(read_json(self.model / name, name, LARGE))
                tokenizer_config(self.layout)
                tokenizer(self.layout, 1024)

        return read

    def read_card(self, content: bytes) -> None:
        with self._changed("README.md", content):
            metadata_of(self.layout, (), [])

    @contextmanager
    def _changed(self, name: str, content: bytes) -> Iterator[None]:
        path = self.model / name
        before = path.read_bytes() if path.exists() else None
        path.write_bytes(content)
        try:
            yield
        finally:
            path.unlink() if before is None else path.write_bytes(before)

    def read_owner(self, content: bytes) -> None:
        marker = self.folder / "audit" / "state" / "audit.json"
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.write_bytes(content)
        check_directory(self.folder / "audit", self.identity)

    def recovery(self) -> bytes:
        import torch

        state = recovery_state.State(2, [Look(step=0, held_out=1.0, seconds=1.0)], {"best": {"a": torch.ones(2)}})
        recovery_state.save(state, self.folder / "state", self.asked)
        return (self.folder / "state").read_bytes()

    def read_recovery(self, path: Path) -> object:
        return recovery_state.load(path, self.asked)

    def read_kept(self, content: bytes) -> None:
        (file,) = self.store.directory.glob("*.json")
        before = file.read_bytes()
        file.write_bytes(content)
        try:
            assert self.store.get(self.asked, Plan) in (None, self.plan)
        finally:
            file.write_bytes(before)


def _plain(content: bytes) -> Any:
    """As it lies in a file that was read: who reads that says which file it was."""
    try:
        return parse_json(content)
    except ValueError as error:
        raise CheckpointError("config-unreadable", str(error)) from None


def _record(kind: type[Any], what: str) -> Callable[[Path], object]:
    return lambda path: read_record(kind, path, what)


def _evidence(path: Path) -> object:
    return evidence_from_json(read_json(path, "evidence"))


def _model(path: Path) -> None:
    layout = api.open_model(path)
    for name in [*layout.checkpoint.specs][:3]:
        layout.checkpoint.float32(name, slice(0, 1))
    for form in export_forms():
        form.obstacles(layout)


def _template(content: bytes) -> None:
    given = SimpleNamespace(chat_template=content.decode("utf-8", "replace"))
    render(given, [{"role": "user", "content": "One."}], add_generation_prompt=True)


def _answer(content: bytes) -> None:
    request = CLIENT.Request("GET", "https://huggingface.co/api/models/org/model")
    _ask_plainly(request)
    _check({}, CLIENT.Response(200, content=content, request=request))


def _sentencepiece() -> bytes:
    piece = b"\x0a\x03abc\x15\x00\x00\x80\x3f\x18\x01"
    return b"".join(b"\x0a" + bytes([len(piece)]) + piece for _ in range(3)) + b"\x12\x02\x18\x02\x1a\x02\x20\x00"


def _gguf() -> bytes:
    def string(words: str) -> bytes:
        return struct.pack("<Q", len(words)) + words.encode()

    entries = [string("general.architecture") + struct.pack("<I", 8) + string("llama")]
    for key in ("block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count"):
        entries.append(string(f"llama.{key}") + struct.pack("<II", 4, 8))
    edits = json.dumps([{"layer": 1, "sublayer": "attention", "operation": "remove"}])
    entries.append(string("gatenorm.edits") + struct.pack("<I", 8) + string(edits))
    entries.append(string("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2) + string("a") + string("b"))
    tensor = string("t") + struct.pack("<IQIQ", 1, 32, 0, 0)
    sound = b"GGUF" + struct.pack("<IQQ", 3, 1, len(entries)) + b"".join(entries) + tensor
    return sound + bytes(-len(sound) % 32) + bytes(128)

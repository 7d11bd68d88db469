"""A wrong tensor in a quantised file is found and named; right ones pass, if the engine computes rightly with them."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import gatenorm
from gatenorm.api import open_model, verify
from gatenorm.checkpoint.formats.gguf.model import in_halves
from gatenorm.checkpoint.formats.gguf.store import GgufStore
from gatenorm.exports.gguf import types as gguf_types, writer as gguf
from gatenorm.exports.gguf.tensors import interleaved
from gatenorm.exports.verify.dequantized_model import take_over
from gatenorm.exports.verify.gguf_comparison import compare
from gatenorm.exports.verify.tolerances import ROUNDING
from gatenorm.models.loading import load
from gatenorm.progress import Progress
from gatenorm.records import to_json
from tests.errors import refused
from tests.export import gguf_models

gguf_package = pytest.importorskip("gguf")
pytest.importorskip("xllamacpp")

QUANTISED = ("q8_0", "q4_k_m")
SWAPS = {
    "gate and up": ("mlp.gate_proj", "mlp.up_proj", "ffn_gate"),
    "keys and values": ("self_attn.k_proj", "self_attn.v_proj", "attn_k"),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama whose rows fill the blocks of the K types, with biases, pruned at its first layer."""
    place = tmp_path_factory.mktemp("wide")
    shape = {"hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 8, "num_key_value_heads": 4}
    config = transformers.LlamaConfig(
        **shape, num_hidden_layers=4, vocab_size=416, max_position_embeddings=256, attention_bias=True, bos_token_id=0
    )
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = 1 / parameter.shape[-1] ** 0.5 if parameter.ndim > 1 else 0.2
            parameter.copy_(torch.randn_like(parameter) * scale + name.endswith("norm.weight"))
    model.save_pretrained(place / "dense")
    gguf_models.write_tokenizer(gguf_models.CASES["mistral"], place / "dense")
    return gatenorm.prune(place / "dense", place / "pruned", gatenorm.plan(place / "dense", drop=[0])).path


Exported = Callable[[Path, str], Path]


@pytest.fixture
def exported(tmp_path: Path) -> Exported:
    def write(directory: Path, dtype: str) -> Path:
        out = tmp_path / f"{directory.name}.{dtype}.gguf"
        gguf.write(open_model(directory), out, dtype=dtype)
        return out

    return write


def swapped(directory: Path, first: str, second: str, out: Path) -> Path:
    """The checkpoint with two matrices of layer 2 exchanged."""
    shutil.copytree(directory, out)
    tensors = load_file(out / "model.safetensors")
    one, other = (f"model.layers.2.{name}.weight" for name in (first, second))
    tensors[one], tensors[other] = tensors[other].clone(), tensors[one].clone()
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    return out


@pytest.mark.parametrize("dtype", QUANTISED)
def test_a_right_file_passes_closely(source: Path, exported: Exported, dtype: str):
    verdict = verify(exported(source, dtype), source, tokens=24)
    figures = verdict.numbers()
    assert verdict.faults == ()
    assert (figures["wrong_tensors"], figures["tensors"]) == (0, len(GgufStore(exported(source, "f32")).specs))
    assert figures["row_error_q8_0" if dtype == "q8_0" else "row_error_q4_k"] > 0
    assert figures["mean_kl"] < 0.02
    assert "the file's own tensors" in verdict.protocol.reference


@pytest.mark.parametrize("swap", SWAPS)
@pytest.mark.parametrize("dtype", QUANTISED)
def test_a_swapped_tensor_is_found_and_named(source: Path, exported: Exported, dtype: str, swap: str, tmp_path: Path):
    first, second, named = SWAPS[swap]
    verdict = verify(exported(swapped(source, first, second, tmp_path / "swapped"), dtype), source, tokens=8)
    assert verdict.numbers()["wrong_tensors"] == 2
    faults = "\n".join(verdict.faults)
    assert "mean KL divergence" in faults
    assert f"blk.2.{named}.weight" in faults
    assert f"is not model.layers.2.{first}.weight" in faults


def test_right_tensors_computed_otherwise_are_found(source: Path, exported: Exported):
    """Another base of the rotation: every tensor is right, what the engine computes is not."""
    path = exported(source, "q4_k_m")
    data = path.read_bytes()
    key = b"deci.rope.freq_base" + struct.pack("<I", 6)
    path.write_bytes(data.replace(key + struct.pack("<f", 10000.0), key + struct.pack("<f", 500.0)))
    verdict = verify(path, source, tokens=16)
    assert verdict.numbers()["wrong_tensors"] == 0
    assert any("mean KL divergence" in fault for fault in verdict.faults)


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m"])
def test_every_type_stays_within_what_it_rounds_by(source: Path, exported: Exported, dtype: str):
    contents, layout = GgufStore(exported(source, dtype)), open_model(source)
    compared = compare(contents, layout)
    assert compared.faults == ()
    for kind, errors in compared.errors.items():
        assert max(errors.values()) <= ROUNDING[kind].relative


@pytest.mark.parametrize("kind", [kind for kind in ROUNDING if kind != "F32"])
def test_rows_of_all_sorts_stay_within_the_limits(kind: str):
    """Heavy tails, one number among zeros, rows next to nothing: no right file is called wrong."""
    random = np.random.default_rng(0)
    rows = [
        *random.standard_normal((64, 512)),
        *random.standard_t(2, (64, 512)),
        *random.uniform(0, 1, (8, 512)),
        *(random.standard_normal((8, 512)) * np.where(np.arange(512) % 97 == 5, 60, 1)),
        *(random.standard_normal((8, 512)) * 1e-6),
        np.zeros(512),
        np.eye(512)[7],
    ]
    values = np.array(rows, np.float32)
    encoded = gguf_types.encode(values, "F32", kind, "rows")
    data = encoded.view(np.uint8).reshape(len(rows), -1)
    found = gguf_package.quants.dequantize(data, gguf_package.GGMLQuantizationType[kind]).reshape(values.shape)
    off = np.sqrt(np.square(found.astype(np.float64) - values).sum(axis=-1))
    assert (off <= ROUNDING[kind].limit(values)).all()
    shuffled = np.sqrt(np.square(found[1:64].astype(np.float64) - values[:63]).sum(axis=-1))
    assert (shuffled > 3 * ROUNDING[kind].limit(values[:63])).all()


def test_the_reference_gets_the_files_tensors_in_its_own_order(source: Path, exported: Exported):
    rows = np.arange(24, dtype=np.float32).reshape(12, 2)
    np.testing.assert_array_equal(in_halves(interleaved(rows, 6), 6), rows)
    model, contents = load(source, dtype=torch.float32), GgufStore(exported(source, "q8_0"))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    take_over(model, contents, open_model(source))
    for name, tensor in model.state_dict().items():
        error = (tensor - before[name]).norm() / before[name].norm()
        assert (0 < error < 0.02) if tensor.ndim > 1 else error == 0, name


def test_progress_counts_the_bytes_compared_then_the_prompts(source: Path, exported: Exported):
    seen: dict[str, list[tuple[int, int]]] = {}

    @contextmanager
    def bars(what: str, unit: str) -> Iterator[Progress]:
        yield lambda done, total: seen.setdefault(unit, []).append((done, total))

    path = exported(source, "q8_0")
    verify(path, source, tokens=2, bars=bars)
    tensors = [spec.nbytes for spec in GgufStore(path).specs.values()]
    assert list(seen) == ["bytes", "prompts"]
    assert (seen["bytes"][0], seen["bytes"][-1]) == ((0, sum(tensors)), (sum(tensors),) * 2)
    assert len(seen["bytes"]) == len(tensors) + 1
    assert seen["prompts"] == [(n, 4) for n in range(5)]


def test_missing_foreign_and_misshapen_tensors_are_named(source: Path, exported: Exported):
    contents, layout = GgufStore(exported(source, "f32")), open_model(source)
    tensors = contents.specs
    tensors["blk.9.ffn_up.weight"] = tensors.pop("blk.2.ffn_up.weight")
    tensors["output_norm.weight"], tensors["output.weight"] = tensors["output.weight"], tensors["output_norm.weight"]
    compared = compare(contents, layout)
    assert compared.wrong == 4
    assert compared.faults[0] == "tensor output_norm.weight has shape [416, 256], not [256]"
    assert compared.faults[2] == "tensor blk.2.ffn_up.weight is missing"
    assert compared.faults[3] == "and 1 more tensors"


def test_quantised_files_of_other_architectures_are_not_judged(source: Path, exported: Exported):
    path = exported(source, "q8_0")
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack("<Q", 4) + b"deci", struct.pack("<Q", 4) + b"opal", 1))
    from gatenorm.exports.verify.dequantized_model import hold

    with refused("architecture-unknown"):
        hold(path, open_model(source), load(source, dtype=torch.float32))


def test_types_whose_rounding_is_not_known_are_refused(source: Path, exported: Exported):
    contents = GgufStore(exported(source, "f32"))
    tensors = contents.specs
    tensors["output.weight"] = replace(tensors["output.weight"], dtype="IQ4_NL")
    with refused("rounding-unknown"):
        compare(contents, open_model(source))


def test_the_record_is_json(source: Path, exported: Exported):
    verdict = verify(exported(source, "q8_0"), source, tokens=4)
    assert json.loads(json.dumps(to_json(verdict)))["row_errors"]["f32"] == 0

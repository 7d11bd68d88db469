"""nemotron-nas directories: tensor by tensor what they should be, and the function that they describe."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, strategies as st
from safetensors.torch import load_file, save_file

import gatenorm
from gatenorm.errors import OutputError
from gatenorm.exports.nemotron.tensors import ffn_mult
from gatenorm.exports.registry import Variant, export_form
from gatenorm.records import Edits, Written
from tests import tiny_models
from tests.errors import refused
from tests.export import llama_like_models as models
from tests.export.llama_like_models import CASES, DROPS, LAYERS
from tests.export.naive_nemotron import as_readers_compute_it, forward
from tests.replaced import write_edited

TOKENS = torch.randint(3, models.VOCABULARY, (1, 60), generator=torch.Generator().manual_seed(7))
BOTH = pytest.mark.parametrize(("name", "drop"), [(name, drop) for name in CASES for drop in DROPS])


def export(source: Path, out: Path, **options: Any) -> Written:
    return export_form("nemotron-nas").write(gatenorm.open_model(source), out, **options)


def read_config(directory: Path) -> dict[str, Any]:
    return dict(json.loads((directory / "config.json").read_text()))


def read_tensors(directory: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in directory.glob("*.safetensors") for name, tensor in load_file(file).items()}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """``exported(name, drop)``: the source, the directory written from it, and what was said; written once."""
    written: dict[Any, tuple[Path, Path, Written]] = {}

    def directories(name: str, drop: tuple[int, ...]) -> tuple[Path, Path, Written]:
        if (name, drop) not in written:
            place = tmp_path_factory.mktemp(name)
            source = models.write(name, place, drop)
            written[name, drop] = (source, place / "out", export(source, place / "out"))
        return written[name, drop]

    return directories


@BOTH
def test_every_tensor_is_what_it_should_be(name: str, drop: tuple[int, ...], exported: Any):
    source, out, _ = exported(name, drop)
    expected, config = read_tensors(source), CASES[name][1]
    width = -(-config["intermediate_size"] // 256) * 256
    biased = any(key.endswith("q_proj.bias") for key in expected)
    kept = [layer for layer in range(LAYERS) if layer not in drop]
    for layer in range(LAYERS):
        block = f"model.layers.{layer}"
        for projection in ("gate", "up"):
            weight = expected[f"{block}.mlp.{projection}_proj.weight"]
            grown = torch.cat([weight, torch.zeros(width - weight.shape[0], weight.shape[1])])
            expected[f"{block}.mlp.{projection}_proj.weight"] = grown
        weight = expected[f"{block}.mlp.down_proj.weight"]
        grown = torch.cat([weight, torch.zeros(weight.shape[0], width - weight.shape[1])], dim=1)
        expected[f"{block}.mlp.down_proj.weight"] = grown
        if biased and layer in kept:
            expected.setdefault(f"{block}.self_attn.o_proj.bias", torch.zeros(config["hidden_size"]))
    if 0 in drop:
        like = f"model.layers.{kept[0]}.self_attn."
        for key in [key for key in expected if key.startswith(like)]:
            expected["model.layers.0.self_attn." + key.removeprefix(like)] = torch.zeros_like(expected[key])
        expected["model.layers.0.input_layernorm.weight"] = torch.ones(config["hidden_size"])
    found = read_tensors(out)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}
    # and the other way round: nothing of a layer whose attention is gone
    gone = [f"model.layers.{layer}.{part}" for layer in drop if layer for part in ("self_attn", "input_layernorm")]
    assert not [key for key in found if key.startswith(tuple(gone))]


@pytest.mark.parametrize("name", ["llama", "qwen2", "llama-tied"])
def test_mlps_and_blocks_are_no_ops_too(name: str, tmp_path: Path):
    """Layer 0 without anything keeps an attention of zeros, 2 has lost its MLP, 3 its attention, the last its block."""
    source = models.write(name, tmp_path, ())
    for place, (kind, drop) in enumerate([("block", (0, LAYERS - 1)), ("mlp", (2,)), ("attention", (3,))]):
        source = gatenorm.prune(source, tmp_path / str(place), gatenorm.plan(source, drop=drop, kind=kind)).path
    export(source, tmp_path / "out")
    config, last = read_config(tmp_path / "out"), LAYERS - 1
    blocks = config["block_configs"]
    assert [n for n, block in enumerate(blocks) if block["attention"]["no_op"]] == [3, last]
    assert [n for n, block in enumerate(blocks) if block["ffn"]["no_op"]] == [0, 2, last]
    assert [block["ffn"]["ffn_mult"] for block in blocks if block["ffn"]["no_op"]] == [None] * 3
    assert Edits.from_json(config["gatenorm"]["edits"]) == Edits.of("attention", (0, 3, last)) | Edits.of(
        "mlp", (0, 2, last)
    )
    found = read_tensors(tmp_path / "out")
    assert not [key for key in found if key.startswith((f"model.layers.{last}.", "model.layers.0.mlp"))]
    ids = torch.arange(5, 25)
    with torch.no_grad():
        expected = gatenorm.load(source, dtype=torch.float64)(ids[None]).logits[0]
    assert (forward(config, found, ids) - expected).abs().max() < 1e-5 * expected.abs().max()
    variant = Variant.exported(tmp_path / "out")
    assert variant.edits == Edits.of("attention", (3, last)) | Edits.of("mlp", (0, 2, last))


EDITS = {
    "middle": Edits.of("attention", (1, 3), "linear"),
    "layer 0": Edits.of("attention", (0, 2), "linear") | Edits.of("block", (3,)),
    "behind a zero attention": Edits.of("attention", (0,)) | Edits.of("attention", (1,), "linear"),
    "of stated rank": Edits.of("attention", (1,), "linear:4") | Edits.of("attention", (3,), "linear"),
    "without an MLP": Edits.of("attention", (2,), "linear") | Edits.of("mlp", (2, 4)),
}


@pytest.mark.parametrize("case", EDITS)
@pytest.mark.parametrize("name", ["llama", "qwen2", "llama-tied"])
def test_a_linear_map_is_a_block_of_its_own(name: str, case: str, tmp_path: Path):
    edits = EDITS[case]
    source = write_edited(models.write(name, tmp_path, ()), tmp_path / "edited", edits)
    written = export(source, tmp_path / "out")
    replaced = [edit.layer for edit in edits if edit.operation != "remove"]
    config, found = read_config(tmp_path / "out"), read_tensors(tmp_path / "out")
    assert config["num_hidden_layers"] == len(config["block_configs"]) == LAYERS + len(replaced)
    own = [place for place, block in enumerate(config["block_configs"]) if block["ffn"]["replace_with_linear"]]
    assert own == [layer + at for at, layer in enumerate(replaced)]
    stored = read_tensors(source)
    for place, layer in zip(own, replaced, strict=True):
        own = {name: stored.get(f"model.layers.{layer}.self_attn.{name}") for name in ("matrix", "up", "down")}
        matrix = own["up"] @ own["down"] if own["matrix"] is None else own["matrix"]
        torch.testing.assert_close(found[f"model.layers.{place}.mlp.linear.weight"], matrix)
        for which in (place, place + 1):
            assert config["block_configs"][which]["attention"]["no_op"]
            assert not [key for key in found if key.startswith(f"model.layers.{which}.self_attn.")]
    ids = torch.arange(5, 25)
    with torch.no_grad():
        expected = gatenorm.load(source, dtype=torch.float64)(ids[None]).logits[0]
    assert (forward(config, found, ids) - expected).abs().max() < 1e-5 * expected.abs().max()
    variant = Variant.exported(tmp_path / "out")
    assert variant.identity.layers == LAYERS
    assert variant.edits == edits - (Edits.of("attention", (0,)) if case.startswith("behind") else Edits())
    assert written.engines == ("vLLM", "MLX-LM")
    costs = (
        "layers 1: the map of rank 4 is written as the full matrix that it is the product of, and costs as much as one"
    )
    assert (costs in written.notes) == (case == "of stated rank")
    assert any("vLLM reads them only where gatenorm is installed" in note for note in written.notes)


@BOTH
def test_the_config_describes_the_blocks(name: str, drop: tuple[int, ...], exported: Any):
    source, out, _ = exported(name, drop)
    config, arguments = read_config(out), CASES[name][1]
    assert (config["model_type"], config["architectures"]) == ("nemotron-nas", ["DeciLMForCausalLM"])
    assert config["num_hidden_layers"] == len(config["block_configs"]) == LAYERS
    assert [i for i, block in enumerate(config["block_configs"]) if block["attention"]["no_op"]] == [
        layer for layer in drop if layer != 0
    ]
    for block in config["block_configs"]:
        attention, ffn = block["attention"], block["ffn"]
        group = arguments["num_attention_heads"] // arguments["num_key_value_heads"]
        assert attention["n_heads_in_group"] == (None if attention["no_op"] else group)
        assert as_readers_compute_it(ffn["ffn_mult"], config["hidden_size"]) == config["intermediate_size"]
        assert not any([ffn["no_op"], ffn["replace_with_linear"], attention["replace_with_linear"]])
    assert Edits.from_json(config["gatenorm"]["edits"]) == Edits.of("attention", drop)
    assert config["gatenorm"]["zero_attention"] == [layer for layer in drop if layer == 0]
    stock = gatenorm.load(source).config
    for key in ("vocab_size", "hidden_size", "num_attention_heads", "head_dim", "rms_norm_eps", "hidden_act"):
        if hasattr(stock, key):  # Qwen2 has no head_dim
            assert config[key] == getattr(stock, key), key
    for key in ("max_position_embeddings", "tie_word_embeddings", "bos_token_id", "eos_token_id", "pad_token_id"):
        assert config[key] == getattr(stock, key), key
    assert config["attention_bias"] == (name in ("qwen2", "llama-biased"))
    assert config["torch_dtype"] == "float32"
    rope = dict(stock.rope_parameters)
    assert config["rope_theta"] == rope.pop("rope_theta")
    assert config.get("rope_scaling", {"rope_type": "default"}) == rope


@BOTH
def test_what_the_directory_describes_is_the_model(name: str, drop: tuple[int, ...], exported: Any):
    source, out, _ = exported(name, drop)
    with torch.inference_mode():
        expected = gatenorm.load(source, dtype=torch.float64)(TOKENS).logits[0]
        found = forward(read_config(out), read_tensors(out), TOKENS[0])
    assert expected.std() > 0.3
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


@given(st.integers(1, 1024), st.integers(1, 32768))
def test_readers_compute_the_mlps_width_from_the_factor(multiple: int, width: int):
    factor = ffn_mult(256 * multiple, width)
    assert as_readers_compute_it(factor, width) == 256 * multiple
    assert as_readers_compute_it(round(factor, 6), width) == 256 * multiple  # MLX-LM keeps six decimals


def test_the_notes_say_what_is_not_as_in_the_source(exported: Any):
    assert len(exported("llama-tied", (2,))[2].notes) == 1  # --trust-remote-code
    notes = " ".join(exported("qwen2", (0, 4))[2].notes)
    assert "layer 0 has no attention in the source" in notes
    assert "4 of 5 layers keep a cache, not 3" in notes
    assert "from 336 to 512 hidden units" in notes
    assert "52.4% larger" in notes
    assert "TensorRT-LLM leaves out" in notes
    assert "MLX-LM refuses" in " ".join(exported("llama-narrow-heads", (2,))[2].notes)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_the_stored_type_stays(dtype: str, tmp_path: Path):
    source = models.write("qwen2", tmp_path, (0,))
    tensors = {name: tensor.to(getattr(torch, dtype)) for name, tensor in read_tensors(source).items()}
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    written = export(source, tmp_path / "out")
    found = read_tensors(tmp_path / "out")
    assert {tensor.dtype for tensor in found.values()} == {getattr(torch, dtype)}
    assert read_config(tmp_path / "out")["torch_dtype"] == dtype
    assert torch.equal(found["model.layers.0.input_layernorm.weight"], torch.ones(128, dtype=getattr(torch, dtype)))
    down = "model.layers.3.mlp.down_proj.weight"
    assert torch.equal(found[down][:, : models.ODD_MLP], tensors[down])
    assert not found[down][:, models.ODD_MLP :].any()
    assert written.bytes == (tmp_path / "out" / "model.safetensors").stat().st_size


@pytest.mark.parametrize("kernel", [True, False])
def test_shards_are_kept_and_numbered_anew(kernel: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if not kernel:
        monkeypatch.delattr("os.copy_file_range")
    source = models.write("llama", tmp_path, (0, 4))
    export(source, tmp_path / "one")
    shards = tmp_path / "shards"
    gatenorm.load(source).save_pretrained(shards, max_shard_size="300KB")
    shutil.copyfile(source / "config.json", shards / "config.json")
    # names as another writer might choose them, one of which MLX-LM would not find
    first = sorted(shards.glob("*.safetensors"))[0]
    index = (shards / "model.safetensors.index.json").read_text().replace(first.name, "weights-a.safetensors")
    (shards / "model.safetensors.index.json").write_text(index)
    first.rename(shards / "weights-a.safetensors")
    calls: list[tuple[int, int]] = []
    written = export(shards, tmp_path / "many", progress=lambda *call: calls.append(call))
    files = sorted(path.name for path in (tmp_path / "many").glob("*.safetensors"))
    assert len(files) > 3
    assert files == [f"model-{i + 1:05}-of-{len(files):05}.safetensors" for i in range(len(files))]
    one, many = read_tensors(tmp_path / "one"), read_tensors(tmp_path / "many")
    assert one.keys() == many.keys()
    assert all(torch.equal(one[name], many[name]) for name in one)
    index = json.loads((tmp_path / "many" / "model.safetensors.index.json").read_text())
    held = {name: file for file in files for name in load_file(tmp_path / "many" / file)}
    assert index["weight_map"] == held
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in many.values())
    sizes = sum((tmp_path / "many" / file).stat().st_size for file in files)
    assert calls[-1] == (sizes, sizes) == (written.bytes, written.bytes)


def test_what_lies_beside_the_weights_is_carried_over(tmp_path: Path):
    source = models.write("llama", tmp_path, (2,))
    (source / "tokenizer.json").write_text("{}")
    (source / "LICENSE").write_text("terms")
    (source / "pytorch_model.bin").write_text("weights")
    (tmp_path / "secret").write_text("not part of the model")
    (source / "notes.txt").symlink_to(tmp_path / "secret")
    written = export(source, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "config.json",
        "configuration_decilm.py",
        "gatenorm.json",
        "generation_config.json",
        "LICENSE",
        "model.safetensors",
        "README.md",
        "tokenizer.json",
    }
    assert any("notes.txt is a link" in said for said in written.left_out)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "[LICENSE](LICENSE)" in card
    assert "without the attention of layers 2" in card


def test_engines_get_the_blocks_as_objects(exported: Any):
    from transformers import AutoConfig

    _, out, _ = exported("llama", (0, 4))
    config = AutoConfig.from_pretrained(out, trust_remote_code=True)
    assert [block.attention.no_op for block in config.block_configs] == [False, False, False, False, True]
    assert config.block_configs[0].attention.n_heads_in_group == 2
    assert not hasattr(config.block_configs[0].ffn, "intermediate_size")
    assert config.rope_parameters["rope_type"] == "llama3"
    assert json.loads(config.to_json_string())["block_configs"] == read_config(out)["block_configs"]


def test_a_base_model_with_tied_embeddings_gets_the_names_of_a_whole_one(exported: Any, tmp_path: Path):
    models.build("llama-tied").base_model.save_pretrained(tmp_path / "base")
    export(tmp_path / "base", tmp_path / "out")
    whole, base = read_tensors(exported("llama-tied", ())[1]), read_tensors(tmp_path / "out")
    assert whole.keys() == base.keys()
    assert all(torch.equal(whole[name], base[name]) for name in whole)


def test_a_tied_matrix_under_the_heads_name_is_written_under_both_of_ours(exported: Any, tmp_path: Path):
    source = models.write("llama-tied", tmp_path, ())
    tensors = read_tensors(source)
    tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")
    save_file(tensors, source / "model.safetensors", {"model.embed_tokens.weight": "lm_head.weight"})
    export(source, tmp_path / "out")
    expected, found = read_tensors(exported("llama-tied", ())[1]), read_tensors(tmp_path / "out")
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize("same", [True, False])
def test_an_output_matrix_beside_tied_embeddings_counts_where_it_differs(same: bool, tmp_path: Path):
    source = models.write("llama-tied", tmp_path, ())
    tensors = read_tensors(source)
    head = tensors["model.embed_tokens.weight"].clone() if same else tensors["model.embed_tokens.weight"].flip(0)
    save_file(tensors | {"lm_head.weight": head.contiguous()}, source / "model.safetensors", {"format": "pt"})
    export(source, tmp_path / "out")
    assert read_config(tmp_path / "out")["tie_word_embeddings"] is same
    with torch.inference_mode():
        expected = gatenorm.load(source, dtype=torch.float64)(TOKENS).logits[0]
        found = forward(read_config(tmp_path / "out"), read_tensors(tmp_path / "out"), TOKENS[0])
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("qwen3", "QK-norm"),
        ("gemma2", "RMSNorm"),
        ("olmo2", "post-norm"),
        ("gpt2", "gpt2 blocks"),
        ("opt", "opt blocks"),
        ("phi3", "fused"),
        ("mistral", "sliding window"),
        ("qwen2-sliding", "sliding window"),
    ],
)
def test_what_cannot_be_expressed_is_refused_by_name(name: str, why: str, tmp_path: Path):
    source = tiny_models.save(name, tmp_path / "model")
    with refused("not-exportable", kind=OutputError) as caught:
        export(source, tmp_path / "out")
    assert why in caught.value.problem
    assert not (tmp_path / "out").exists()


def test_what_is_not_whole_or_too_much_is_refused(tmp_path: Path):
    models.build("llama").base_model.save_pretrained(tmp_path / "base")
    with refused("not-exportable", kind=OutputError) as caught:
        export(tmp_path / "base", tmp_path / "out")
    assert "lm_head.weight" in caught.value.problem
    source = models.write("llama", tmp_path, ())
    tensors = read_tensors(source) | {"model.layers.1.self_attn.sinks": torch.ones(4)}
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)  # an old release's, and harmless
    save_file(tensors, source / "model.safetensors", {"format": "pt"})
    with refused("not-exportable", kind=OutputError) as caught:
        export(source, tmp_path / "out")
    assert "1 tensors" in caught.value.problem
    assert "model.layers.1.self_attn.sinks" in caught.value.problem
    config = read_config(source)
    config["rope_parameters"] = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0}
    (source / "config.json").write_text(json.dumps(config))
    with refused("not-exportable", kind=OutputError) as caught:
        export(source, tmp_path / "out")
    assert "yarn" in caught.value.problem


def test_it_appears_whole_or_not_at_all(tmp_path: Path):
    source = models.write("llama", tmp_path, (0,))

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(source, tmp_path / "out", progress=interrupt)
    assert {path.name for path in tmp_path.iterdir()} == {"dense", "pruned"}
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("")
    with refused("out-taken", "out", OutputError):
        export(source, tmp_path / "out")


def test_a_type_that_it_does_not_write_is_refused(exported: Any, tmp_path: Path):
    with refused("dtype-unknown", "dtype", OutputError):
        export(exported("llama", ())[0], tmp_path / "out", dtype="q8_0")

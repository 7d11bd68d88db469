"""Pruned models against the stock model with the same attentions silenced: loaded, live, saved and loaded again."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from gatenorm.errors import PlanError
from gatenorm.families import classes
from gatenorm.records import Plan
from gatenorm.surgery import modeling_gatenorm as modeling
from gatenorm.surgery.live import remove_attention
from gatenorm.surgery.registration import register, register_adapter_targets
from tests.surgery.pruned_models import (
    LAYERS,
    SHAPES,
    VOCABULARY,
    blocks_of,
    build,
    pruned_config,
    pruned_tensors,
    silenced,
    write_pruned,
)

CLASSES = classes()
register(CLASSES)

DROPS = {"middle": (2, 3), "first": (0,), "ends": (0, 5), "all-but-one": (0, 1, 2, 4, 5)}
FULL = ["llama", "gemma2", "gpt2", "gpt-neo"]
every_shape = pytest.mark.parametrize("name", SHAPES)
every_drop = pytest.mark.parametrize("drop", DROPS.values(), ids=DROPS)
full = pytest.mark.parametrize("name", FULL)
# The other two have eager attention only.
with_attention = pytest.mark.parametrize(
    ("name", "attention"), [*((name, "eager") for name in FULL), ("llama", "sdpa"), ("gpt2", "sdpa")]
)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(1)


@pytest.fixture(scope="session")
def directories(tmp_path_factory):
    """Pruned directories by shape and dropped layers, written once."""
    root = tmp_path_factory.mktemp("pruned")

    @cache
    def directory(name: str, drop: tuple[int, ...]) -> Path:
        return write_pruned(build(name), name, drop, root / f"{name}-{'-'.join(map(str, drop))}")

    return directory


def load(directory: Path, **options: Any) -> Any:
    model, report = AutoModelForCausalLM.from_pretrained(directory, output_loading_info=True, **options)
    assert not any(report.values()), report
    return model


def tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(2, VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))


def padded_batch() -> dict[str, torch.Tensor]:
    """Two texts of different lengths, the shorter one padded on the left."""
    ids, mask = tokens(2, 11), torch.ones(2, 11, dtype=torch.long)
    ids[1, :4], mask[1, :4] = 0, 0
    return {"input_ids": ids, "attention_mask": mask}


def decode(model: Any, inputs: dict[str, torch.Tensor], **options: Any) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """Generated ids, the raw logits of every step [batch, steps, vocabulary], and the cache at the end."""
    result = model.generate(
        **inputs,
        max_new_tokens=9,
        min_new_tokens=9,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
        **options,
    )
    return result.sequences, torch.stack(result.logits, dim=1), result.past_key_values


def assert_same_text(pruned: Any, stock: Any, name: str, drop: tuple[int, ...], inputs: Any, **options: Any) -> Any:
    with silenced(stock, name, drop):
        expected_ids, expected, _ = decode(stock, inputs, **options)
    ids, logits, past = decode(pruned, inputs, **options)
    assert torch.equal(ids, expected_ids)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    return past


# What the model computes


@every_shape
@every_drop
def test_logits_hidden_states_and_modules(name, drop, directories):
    stock, pruned, ids = build(name), load(directories(name, drop)), tokens(2, 17)
    with torch.no_grad(), silenced(stock, name, drop):
        expected = stock(ids, output_hidden_states=True)
    with torch.no_grad():
        found = pruned(ids, output_hidden_states=True)
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-5, rtol=1e-5)
    assert len(found.hidden_states) == len(expected.hidden_states) == LAYERS + 1
    torch.testing.assert_close(found.hidden_states, expected.hidden_states, atol=1e-5, rtol=1e-5)
    assert len(found.past_key_values.layers) == LAYERS - len(drop) == pruned.config.num_hidden_layers

    # The silenced attention really mattered: the test would pass for any model otherwise.
    with torch.no_grad():
        assert (stock(ids).logits - expected.logits).abs().max() > 1e-2

    assert set(pruned.state_dict()) == set(stock.state_dict()) - {
        key
        for key in stock.state_dict()
        for index in drop
        for module in SHAPES[name].block["attention"]
        if key.startswith(f"{SHAPES[name].block['path']}.{index}.{module}.")
    }
    blocks = blocks_of(pruned, SHAPES[name])
    assert len(blocks) == LAYERS
    for index, block in enumerate(blocks):
        assert isinstance(block, modeling.AttentionFree) is (index in drop)
        assert isinstance(block, type(blocks_of(stock, SHAPES[name])[index]))
        for module in SHAPES[name].block["attention"]:
            assert hasattr(block, module) is (index not in drop)


@every_shape
def test_padded_batch_decodes_alike(name, directories):
    drop = (0, 3)
    past = assert_same_text(load(directories(name, drop)), build(name), name, drop, padded_batch())
    assert len(past.layers) == LAYERS - len(drop)


@with_attention
@every_drop
def test_decoding_with_either_attention_and_cache(name, drop, attention, directories):
    stock = build(name, attn_implementation=attention)
    pruned = load(directories(name, drop), attn_implementation=attention)
    assert pruned.config._attn_implementation == attention
    for options in ({}, {"cache_implementation": "static"}, {"num_beams": 3}, {"use_cache": False}):
        past = assert_same_text(pruned, stock, name, drop, padded_batch(), **options)
        assert past is None or len(past.layers) == LAYERS - len(drop)


@full
def test_cache_can_be_cropped_and_continued(name, directories):
    drop, ids, other = (0, 3), tokens(1, 9), tokens(1, 4, seed=5)
    if name in ("gemma2",):
        ids = ids[:, :4]  # a sliding cache forgets what lies outside its window: it can be cropped only before that
    pruned, stock = load(directories(name, drop)), build(name)
    with torch.no_grad():
        past = pruned(ids, use_cache=True).past_key_values
        past.crop(-2)
        found = pruned(other, past_key_values=past, use_cache=True).logits
        with silenced(stock, name, drop):
            expected = stock(torch.cat([ids[:, :-2], other], dim=1)).logits[:, -4:]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_attentions_are_those_of_the_kept_layers(directories):
    drop = (0, 3)
    stock, pruned = build("llama", attn_implementation="eager"), load(directories("llama", drop))
    pruned.set_attn_implementation("eager")
    ids = tokens(1, 7)
    with torch.no_grad(), silenced(stock, "llama", drop):
        expected = stock(ids, output_attentions=True).attentions
        found = pruned(ids, output_attentions=True).attentions
    kept = [expected[index] for index in range(LAYERS) if index not in drop]
    torch.testing.assert_close(found, tuple(kept), atol=1e-6, rtol=1e-5)


def test_layer_list_is_physical_but_for_the_stages():
    model = remove_attention(build("llama"), (0, 3), SHAPES["llama"].family())
    layers = model.model.layers
    assert len(layers) == len(list(layers)) == LAYERS
    assert [isinstance(layers[index], modeling.AttentionFree) for index in range(-1, 5)] == [
        index in (0, 3) for index in (5, 0, 1, 2, 3, 4)
    ]
    assert [type(stage) for stage in layers[:4]] == [modeling.Stage] * 4
    assert layers[:4][0].self_attn is layers[1].self_attn
    assert len(layers[:5]) == 5
    assert list(layers[1:4]) == list(layers)[1:4]
    # Nothing dropped: a plain slice.
    assert len(modeling.PhysicalLayers(list(layers))[:LAYERS]) == LAYERS


def test_layers_are_not_cut_for_pipeline_parallelism():
    """vLLM would cut them by the number of attentions; any other replacement of a block is everyone's own affair."""

    class PPMissingLayer(torch.nn.Identity):
        pass

    model = remove_attention(build("llama"), (0, 3), SHAPES["llama"].family())
    before = str(model)
    with pytest.raises(ValueError, match="use tensor parallelism"):
        model.model.layers[5] = PPMissingLayer()
    assert str(model) == before
    block = copy.deepcopy(model.model.layers[5])
    model.model.layers[5] = block
    assert model.model.layers[5] is model.model.layers[:4][-1].block is block


def test_head_masks_of_transformers_4_are_one_a_block():
    """tests/engines runs the models of transformers 4; this is what stands in for its method."""
    assert modeling.head_masks(LAYERS, None, 4) == [None] * LAYERS
    with pytest.raises(ValueError, match="4 attentions in 6 blocks takes none"):
        modeling.head_masks(LAYERS, torch.ones(4, 2), 4)


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2"])
def test_compiles_to_one_graph(name, directories):
    pruned, ids = load(directories(name, (0, 3))), tokens(1, 8)
    compiled = torch.compile(pruned, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(
            compiled(ids, use_cache=False).logits, pruned(ids, use_cache=False).logits, atol=1e-5, rtol=1e-5
        )


def test_attention_implementation_can_be_set_where_it_can_on_the_stock_model(directories):
    for name in FULL:
        stock, pruned = build(name), load(directories(name, (0, 3)))
        assert pruned._can_set_attn_implementation() is stock._can_set_attn_implementation() is (name != "gpt-neo")


def test_base_model_and_causal_model_agree(directories):
    for name in ("llama", "opt", "gpt-neo"):
        directory, ids = directories(name, (0, 3)), tokens(1, 9)
        base, causal = AutoModel.from_pretrained(directory).eval(), load(directory)
        assert type(base).__name__.startswith("Gatenorm")
        with torch.no_grad():
            found = base(ids, output_hidden_states=True).hidden_states
            torch.testing.assert_close(found, causal(ids, output_hidden_states=True).hidden_states)


# What Transformers and its neighbours do with a model


@pytest.mark.parametrize("name", ["llama", "gpt-neo", "falcon-40b", "opt"])
@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_gives_the_same_gradients(name, reentrant, directories):
    ids, gradients = tokens(2, 9), []
    for checkpointing in (False, True):
        model = load(directories(name, (0, 3)))
        for key, value in {"dropout": 0.0, "hidden_dropout": 0.0}.items():
            if hasattr(model.config, key):
                setattr(model.config, key, value)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            for key in ("dropout", "branch_dropout", "attention_dropout", "hidden_dropout"):
                if isinstance(getattr(module, key, None), float):
                    setattr(module, key, 0.0)
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
            model.enable_input_require_grads()
            assert all(block.gradient_checkpointing for block in blocks_of(model, SHAPES[name]))
        model.train()
        model(ids, labels=ids, use_cache=False).loss.backward()
        gradients.append({key: parameter.grad for key, parameter in model.named_parameters()})
    assert all(gradient is not None for gradient in gradients[0].values())
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-6, rtol=1e-5)


def test_dropout_of_the_branch_follows_the_mode(directories):
    model = load(directories("falcon-alibi", (0, 3)))
    block, x = blocks_of(model, SHAPES["falcon-alibi"])[0], torch.ones(1, 3, 32)
    block.branch_dropout = 1.0
    assert not torch.equal(block.eval()(x)[0], x)
    assert torch.equal(block.train()(x)[0], x)


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj"], ["gate_proj", "down_proj"], None])
def test_peft_wraps_it(targets, directories):
    import peft

    register_adapter_targets(CLASSES)
    model = load(directories("llama", (0, 3)))
    wrapped = peft.get_peft_model(model, peft.LoraConfig(target_modules=targets, r=2))
    adapted = {key.split("layers.")[1][0] for key, _ in wrapped.named_parameters() if "lora_A" in key}
    attention_only = targets is None or "q_proj" in targets
    assert adapted == {str(index) for index in range(LAYERS) if not (attention_only and index in (0, 3))}
    wrapped(tokens(1, 5), labels=tokens(1, 5)).loss.backward()
    assert all(p.grad is not None for key, p in wrapped.named_parameters() if "lora_B" in key)


def test_adapters_merge_into_a_pruned_directory(directories, tmp_path):
    import peft

    model = peft.get_peft_model(load(directories("gpt2", (0, 3))), peft.LoraConfig(target_modules="all-linear", r=2))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_" in key:
                parameter.normal_(0, 0.1)
    ids = tokens(1, 6)
    expected = model.eval()(ids).logits
    model.save_pretrained(tmp_path / "adapter")
    again = peft.PeftModel.from_pretrained(load(directories("gpt2", (0, 3))), tmp_path / "adapter").eval()
    torch.testing.assert_close(again(ids).logits, expected)
    model.merge_and_unload().save_pretrained(tmp_path / "merged")
    torch.testing.assert_close(load(tmp_path / "merged")(ids).logits, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["llama", "opt"])
def test_device_maps(name, directories, tmp_path):
    directory, ids = directories(name, (0, 3)), tokens(1, 9)
    with torch.no_grad():
        expected = load(directory)(ids).logits
    path = SHAPES[name].block["path"]
    whole = load(directory)
    layers = {f"{path}.{index}" for index in range(LAYERS)}
    parts = [
        key for key, _ in whole.named_modules() if key and not any(k != key and k.startswith(key + ".") for k in layers)
    ]
    parts = [key for key in parts if key in layers or not any(key.startswith(layer + ".") for layer in layers)]
    on_disk = {f"{path}.0", f"{path}.1", f"{path}.3"}
    split = {key: "disk" if key in on_disk else "cpu" for key in parts}
    for device_map in ("auto", {"": "cpu"}, split):
        model = load(directory, device_map=device_map, offload_folder=tmp_path / "offload")
        with torch.no_grad():
            torch.testing.assert_close(model(ids).logits, expected)
        # A block goes to one device as a whole, with attention or without.
        assert {type(block).__name__ for block in blocks_of(model, SHAPES[name])} <= set(model._no_split_modules)
        base = getattr(model, model.base_model_prefix)
        assert {type(block).__name__ for block in blocks_of(model, SHAPES[name])} <= set(base._no_split_modules)
    assert blocks_of(model, SHAPES[name])[0].training is False


def test_automatic_device_map_never_splits_a_block(directories):
    from accelerate import infer_auto_device_map

    model = load(directories("llama", (0, 3)))
    block = sum(p.numel() * 4 for p in model.model.layers[0].parameters())
    for budget in range(1, 9):
        limits = {0: int(budget * block * 0.7) + 4 * 32 * VOCABULARY, "cpu": 10**9}
        placed = infer_auto_device_map(model, max_memory=limits, no_split_module_classes=list(model._no_split_modules))
        assert not [key for key in placed if key.startswith("model.layers.") and key.count(".") > 2]


def test_dtype_argument(directories):
    model = AutoModelForCausalLM.from_pretrained(directories("llama", (0, 3)), dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_from_config_initialises_every_block(directories):
    config = AutoConfig.from_pretrained(directories("llama", (0, 3)))
    config.initializer_range = 0.5
    model = AutoModelForCausalLM.from_config(config)
    for layer in (0, 1):
        assert 0.4 < model.model.layers[layer].mlp.up_proj.weight.std() < 0.6
    with torch.device("meta"):
        assert AutoModelForCausalLM.from_config(config).model.layers[0].mlp.up_proj.weight.is_meta


def test_copies_and_pickles(directories):
    model, ids = load(directories("gpt-neo", (0, 3))), tokens(1, 7)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert type(other) is type(model)
        assert type(other.transformer.h[0]) is type(model.transformer.h[0])
        with torch.no_grad():
            assert torch.equal(other(ids).logits, model(ids).logits)
    assert pickle.loads(pickle.dumps(model.config)).to_dict() == model.config.to_dict()


def test_class_names():
    assert modeling.GatenormLlamaConfig.model_type == "gatenorm_llama"
    assert modeling.GatenormGPT2LMHeadModel.config_class is modeling.GatenormGPT2Config
    assert issubclass(modeling.GatenormLlamaForCausalLM, transformers.LlamaForCausalLM)
    assert modeling.GatenormLlamaForCausalLM is modeling.GatenormLlamaForCausalLM
    for name in ("GatenormNothing", "GatenormTrainer", "GatenormPreTrainedConfig", "GatenormPreTrainedModel", "Llama"):
        with pytest.raises(AttributeError, match=name):
            getattr(modeling, name)


# What is written


def files_of(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


@pytest.mark.parametrize("name", [*FULL, "falcon-40b", "opt-post-norm"])
@pytest.mark.parametrize("size", ["50GB", "20KB"])
def test_save_and_load_again(name, size, directories, tmp_path):
    source, drop = directories(name, (0, 3)), (0, 3)
    model = load(source)
    model.save_pretrained(tmp_path, max_shard_size=size)
    before, after = (json.loads((d / "config.json").read_text()) for d in (source, tmp_path))
    for key in ("model_type", "architectures", "auto_map", "gatenorm"):
        assert after[key] == before[key]
    assert (tmp_path / "modeling_gatenorm.py").read_bytes() == (source / "modeling_gatenorm.py").read_bytes()
    assert json.loads((tmp_path / "gatenorm.json").read_text()) == before["gatenorm"]["plan"]
    assert "ä model" in (tmp_path / "gatenorm.json").read_text(encoding="utf-8")
    assert (tmp_path / "model.safetensors.index.json").exists() is (size == "20KB")
    names = {key for shard in tmp_path.glob("*.safetensors") for key in safe_open(shard, "pt").keys()}  # noqa: SIM118
    assert names == set(pruned_tensors(build(name), name, drop))
    with torch.no_grad():
        assert torch.equal(load(tmp_path)(tokens(1, 9)).logits, model(tokens(1, 9)).logits)


def test_base_model_saves_a_directory_for_every_auto_class(directories, tmp_path):
    AutoModel.from_pretrained(directories("llama", (0, 3))).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert set(config["auto_map"]) == {"AutoConfig", "AutoModel", "AutoModelForCausalLM"}
    assert {"modeling_gatenorm.py", "gatenorm.json"} <= files_of(tmp_path)


REMOTE = """
import json, sys
sys.modules["gatenorm"] = None
try:
    import gatenorm
except ImportError:
    pass
else:
    raise SystemExit("gatenorm is here")
import torch
from transformers import AutoModel, AutoModelForCausalLM
torch.set_num_threads(1)
ids, results = torch.load(sys.argv[1]), {}
for source in sys.argv[2:]:
    model, report = AutoModelForCausalLM.from_pretrained(source, trust_remote_code=True, output_loading_info=True)
    assert not any(report.values()), report
    assert type(model).__module__.startswith("transformers_modules"), type(model)
    with torch.no_grad():
        results[source] = model(ids).logits, model.generate(ids, max_new_tokens=5, do_sample=False)
    base = AutoModel.from_pretrained(source, trust_remote_code=True)
    assert len(base(ids, output_hidden_states=True).hidden_states) == 7
    model.save_pretrained(source + "-again")
torch.save(results, sys.argv[1])
try:
    AutoModelForCausalLM.from_pretrained(sys.argv[2], trust_remote_code=False)
except ValueError as error:
    assert "trust_remote_code=True" in str(error), error
else:
    raise SystemExit("its code ran without being trusted")
"""


def python(code: str, *arguments: Any, **environment: str) -> str:
    """Run code in a process of its own, offline; what it printed."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", **environment}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_loads_and_saves_where_gatenorm_is_not_installed(tmp_path):
    drop, ids, sources = (0, 3), tokens(2, 9), []
    for name in ("llama", "gemma2", "gpt-neo", "falcon-alibi"):
        sources.append(write_pruned(build(name), name, drop, tmp_path / name))
    torch.save(ids, tmp_path / "ids.pt")
    python(REMOTE, tmp_path / "ids.pt", *sources, HF_MODULES_CACHE=str(tmp_path / "modules"))
    results = torch.load(tmp_path / "ids.pt")
    for source in sources:
        logits, text = results[str(source)]
        stock = build(source.name)
        with torch.no_grad(), silenced(stock, source.name, drop):
            torch.testing.assert_close(logits, stock(ids).logits, atol=1e-5, rtol=1e-5)
            assert torch.equal(text, stock.generate(ids, max_new_tokens=5, do_sample=False))
        again = Path(f"{source}-again")
        assert {"config.json", "model.safetensors", "modeling_gatenorm.py", "gatenorm.json"} <= files_of(again)
        before, after = (json.loads((d / "config.json").read_text()) for d in (source, again))
        assert {key: after[key] for key in ("auto_map", "architectures", "gatenorm", "model_type")} == {
            key: before[key] for key in ("auto_map", "architectures", "gatenorm", "model_type")
        }
        with torch.no_grad():
            torch.testing.assert_close(load(again)(ids).logits, logits, atol=1e-5, rtol=1e-5)


HOOKED = """
import sys
from gatenorm.surgery.registration import register_when_transformers_is_imported
register_when_transformers_is_imported(lambda: eval(sys.argv[1]))
assert "transformers" not in sys.modules and "torch" not in sys.modules and "peft" not in sys.modules
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM
assert "gatenorm.surgery.modeling_gatenorm" not in sys.modules
model = AutoModelForCausalLM.from_pretrained(sys.argv[2])
assert type(model).__module__ == "gatenorm.surgery.modeling_gatenorm"
assert type(AutoConfig.for_model("gatenorm_gpt2")).__name__ == "GatenormGPT2Config"
loaded = [name for name in sys.modules if name.startswith("transformers.models.") and ".modeling_" in name]
assert "transformers.models.falcon.modeling_falcon" not in loaded, loaded
# The code in the directory does not run where gatenorm is installed, trusted or not.
assert type(AutoModel.from_pretrained(sys.argv[2], trust_remote_code=True)).__module__.startswith("gatenorm.")
import peft
assert peft.get_peft_model(model, peft.LoraConfig()).peft_config["default"].target_modules == {"q_proj", "v_proj"}
"""


def test_registration_waits_for_transformers(directories):
    python(HOOKED, repr(CLASSES), directories("llama", (0, 3)))


# Live surgery


@every_shape
def test_live_surgery_equals_loading(name, directories):
    drop, model, ids = (0, 3), build(name), padded_batch()
    config = model.config
    config_before = config.to_dict()
    loaded = load(directories(name, drop))
    plan = loaded.config.gatenorm["plan"]
    assert remove_attention(model, [3, 0], SHAPES[name].family(), plan) is model
    assert type(model) is type(loaded)
    assert str(model) == str(loaded)
    assert set(model._no_split_modules) == set(loaded._no_split_modules)
    ignored = {"_name_or_path", "architectures", "dtype", "transformers_version"}
    found, expected = ({k: v for k, v in m.config.to_dict().items() if k not in ignored} for m in (model, loaded))
    assert found == expected
    assert config.to_dict() == config_before
    configs = {id(m.config): m.config for m in model.modules() if isinstance(getattr(m, "config", None), type(config))}
    assert len(configs) == 1
    ids_live, logits_live, past = decode(model, ids)
    ids_loaded, logits_loaded, _ = decode(loaded, ids)
    assert torch.equal(ids_live, ids_loaded)
    assert torch.equal(logits_live, logits_loaded)
    assert len(past.layers) == LAYERS - 2
    with torch.no_grad():
        assert len(model(tokens(1, 4), output_hidden_states=True).hidden_states) == LAYERS + 1


@full
def test_live_surgery_composes_and_saves(name, directories, tmp_path):
    once = remove_attention(build(name), (0, 3, 4), SHAPES[name].family())
    twice = remove_attention(build(name), (3,), SHAPES[name].family())
    with torch.no_grad():
        twice(tokens(1, 4), output_hidden_states=True)  # leaves hooks behind
    remove_attention(twice, (4, 0), SHAPES[name].family())
    found, expected = twice.config.to_dict(), once.config.to_dict()
    plan = Plan.from_json(found["gatenorm"].pop("plan"))
    assert (plan.drop, plan.new, plan.previous.drop) == ((0, 3, 4), (0, 4), (3,))
    assert Plan.from_json(expected["gatenorm"].pop("plan")).drop == plan.drop
    assert found == expected
    assert str(twice) == str(once)
    twice.save_pretrained(tmp_path)
    assert {"config.json", "model.safetensors", "modeling_gatenorm.py", "gatenorm.json"} <= files_of(tmp_path)
    assert set(load_file(tmp_path / "model.safetensors")) == set(pruned_tensors(build(name), name, (0, 3, 4)))
    loaded = load(tmp_path)
    for inputs in (padded_batch(), {"input_ids": tokens(1, 6)}):
        for options in ({}, {"cache_implementation": "static"}):
            results = [decode(model, inputs, **options)[:2] for model in (once, twice, loaded)]
            assert all(torch.equal(ids, results[0][0]) for ids, _ in results)
            torch.testing.assert_close(results[1][1], results[0][1])
            torch.testing.assert_close(results[2][1], results[0][1])


def test_live_surgery_on_a_loaded_model(directories):
    model = remove_attention(load(directories("llama", (0, 3))), [5], SHAPES["llama"].family())
    assert_same_text(model, build("llama"), "llama", (0, 3, 5), padded_batch())
    again = AutoModelForCausalLM.from_config(model.config)
    assert type(again) is type(model)


@pytest.mark.parametrize(
    ("drop", "block", "message"),
    [
        ([6], {}, "0 to 5"),
        ([-1], {}, "0 to 5"),
        (range(6), {}, "at least one must stay"),
        ([1], {"attention": ["attn"]}, "has no 'attn'"),
        ([1], {"path": "model.blocks"}, "blocks"),
        ([1], {"branch": ["post_attention_layernorm", "moe"]}, "has no 'moe'"),
    ],
)
def test_live_surgery_refuses_and_leaves_the_model_alone(drop, block, message):
    model, ids = build("llama"), tokens(1, 5)
    before = str(model), model.config.to_dict(), model(ids).logits
    with pytest.raises(PlanError, match=message):
        remove_attention(model, drop, SHAPES["llama"].family(block))
    assert (str(model), model.config.to_dict()) == before[:2]
    assert torch.equal(model(ids).logits, before[2])


def test_live_surgery_refuses_what_it_does_not_know():
    with pytest.raises(PlanError, match="LlamaModel cannot be pruned"):
        remove_attention(build("llama").model, [1], SHAPES["llama"].family())
    with pytest.raises(PlanError, match="scale_attn_by_inverse_layer_idx"):
        remove_attention(build("gpt2", scale_attn_by_inverse_layer_idx=True), [1], SHAPES["gpt2"].family())


# Bad configurations


def edited(**changes: Any) -> Any:
    def edit(config: dict[str, Any]) -> None:
        for key, value in changes.items():
            (config["gatenorm"] if key in config["gatenorm"] else config)[key] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (edited(gatenorm=None), "no 'gatenorm' record"),
        (
            edited(schema="gatenorm/pruned/3"),
            "'gatenorm/pruned/3' .* expected 'gatenorm/pruned/1' or 'gatenorm/pruned/2'",
        ),
        (edited(schema="gatenorm/pruned/2"), "lacks drop_mlp"),
        (edited(drop=[2, 6]), "0 to 5"),
        (edited(drop=[2, -1]), "0 to 5"),
        (edited(drop=[2, 2]), "each once"),
        (edited(drop=list(range(6))), "at least one must stay"),
        (edited(drop=[2]), "num_hidden_layers is 4: expected the 5"),
        (edited(layers=7), "num_hidden_layers is 4: expected the 5"),
        (edited(block=dict(SHAPES["llama"].block, branch=["norm", "mlp"])), "has no 'norm'"),
    ],
)
def test_bad_configurations_are_refused_in_one_line(edit, message, tmp_path):
    write_pruned(build("llama"), "llama", (2, 3), tmp_path, edit)
    with pytest.raises(ValueError, match=message) as error:
        AutoModelForCausalLM.from_pretrained(tmp_path)
    assert "\n" not in str(error.value)


def test_a_configuration_without_a_record_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="no 'gatenorm' record"):
        modeling.GatenormLlamaConfig().save_pretrained(tmp_path)
    assert not files_of(tmp_path)


def test_nothing_dropped_is_the_stock_model(tmp_path):
    stock = build("llama")
    write_pruned(stock, "llama", (), tmp_path)
    assert_same_text(load(tmp_path), stock, "llama", (), padded_batch())
    assert pruned_config(stock, "llama", ())["num_hidden_layers"] == LAYERS


def test_what_blocks_return_is_read_from_their_code():
    class Tensor:
        def forward(self, x):
            """Return x, changed."""
            return x

    class Pair:
        def forward(self, x):
            return x, None

    class Outputs:
        def forward(self, x):
            outputs = (x,)
            return outputs

    assert [modeling.returns_tuple(c, default=False) for c in (Tensor, Pair, Outputs)] == [False, True, True]
    assert modeling.returns_tuple(type("Unknown", (), {"forward": len}), default=True) is True

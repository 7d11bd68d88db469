"""What transformers, PEFT and accelerate do with a model, they do with a pruned one."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

from gatenorm.surgery import modeling_gatenorm as modeling
from gatenorm.surgery.registration import register_adapter_targets
from tests.surgery.pruned_models import (
    LAYERS,
    SHAPES,
    VOCABULARY,
    blocks_of,
)
from tests.surgery.silent_attention import (
    load,
    tokens,
)


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

    register_adapter_targets()
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

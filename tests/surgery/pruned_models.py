"""Tiny models of each block shape, the same models with attention silenced, and pruned directories written by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from msgspec.structs import replace
from safetensors.torch import save_file

from gatenorm.families import families
from gatenorm.families.schema import Block, Family
from gatenorm.records import Edits, ModelIdentity, Plan, from_json, to_json
from gatenorm.surgery.config import block_record

LAYERS = 6
VOCABULARY = 64
WINDOW = 5  # shorter than every text here, so that a window at the wrong layer shows
MODELING_FILE = Path(__file__).parents[2] / "src/gatenorm/surgery/modeling_gatenorm.py"

SMALL = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": None, "pad_token_id": 0}
LLAMA_LIKE = SMALL | {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
PRE_NORM = {
    "path": "model.layers",
    "attention": ["self_attn", "input_layernorm"],
    "before": [],
    "branch": ["post_attention_layernorm", "mlp"],
    "after": [],
    "dropout": None,
    "returns": "tensor",
}
GPT = PRE_NORM | {"path": "transformer.h", "attention": ["attn", "ln_1"], "branch": ["ln_2", "mlp"]}
NEOX = PRE_NORM | {
    "path": "gpt_neox.layers",
    "attention": ["attention", "input_layernorm"],
    "branch": ["post_attention_layernorm", "mlp", "post_mlp_dropout"],
}
FALCON = PRE_NORM | {"path": "transformer.h", "dropout": "hidden_dropout", "returns": "tuple"}
OPT = PRE_NORM | {"path": "model.decoder.layers", "dropout": "dropout"}
FALCON_SIZES = SMALL | {
    "hidden_size": 32,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
}
NEOX_SIZES = {key: value for key, value in LLAMA_LIKE.items() if key != "num_key_value_heads"}
OPT_SIZES = SMALL | {
    "hidden_size": 32,
    "word_embed_proj_dim": 32,
    "ffn_dim": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
}


@dataclass(frozen=True)
class Shape:
    """One architecture in one form: the stock class to build, its configuration, and the record's `block`."""

    config: str
    model: str
    block: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)

    def family(self, change: Mapping[str, Any] | None = None) -> Family:
        """What live surgery is told of the architecture: this `block`, and the rules for per-layer lists."""
        stock = families()[getattr(transformers, self.config).model_type]
        return replace(stock, block=from_json(Block, {**self.block, **(change or {})}, "a block"))

    @property
    def attention(self) -> str:
        """The name of the attention module in a block."""
        return str(self.block["attention"][0])


def alternating(first: str, second: str) -> list[str]:
    return [first, second, second, first, second, first][:LAYERS]


SHAPES = {
    "llama": Shape("LlamaConfig", "LlamaForCausalLM", PRE_NORM, LLAMA_LIKE | {"attention_bias": True}),
    "qwen2-sliding": Shape(
        "Qwen2Config",
        "Qwen2ForCausalLM",
        PRE_NORM,
        LLAMA_LIKE
        | {"use_sliding_window": True, "sliding_window": WINDOW}
        | {"layer_types": alternating("full_attention", "sliding_attention")},
    ),
    "qwen3": Shape("Qwen3Config", "Qwen3ForCausalLM", PRE_NORM, LLAMA_LIKE | {"head_dim": 8}),
    "mistral": Shape("MistralConfig", "MistralForCausalLM", PRE_NORM, LLAMA_LIKE | {"sliding_window": WINDOW}),
    "phi3": Shape(
        "Phi3Config",
        "Phi3ForCausalLM",
        PRE_NORM | {"branch": ["post_attention_layernorm", "mlp", "resid_mlp_dropout"]},
        LLAMA_LIKE,
    ),
    "gemma2": Shape(
        "Gemma2Config",
        "Gemma2ForCausalLM",
        PRE_NORM
        | {
            "attention": ["self_attn", "input_layernorm", "post_attention_layernorm"],
            "branch": ["pre_feedforward_layernorm", "mlp", "post_feedforward_layernorm"],
        },
        LLAMA_LIKE
        | {"head_dim": 8, "sliding_window": WINDOW}
        | {"layer_types": alternating("sliding_attention", "full_attention")},
    ),
    "olmo2": Shape(
        "Olmo2Config",
        "Olmo2ForCausalLM",
        PRE_NORM
        | {"attention": ["self_attn", "post_attention_layernorm"], "branch": ["mlp", "post_feedforward_layernorm"]},
        LLAMA_LIKE,
    ),
    "gpt2": Shape(
        "GPT2Config", "GPT2LMHeadModel", GPT, SMALL | {"n_embd": 32, "n_layer": LAYERS, "n_head": 4, "n_positions": 128}
    ),
    "gpt-neo": Shape(
        "GPTNeoConfig",
        "GPTNeoForCausalLM",
        GPT | {"returns": "tuple"},
        SMALL
        | {"hidden_size": 32, "num_layers": LAYERS, "num_heads": 4, "max_position_embeddings": 128}
        | {"window_size": WINDOW, "attention_types": [[["global", "local"], LAYERS // 2]]},
    ),
    "gpt-neox-parallel": Shape(
        "GPTNeoXConfig", "GPTNeoXForCausalLM", NEOX, NEOX_SIZES | {"use_parallel_residual": True}
    ),
    "gpt-neox-sequential": Shape(
        "GPTNeoXConfig", "GPTNeoXForCausalLM", NEOX, NEOX_SIZES | {"use_parallel_residual": False}
    ),
    "falcon-7b": Shape(
        "FalconConfig",
        "FalconForCausalLM",
        FALCON | {"attention": ["self_attention"], "branch": ["input_layernorm", "mlp"]},
        FALCON_SIZES | {"multi_query": True, "parallel_attn": True},
    ),
    "falcon-40b": Shape(
        "FalconConfig",
        "FalconForCausalLM",
        FALCON | {"attention": ["self_attention", "ln_attn"], "branch": ["ln_mlp", "mlp"]},
        FALCON_SIZES | {"new_decoder_architecture": True, "num_kv_heads": 2},
    ),
    "falcon-alibi": Shape(
        "FalconConfig",
        "FalconForCausalLM",
        FALCON | {"attention": ["self_attention", "input_layernorm"]},
        FALCON_SIZES | {"alibi": True, "multi_query": False, "parallel_attn": False, "bias": True},
    ),
    "opt": Shape(
        "OPTConfig",
        "OPTForCausalLM",
        OPT
        | {
            "attention": ["self_attn", "self_attn_layer_norm"],
            "branch": ["final_layer_norm", "fc1", "activation_fn", "fc2"],
        },
        OPT_SIZES,
    ),
    "opt-post-norm": Shape(
        "OPTConfig",
        "OPTForCausalLM",
        OPT
        | {
            "attention": ["self_attn"],
            "before": ["self_attn_layer_norm"],
            "branch": ["fc1", "activation_fn", "fc2"],
            "after": ["final_layer_norm"],
        },
        OPT_SIZES | {"do_layer_norm_before": False},
    ),
}


def build(name: str, **options: Any) -> Any:
    """A stock model with random weights, gains and biases (the initial ones and zeros would hide mistakes)."""
    shape = SHAPES[name]
    attn_implementation = options.pop("attn_implementation", None)
    config = getattr(transformers, shape.config)(**shape.options, **options)
    torch.manual_seed(0)
    model = getattr(transformers, shape.model)._from_config(config, attn_implementation=attn_implementation)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.uniform_(0.4, 1.6)
            else:
                parameter.normal_(0, 0.25)
    return model.eval()


def blocks_of(model: Any, shape: Shape) -> Any:
    return model.get_submodule(shape.block["path"])


@contextmanager
def silenced(model: Any, name: str, drop: Sequence[int]) -> Iterator[Any]:
    """The stock model while the attention of the layers `drop` yields zero."""

    def nothing(module: Any, inputs: Any, output: Any) -> Any:
        return (torch.zeros_like(output[0]), *output[1:])

    shape = SHAPES[name]
    handles = [getattr(blocks_of(model, shape)[i], shape.attention).register_forward_hook(nothing) for i in drop]
    try:
        yield model
    finally:
        for handle in handles:
            handle.remove()


def pruned_config(model: Any, name: str, drop: Sequence[int]) -> dict[str, Any]:
    """The config.json of the pruned model."""
    shape = SHAPES[name]
    config = json.loads(model.config.to_json_string(use_diff=False))
    base, prefix = config["model_type"], "Gatenorm"
    kept = [index for index in range(LAYERS) if index not in drop]
    config[model.config.attribute_map.get("num_hidden_layers", "num_hidden_layers")] = len(kept)
    for key in ("layer_types", "attention_layers"):
        if config.get(key) is not None:
            config[key] = [config[key][index] for index in kept]
    if "attention_types" in config:
        config["attention_types"] = [[config["attention_layers"], 1]]
    names = {"AutoConfig": shape.config, "AutoModel": shape.model, "AutoModelForCausalLM": shape.model}
    names["AutoModel"] = shape.model.replace("ForCausalLM", "Model").replace("LMHeadModel", "Model")
    return config | {
        "model_type": f"gatenorm_{base}",
        "architectures": [prefix + shape.model],
        "auto_map": {auto: f"modeling_gatenorm.{prefix}{stock}" for auto, stock in names.items()},
        "gatenorm": {
            "schema": "gatenorm/pruned/1",
            "base_model_type": base,
            "layers": LAYERS,
            "edits": to_json(Edits.of("attention", drop)),
            "block": block_record(shape.family()).to_dict(),
            "plan": to_json(Plan(ModelIdentity("ä model", base, LAYERS, "0" * 64, {}), Edits.of("attention", drop))),
        },
    }


def pruned_tensors(model: Any, name: str, drop: Sequence[int]) -> dict[str, torch.Tensor]:
    """The tensors of the pruned model, under the names and numbers that they have in the stock model."""
    shape = SHAPES[name]
    gone = tuple(f"{shape.block['path']}.{index}.{module}." for index in drop for module in shape.block["attention"])
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    return {
        key: tensor.contiguous()
        for key, tensor in model.state_dict().items()
        if not key.startswith(gone) and key not in tied
    }


def write_pruned(
    model: Any,
    name: str,
    drop: Sequence[int],
    directory: Path,
    edit: Callable[[dict[str, Any]], Mapping[str, Any] | None] = lambda config: None,
) -> Path:
    """A pruned directory as the writer on disk makes it; `edit` may change config.json first."""
    directory.mkdir(parents=True, exist_ok=True)
    config = pruned_config(model, name, drop)
    config = edit(config) or config
    (directory / "config.json").write_text(json.dumps(config, indent=2))
    (directory / MODELING_FILE.name).write_bytes(MODELING_FILE.read_bytes())
    save_file(pruned_tensors(model, name, drop), directory / "model.safetensors", metadata={"format": "pt"})
    return directory

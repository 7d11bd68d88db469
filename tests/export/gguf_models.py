"""Tiny random Llama-like models with tokenizers trained on the spot, for what a GGUF file has to express.

Between them they have: biases of queries, keys and values (Qwen2) and of the output too (Llama), heads that are wider
than width / heads, grouped key heads, tied and untied embeddings, an MLP width that is no multiple of 32, llama3 and
linear rope scaling, more rows than tokens; and the three commonest ways of cutting texts.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from tokenizers import Regex, normalizers, pre_tokenizers

from gatenorm.exports.gguf import pretokenizers as gguf_pretokenizers

LAYERS = 6
_SHAPE = {
    "num_hidden_layers": LAYERS,
    "max_position_embeddings": 256,
    "vocab_size": 416,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
_LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
# A little of everything, so that merges reach into words, numbers, blanks and letters of several scripts.
_TEXT = (
    "the quick brown fox, the lazy dog; she's here, they'll go, WE'RE NOT. 1 22 333 4444 55555 1,234.5 \n\n\n \t x\n"
    "def f(x):\n    return x ** 2\n\n        # comment\r\n\r\nÜber Straße déjà vu нещо на Български 你好世界 🙂🚀 "
)


@dataclass(frozen=True)
class Case:
    """A config class of transformers with its arguments, and how its tokenizer cuts texts."""

    kind: str
    arguments: dict[str, Any]
    expressions: tuple[str, ...]
    normaliser: str | None = None
    whole_words: bool = False


def _cuts(name: str) -> tuple[str, ...]:
    return next(entry.expressions for entry in gguf_pretokenizers.TABLE if entry.name == name)


CASES = {
    "llama3": Case(
        "LlamaConfig",
        {
            "hidden_size": 64,
            "intermediate_size": 336,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 24,
            "attention_bias": True,
            "rope_parameters": _LLAMA3_ROPE,
        },
        _cuts("llama-bpe"),
        whole_words=True,
    ),
    "qwen2": Case(
        "Qwen2Config",
        {
            "hidden_size": 96,
            "intermediate_size": 160,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "tie_word_embeddings": True,
        },
        _cuts("qwen2"),
        normaliser="NFC",
    ),
    "wide": Case(
        "LlamaConfig",
        {"hidden_size": 256, "intermediate_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2},
        _cuts("llama-bpe"),
        whole_words=True,
    ),
    "mistral": Case(
        "MistralConfig",
        {
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "sliding_window": None,
            "rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0},
        },
        _cuts("smollm"),
    ),
}


def write(name: str, directory: Path) -> Path:
    """The dense model of that case with its tokenizer, in float32."""
    case = CASES[name]
    torch.manual_seed(zlib.crc32(name.encode()))
    model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, case.kind)(**_SHAPE, **case.arguments))
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            # Attention that matters, and norms and biases far from 1 and 0: whoever mixes two up computes otherwise.
            scale = 1.6 / parameter.shape[-1] ** 0.5 if parameter.ndim > 1 else 0.3
            parameter.copy_(torch.randn_like(parameter) * scale + (path.endswith("norm.weight")))
    model.save_pretrained(directory)
    write_tokenizer(case, directory)
    return directory


def write_tokenizer(case: Case, directory: Path) -> None:
    """A byte-level BPE tokenizer of 400 tokens that cuts texts as ``case`` says."""
    directory.mkdir(exist_ok=True)
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(ignore_merges=case.whole_words))
    if case.normaliser:
        tokenizer.normalizer = getattr(normalizers, case.normaliser)()
    splits = [pre_tokenizers.Split(Regex(expression), "isolated") for expression in case.expressions]
    bytes_alone = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, bytes_alone])
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=398,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([_TEXT] * 4, trainer)
    tokenizer.add_special_tokens([tokenizers.AddedToken("<|im_start|>", special=True)])
    tokenizer.add_tokens([tokenizers.AddedToken("[tool]", normalized=False)])
    tokenizer.save(str(directory / "tokenizer.json"))
    end = "<|endoftext|>"
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": end, "eos_token": end}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))

"""Tiny models of the shape of published ones: as many layers, sixteen wide, with the built-in model's tokenizer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from gatenorm.demo.package import MODEL

TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
ITEMS = {
    "boolq": {"question": "is the book allowed", "passage": "The book is allowed.", "answer": True},
    "rte": {"idx": 0, "sentence1": "Ida reached London.", "sentence2": "Ida is here.", "label": 1},
    "hellaswag": {"ind": 0, "query": "Ida reached", "choices": ["London.", "Nora.", "pears.", "left."], "label": 0},
    "winogrande": {"sentence": "Ida met Nora and _ left.", "option1": "Ida", "option2": "Nora", "answer": "1"},
    "arc_easy": {"id": "a", "question": "Who met Nora?", "choices": ["Hugo", "Ida"], "label": 0},
    "arc_challenge": {"id": "b", "question": "Who left?", "choices": ["Hugo", "Ida"], "label": 1},
    "openbookqa": {"id": "c", "question": "Pears are", "choices": ["left", "met"], "label": 0},
}
STORY = "The book is allowed. Ida reached London. Clara reached Madrid. Hugo met Nora. Now three pears are left.\n"


def stand_in(directory: Path, layers: int, kv_heads: int = 2, family: str = "llama") -> Path:
    """A random model in a directory, a Llama or of another family."""
    vocabulary = len(json.loads((MODEL.directory / "tokenizer.json").read_text())["model"]["vocab"])
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        family,
        vocab_size=vocabulary + 8,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=kv_heads,
        head_dim=8,
        max_position_embeddings=2176,
        bos_token_id=0,
        eos_token_id=0,
        torch_dtype="float32",
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(directory)
    for name in TOKENIZER:
        shutil.copy(MODEL.directory / name, directory / name)
    return directory


def data(folder: Path) -> dict[str, str]:
    """A text, calibration tokens and zero-shot files, as the options of ``reproduce`` name them."""
    (folder / "text.txt").write_text(STORY * 120)
    (folder / "train.txt").write_text(STORY[::-1] * 400)
    zeroshot = folder / "zeroshot"
    zeroshot.mkdir()
    for name, item in ITEMS.items():
        (zeroshot / f"{name}_validation.jsonl").write_text(f"{json.dumps(item)}\n" * 2)
    return {"data": str(folder / "text.txt"), "calibration": str(folder / "train.txt"), "zeroshot": str(zeroshot)}

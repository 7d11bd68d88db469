"""A tiny random model that reads the built-in model's language, dense and pruned, and a text in it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import transformers

import gatenorm
from gatenorm.demo.corpus import training_text
from gatenorm.demo.package import MODEL
from gatenorm.families import Layout
from gatenorm.records.recovery_settings import Settings

SETTINGS = Settings(steps=6, batch=2, length=32, rank=4, alpha=8, learning_rate=1e-2, watch_every=2, watch_windows=4)


@dataclass(frozen=True)
class Place:
    """Directories of the dense and the pruned model, and a file of text."""

    dense: Path
    pruned: Path
    text: Path

    @property
    def layout(self) -> Layout:
        return gatenorm.open_model(self.pruned)


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("recovery")
    vocabulary = transformers.AutoConfig.from_pretrained(MODEL.checked_directory()).vocab_size
    config = transformers.LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=0,
        eos_token_id=0,
    )
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder / "dense")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(MODEL.checked_directory() / name, folder / "dense" / name)
    gatenorm.prune(folder / "dense", folder / "pruned", gatenorm.plan(folder / "dense", drop=[0, 2]))
    # Few enough to be tokenised in one piece.
    (folder / "stories.txt").write_text("\n\n".join(training_text(2000).rows[:40]))
    return Place(folder / "dense", folder / "pruned", folder / "stories.txt")

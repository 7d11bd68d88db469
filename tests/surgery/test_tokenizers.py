"""A pruned directory must tokenise as its source does, with gatenorm and without it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer

from gatenorm import api

TinyModels = Callable[..., Path]
TEXTS = ["Hello  world's 12345 don't!", " leading and trailing ", "naïve café\n\tTabs", "<|endoftext|>x"]
WITHOUT_GATENORM = """
import json, sys
sys.modules["gatenorm"] = None
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1], trust_remote_code=False)
print(json.dumps([tokenizer(json.loads(sys.argv[2]))["input_ids"], tokenizer.eos_token]))
"""


# Run before a snippet: no gatenorm, and a prompt has nobody to answer it.
ALONE = "import sys; sys.modules['gatenorm'] = None\n"


@pytest.mark.parametrize("fast", [False, True], ids=["the card's snippet", "the fast class"])
def test_the_cards_snippet_runs_without_gatenorm_and_asks_nothing(fast: bool, tmp_path: Path):
    out = tmp_path / "pruned"
    api.prune("demo", out, plan=api.plan("demo", layers=2))
    _, *snippets = (out / "README.md").read_text().split("```python\n")
    snippet = next(code for code in snippets if "AutoTokenizer" in code).partition("```")[0]
    assert snippet.strip() in (Path(__file__).parents[2] / "README.md").read_text().replace(
        "./llama-8", "THIS_DIRECTORY"
    )
    if fast:
        snippet = snippet.replace('AutoTokenizer.from_pretrained("THIS_DIRECTORY", trust_remote_code=True)', "FAST")
        snippet = snippet.replace("AutoTokenizer", "PreTrainedTokenizerFast")
        snippet = snippet.replace("FAST", 'PreTrainedTokenizerFast.from_pretrained("THIS_DIRECTORY")')
    code = ALONE + snippet.replace("THIS_DIRECTORY", str(out))
    env = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules")}
    said = subprocess.run(
        [sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, env=env
    )
    assert said.stdout.startswith("Once")
    assert "custom code" not in said.stdout + said.stderr
    assert "gatenorm_llama" not in said.stderr


def write_tokenizer(directory: Path, declared: str | None, files: str) -> None:
    """A small byte-level BPE with a pre-tokenizer of its own, so that another class's rules give other tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["hello world", "the world's tabs and tales"] * 20, trainer)
    if files == "tokenizer.json":
        tokenizer.save(str(directory / "tokenizer.json"))
    else:
        tokenizer.model.save(str(directory))
    if declared is not None:
        config = {"tokenizer_class": declared, "eos_token": "<|endoftext|>"}
        (directory / "tokenizer_config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("model", "declared", "files"),
    [
        ("llama-gqa", "PreTrainedTokenizerFast", "tokenizer.json"),
        ("gpt2", None, "tokenizer.json"),
        ("gpt2", None, "vocab.json and merges.txt"),
        ("gpt2", "GPT2Tokenizer", "vocab.json and merges.txt"),
        ("gpt_neo", None, "tokenizer.json"),
        ("gpt_neox", None, "tokenizer.json"),
        ("opt", None, "tokenizer.json"),
        ("qwen2", "GPT2Tokenizer", "tokenizer.json"),
        ("qwen3", None, "tokenizer.json"),
        ("olmo2", "GPT2Tokenizer", "tokenizer.json"),
        ("mistral", "LlamaTokenizer", "tokenizer.json"),
        ("phi3", "LlamaTokenizer", "tokenizer.json"),
    ],
)
def test_the_pruned_directory_tokenises_as_its_source(
    model: str, declared: str | None, files: str, tiny_models: TinyModels, tmp_path: Path
):
    source = shutil.copytree(tiny_models(model), tmp_path / "source")
    write_tokenizer(source, declared, files)
    out = api.prune(source, tmp_path / "out", api.plan(source, drop=[1])).path
    before, after = AutoTokenizer.from_pretrained(source), AutoTokenizer.from_pretrained(out)
    expected = before(TEXTS)["input_ids"]
    assert after(TEXTS)["input_ids"] == expected
    assert after.eos_token == before.eos_token
    if model in ("gpt2", "olmo2"):  # a process each
        command = [sys.executable, "-c", WITHOUT_GATENORM, str(out), json.dumps(TEXTS)]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        assert json.loads(answer.stdout) == [expected, before.eos_token]

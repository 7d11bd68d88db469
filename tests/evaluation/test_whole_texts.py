"""Perplexity of whole texts, by the command, beside a plain computation that shares nothing with the package.

The plain one reads the file, tokenises and runs the model through transformers, one sequence after the other, and takes
log-probabilities in float64.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from gatenorm.cli import main

pytestmark = [pytest.mark.long, pytest.mark.shared]

MODELS = ("stories3M", "tinystories-instruct-3M-neo")
SEPARATOR = "<|endoftext|>"


def plain_perplexity(directory: Path, sequences: Iterator[list[int]]) -> tuple[float, int]:
    """``exp`` of the mean loss over all tokens but each sequence's first, and how many these are."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    total, tokens = 0.0, 0
    for ids in sequences:
        with torch.inference_mode():
            logits = model(torch.tensor([ids])).logits[0, :-1]
            logs = torch.log_softmax(logits.double(), -1)
        total -= logs[range(len(ids) - 1), ids[1:]].sum().item()
        tokens += len(ids) - 1
    return math.exp(total / tokens), tokens


def tokenizer_and_longest(directory: Path) -> tuple[object, int]:
    from transformers import AutoConfig, AutoTokenizer

    longest = AutoConfig.from_pretrained(directory).max_position_embeddings
    return AutoTokenizer.from_pretrained(directory), min(longest, 2048)


def check(directory: Path, sequences: Iterator[list[int]], record: dict[str, object], what: str) -> None:
    expected, tokens = plain_perplexity(directory, sequences)
    found = record["perplexity"]
    assert isinstance(found, float)
    print(
        f"\n{directory.name}, {what}: {tokens:,} tokens, plain {expected:.6f}, gatenorm {found:.6f}, relative "
        f"difference {found / expected - 1:+.1e}; {record['protocol']}"
    )
    assert record["tokens"] == tokens
    assert found == pytest.approx(expected, rel=1e-4)


def measured(directory: Path, out: Path, *arguments: str) -> dict[str, object]:
    options = ["--tasks", "perplexity", "--dtype", "float32", "--no-cache", "--json", str(out)]
    assert main(["eval", str(directory), *arguments, *options]) == 0
    (record,) = json.loads(out.read_text())
    return dict(record)


@pytest.mark.parametrize("name", MODELS)
def test_wikitext_2_test_split_whole(name: str, shared: Path, tmp_path: Path):
    directory, path = shared / "models" / name, shared / "data/wikitext-2/wiki.test.raw"
    tokenizer, window = tokenizer_and_longest(directory)
    with path.open(encoding="utf-8") as lines:
        rows = [line if line.strip() else "" for line in lines]
    ids = tokenizer("\n\n".join(rows))["input_ids"]  # type: ignore[operator]
    windows = (ids[n : n + window] for n in range(0, len(ids) - window + 1, window))
    record = measured(directory, tmp_path / "found.json", "--data", f"wikitext2={path}")
    check(directory, windows, record, "WikiText-2 test")


@pytest.mark.parametrize("name", MODELS)
def test_tinystories_sample_whole(name: str, shared: Path, tmp_path: Path):
    """Story by story, as long as the model takes."""
    directory, path = shared / "models" / name, shared / "data/tinystories/valid_sample.txt"
    tokenizer, window = tokenizer_and_longest(directory)
    stories = [story.strip() for story in path.read_text(encoding="utf-8").split(SEPARATOR)]
    encoded = (tokenizer(story)["input_ids"][:window] for story in stories if story)  # type: ignore[operator]
    record = measured(directory, tmp_path / "found.json", "--data", str(path), "--documents", SEPARATOR)
    check(directory, encoded, record, "TinyStories sample")

"""Train a small Llama on the Python standard library's own source text: a real model for trying gatenorm, in a minute.

The text is what every Python installation carries, so nothing is downloaded. The result is a plain transformers
directory (safetensors, tokenizer) with a ``heldout.txt`` of modules that the model never saw. It is an example, not
evidence: 12 layers, lightly trained.
"""

from __future__ import annotations

import argparse
import math
import random
import shutil
import sys
import sysconfig
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CONTEXT, VOCABULARY, END = 256, 1024, "<|endoftext|>"


def modules() -> tuple[list[str], list[str]]:
    """Source texts of the standard library's top-level modules: (to train on, held out)."""
    paths = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    texts = [p.read_text(encoding="utf-8", errors="ignore") for p in paths if p.stat().st_size > 4000]
    random.Random(0).shuffle(texts)
    return texts[8:], texts[:8]


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE of ``VOCABULARY`` tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, bos_token=END)


def train(model: LlamaForCausalLM, ids: torch.Tensor, steps: int, batch: int, peak: float) -> None:
    """AdamW with warm-up and cosine decay on random windows; the loss is printed as it falls."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.95), weight_decay=0.1)
    generator = torch.Generator().manual_seed(0)
    window = CONTEXT // 2
    started, smooth = time.perf_counter(), 0.0
    for step in range(steps):
        rate = peak * min(1.0, (step + 1) / 30) * (0.1 + 0.45 * (1 + math.cos(math.pi * step / steps)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        starts = torch.randint(len(ids) - window, (batch,), generator=generator)
        inputs = torch.stack([ids[s : s + window] for s in starts])
        loss = model(input_ids=inputs, labels=inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        smooth = loss.item() if step == 0 else 0.95 * smooth + 0.05 * loss.item()
        if (step + 1) % 50 == 0 or step + 1 == steps:
            rate_tokens = (step + 1) * batch * window / (time.perf_counter() - started)
            sys.stderr.write(f"step {step + 1}/{steps}: loss {smooth:.3f}, {rate_tokens:,.0f} tokens/s\n")


def main() -> None:
    """Build the model unless it is there already."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    arguments = parser.parse_args()
    if (arguments.out / "heldout.txt").exists():
        sys.stderr.write(f"{arguments.out} is there already\n")
        return
    torch.manual_seed(0)
    training, heldout = modules()
    tokenizer = train_tokenizer(training)
    ids = torch.tensor([i for text in tokenizer(training)["input_ids"] for i in (*text, tokenizer.eos_token_id)])
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=12,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )
    model = LlamaForCausalLM(config)
    sys.stderr.write(f"training {model.num_parameters():,} parameters on {len(ids):,} tokens of Python source\n")
    train(model, ids, arguments.steps, batch=16, peak=3e-3)
    partial = arguments.out.with_name(arguments.out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.to(torch.bfloat16).save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    (partial / "heldout.txt").write_text("\n\n".join(heldout), encoding="utf-8")
    shutil.rmtree(arguments.out, ignore_errors=True)
    partial.rename(arguments.out)


if __name__ == "__main__":
    main()

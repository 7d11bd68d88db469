"""Train the model that gatenorm carries with it, from nothing but this repository.

    python scripts/train_demo_model.py --out work/demo

writes the model, its tokenizer and ``training.json`` (the curve) to ``OUT``, and checkpoints to ``OUT.checkpoints``
on the way. Killed and started again with the same options it goes on from the last of them, exactly: the rows of a step
are a function of its number, and a checkpoint holds the weights, the optimizer's state, and the curve so far. The rate
warms up, falls slowly, and falls to zero in a cooldown at the end. A GPU is used where there is one.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # Each thread below computes its own rows: there is nothing to wait for.

import torch
from fast_forward import FastForward
from initial_weights import initialise
from training_rows import row, train_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from gatenorm.demo.tinyworld import CONTEXT, story_of

WARM_UP = 60
# Before the cooldown the rate falls in a straight line, as if to a fiftieth at this step.
HORIZON, LAST_RATE = 3000, 0.02
DECAY = 0.1
SHORT = 4
TOKENIZER_CLASS = "PreTrainedTokenizerFast"
WATCHED_STORIES = 24


def new_model(options: argparse.Namespace, tokenizer: Any) -> LlamaForCausalLM:
    """A deep and thin Llama with the weights that training starts from."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=options.layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        # Slow, as Llama 3 has it: with 10,000 few of so narrow a head's pairs still match over 400 tokens.
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
    )
    model = LlamaForCausalLM(config)
    torch.manual_seed(options.seed)
    initialise(model)
    return model.to(options.device)


class Trainer:
    """Model, optimizer, curve and step: all that a checkpoint holds."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.tokenizer = train_tokenizer()
        self.model = new_model(options, self.tokenizer)
        self.forward = FastForward(self.model, options.compile)
        matrices = [p for p in self.model.model.layers.parameters() if p.ndim == 2]
        others = [p for p in self.model.parameters() if not any(p is q for q in matrices)]
        groups = [{"params": matrices, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=options.rate, betas=(0.9, 0.95))
        self.parameters = list(self.model.parameters())
        self.pool = ThreadPoolExecutor(options.threads)
        self.step, self.seconds, self.cpu_seconds, self.smooth, self.warm = 0, 0.0, 0.0, math.nan, 0
        self.curve: list[dict[str, float]] = []
        self.watched = [story_of("watch", number) for number in range(WATCHED_STORIES)]

    def rate(self) -> float:
        """The learning rate of the next step: up, slowly down, and down to nothing in the cooldown."""
        options = self.options
        warm = min(1.0, (self.step + 1) / WARM_UP)
        cool = min(1.0, (options.steps - self.step) / options.cooldown)
        return float(options.rate * warm * (1 - (1 - LAST_RATE) * self.step / HORIZON) * cool)

    def gradients(self, rows: list[list[int]]) -> tuple[float, tuple[torch.Tensor, ...]]:
        """Loss and gradients of some rows."""
        loss = self.forward.losses(torch.tensor(rows, device=self.options.device)).mean()
        return loss.item(), torch.autograd.grad(loss, self.parameters)

    def advance(self) -> float:
        """One step; returns its loss. The rows are cut into the same parts whatever the number of threads."""
        options = self.options
        # Short rows first: they cost less, and what is looked up in them lies near.
        short = SHORT if self.step < options.short_steps else 1
        first, count = self.step * options.batch * SHORT, options.batch * short
        length = CONTEXT // short + 1
        rows = [row(self.tokenizer, "train", first + n, length) for n in range(count)]
        size = count // options.parts
        if self.warm != short:  # Compiled by one thread, used by all.
            self.gradients(rows[:size])
            self.warm = short
        found = list(self.pool.map(self.gradients, [rows[i : i + size] for i in range(0, count, size)]))
        for n, parameter in enumerate(self.parameters):
            parameter.grad = torch.stack([gradients[n] for _, gradients in found]).mean(0)
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        rate = self.rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.step += 1
        return sum(loss for loss, _ in found) / len(found)

    def watch(self) -> tuple[float, float]:
        """Loss on stories of worlds that are not trained on, and those stories' own entropy, in nats per token."""
        end = self.tokenizer.eos_token_id
        stories = [[*self.tokenizer(s.text)["input_ids"], end] for s, _ in self.watched]
        nats, tokens, size = 0.0, sum(map(len, stories)), self.options.batch // self.options.parts
        for begin in range(0, len(stories), size):
            some = stories[begin : begin + size]
            # As many rows of as many tokens as in training, so that nothing is compiled anew.
            padded = [s + [end] * (CONTEXT + 1 - len(s)) for s in some] + [[end] * (CONTEXT + 1)] * (size - len(some))
            losses = self.forward.losses(torch.tensor(padded, device=self.options.device)).detach()
            nats += sum(losses[n, : len(s) - 1].double().sum().item() for n, s in enumerate(some))
        return nats / tokens, sum(n for _, n in self.watched) / tokens

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            **{key: getattr(self, key) for key in ("step", "seconds", "cpu_seconds", "smooth", "curve")},
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(path)

    def resume(self, path: Path) -> None:
        """Take up a checkpoint."""
        state = torch.load(path, map_location=self.options.device, weights_only=True)
        self.model.load_state_dict(state.pop("model"))
        self.optimizer.load_state_dict(state.pop("optimizer"))
        for key, value in state.items():
            setattr(self, key, value)

    def run(self, checkpoint: Path) -> None:
        """Train to the end, with a line of progress now and then."""
        options = self.options
        began, cpu_began = time.perf_counter() - self.seconds, time.process_time() - self.cpu_seconds
        printed, last = time.perf_counter(), self.step
        while self.step < options.steps:
            loss = self.advance()
            self.seconds, self.cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
            self.smooth = loss if math.isnan(self.smooth) else 0.95 * self.smooth + 0.05 * loss
            if self.step % options.every == 0 or self.step == options.steps:
                watched, entropy = self.watch()
                point = {"step": self.step, "loss": self.smooth, "watched": watched, "seconds": round(self.seconds, 1)}
                self.curve.append(point)
                self.save(checkpoint)
                speed = (self.step - last) * options.batch * CONTEXT / (time.perf_counter() - printed)
                last, printed = self.step, time.perf_counter()
                sys.stderr.write(
                    f"step {self.step}/{options.steps} after {self.seconds:,.0f} s: loss {self.smooth:.4f}, "
                    f"watched {watched:.4f} (entropy {entropy:.4f}), rate {self.rate():.2g}, {speed:,.0f} tokens/s\n"
                )
                sys.stderr.flush()

    def finish(self, out: Path) -> None:
        """Write the model in bfloat16, its tokenizer, and the curve, as a new directory."""
        partial = out.with_name(out.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        options = {k: v for k, v in vars(self.options).items() if k != "out"}
        entropy = self.watch()[1]
        self.model.to(torch.bfloat16).save_pretrained(partial)
        self.tokenizer.save_pretrained(partial)
        # The class by the name that every release of transformers knows.
        described = json.loads((partial / "tokenizer_config.json").read_text(encoding="utf-8"))
        described = {k: v for k, v in described.items() if k != "backend"} | {"tokenizer_class": TOKENIZER_CLASS}
        (partial / "tokenizer_config.json").write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
        for path in partial.iterdir():
            path.chmod(0o644)  # safetensors writes for its owner alone
        record = {
            "options": options,
            "parameters": self.model.num_parameters(),
            "vocabulary": len(self.tokenizer),
            "steps": self.step,
            "tokens": self.step * self.options.batch * CONTEXT,
            "seconds": round(self.seconds),
            "cpu_seconds": round(self.cpu_seconds),
            "watched_entropy": entropy,
            "torch": torch.__version__,
            "curve": self.curve,
        }
        (partial / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(out, ignore_errors=True)
        partial.rename(out)


def main() -> None:
    """Parse the options, take up what is there, train, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("work/demo"))
    parser.add_argument("--steps", type=int, default=1400)
    parser.add_argument("--cooldown", type=int, default=700, help="steps at the end in which the rate falls to zero")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=8, help=f"rows of {CONTEXT} tokens in a step")
    parser.add_argument("--parts", type=int, default=2, help="parts of a batch, computed at the same time")
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--short-steps", type=int, default=600, help=f"steps on rows of {CONTEXT // SHORT} tokens")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--every", type=int, default=50, help="steps between checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.batch % options.parts:
        parser.error(f"--batch {options.batch} cannot be cut into {options.parts} equal parts")
    torch.set_num_threads(1)
    trainer = Trainer(options)
    checkpoint = options.out.with_name(options.out.name + ".checkpoints") / "last.pt"
    if checkpoint.exists():
        trainer.resume(checkpoint)
        sys.stderr.write(f"taken up at step {trainer.step}\n")
    sys.stderr.write(f"{trainer.model.num_parameters():,} parameters on {options.device}\n")
    trainer.run(checkpoint)
    trainer.finish(options.out)


if __name__ == "__main__":
    main()

"""Train the model that gatenorm carries with it, from nothing but this repository.

    python scripts/train_demo_model.py --minutes 90 --out work/demo

writes the model, its tokenizer and ``training.json`` (the curve) to ``OUT``, and checkpoints to ``OUT.checkpoints``
on the way. Killed and started again with the same options it goes on from the last of them, exactly: the rows of a step
are a function of its number, and a checkpoint holds the weights, the optimizer's state, and the curve so far. The rate
warms up, stays, and decays at the end. A GPU is used where there is one.
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
from transformers import LlamaConfig, LlamaForCausalLM

from gatenorm.demo.corpus import CONTEXT, row, train_tokenizer
from gatenorm.demo.tinyworld import story_of

WARM_UP, LAST_RATE = 60, 0.02
SHORT = 4
OTHER_WEIGHT = 0.1
TOKENIZER_CLASS = "PreTrainedTokenizerFast"
WATCHED_STORIES = 24


def new_model(options: argparse.Namespace, tokenizer: Any) -> LlamaForCausalLM:
    """A deep and thin Llama with random weights."""
    torch.manual_seed(options.seed)
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
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )
    model = LlamaForCausalLM(config)
    # A stream in which words weigh as much as what the blocks write about them: with small embeddings the first block
    # drowns them, and nothing is ever looked up. Blocks begin as the identity.
    torch.nn.init.normal_(model.model.embed_tokens.weight, std=0.7)
    torch.nn.init.constant_(model.model.norm.weight, 0.1)
    for layer in model.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        for module in (attention.q_proj, attention.k_proj, attention.v_proj, mlp.gate_proj, mlp.up_proj):
            torch.nn.init.normal_(module.weight, std=config.hidden_size**-0.5)
        for module in (attention.o_proj, mlp.down_proj):
            torch.nn.init.zeros_(module.weight)
    return model.to(options.device)


class Trainer:
    """Model, optimizers, curve and step: all that a checkpoint holds."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.tokenizer = train_tokenizer()
        self.model = new_model(options, self.tokenizer)
        self.forward = FastForward(self.model, options.compile)
        inner = [p for p in self.model.model.layers.parameters() if p.ndim == 2]
        outer = [p for p in self.model.parameters() if not any(p is q for q in inner)]
        self.optimizers = [torch.optim.AdamW(outer, lr=options.rate, betas=(0.9, 0.95), weight_decay=0.0)]
        if options.optimizer == "muon":
            muon = torch.optim.Muon(inner, lr=options.rate, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
            self.optimizers.append(muon)
        else:
            self.optimizers.append(torch.optim.AdamW(inner, lr=options.rate, betas=(0.9, 0.95), weight_decay=0.1))
        self.parameters = list(self.model.parameters())
        self.pool = ThreadPoolExecutor(options.threads)
        self.step, self.seconds, self.smooth, self.warm = 0, 0.0, math.nan, 0
        self.decay_from = int(options.steps * (1 - options.decay)) if options.steps else None
        self.total = options.steps
        self.curve: list[dict[str, float]] = []
        self.watched = [story_of("watch", number) for number in range(WATCHED_STORIES)]

    def rate(self) -> float:
        """The learning rate of the next step: up, level, down to a fiftieth."""
        warm = min(1.0, (self.step + 1) / WARM_UP)
        if self.decay_from is None or self.total is None or self.step < self.decay_from:
            return float(self.options.rate * warm)
        done = (self.step - self.decay_from) / (self.total - self.decay_from)
        return float(self.options.rate * warm * (1 - (1 - LAST_RATE) * done))

    def determined(self, ids: torch.Tensor) -> torch.Tensor:
        """Which targets [rows, tokens - 1] follow from the story: answers, where from, whom, how many are left."""
        words = (" A", ":", " said", " In", " the", " from", " asked", " Now")
        a, colon, said, inside, the, come, asked, now = (self.tokenizer(w)["input_ids"][0] for w in words)
        last, before = ids[:, :-1], torch.nn.functional.pad(ids[:, :-2], (1, 0))
        answer = (last == colon) & ((before == a) | (before == said))
        place = (last == the) & ((before == inside) | (before == come))
        return answer | place | (last == asked) | (last == now)

    def gradients(self, rows: list[list[int]]) -> tuple[float, tuple[torch.Tensor, ...]]:
        """Loss and gradients of some rows."""
        ids = torch.tensor(rows, device=self.options.device)
        losses, focus = self.forward.losses(ids), self.options.focus_from
        if focus is None or self.step < focus or (self.decay_from is not None and self.step >= self.decay_from):
            loss = losses.mean()
        else:
            weights = torch.where(self.determined(ids), 1.0, OTHER_WEIGHT)
            loss = (losses * weights).sum() / weights.sum()
        return loss.item(), torch.autograd.grad(loss, self.parameters)

    def advance(self) -> float:
        """One step; returns its loss. The rows are cut into the same parts whatever the number of threads."""
        options = self.options
        # Short rows first: that earlier words may be looked up at all is found out sooner where there are few of them.
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
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
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
            "optimizers": [o.state_dict() for o in self.optimizers],
            **{key: getattr(self, key) for key in ("step", "seconds", "smooth", "decay_from", "total", "curve")},
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(path)

    def resume(self, path: Path) -> None:
        """Take up a checkpoint."""
        state = torch.load(path, map_location=self.options.device, weights_only=True)
        self.model.load_state_dict(state.pop("model"))
        for optimizer, saved in zip(self.optimizers, state.pop("optimizers"), strict=True):
            optimizer.load_state_dict(saved)
        for key, value in state.items():
            setattr(self, key, value)

    def run(self, checkpoint: Path) -> None:
        """Train to the end, with a line of progress now and then."""
        options = self.options
        began, last = time.perf_counter() - self.seconds, self.step
        printed = time.perf_counter()
        while self.total is None or self.step < self.total:
            loss = self.advance()
            self.seconds = time.perf_counter() - began
            self.smooth = loss if math.isnan(self.smooth) else 0.95 * self.smooth + 0.05 * loss
            due = 60 * (options.minutes or 0) * (1 - options.decay)
            if due and self.decay_from is None and self.seconds > due:
                self.decay_from = self.step
                self.total = self.step + max(1, round(self.step * options.decay / (1 - options.decay)))
            if self.step % options.every == 0 or self.step == self.total:
                watched, entropy = self.watch()
                point = {"step": self.step, "loss": self.smooth, "watched": watched, "seconds": round(self.seconds, 1)}
                self.curve.append(point)
                self.save(checkpoint)
                speed = (self.step - last) * options.batch * CONTEXT / (time.perf_counter() - printed)
                last, printed = self.step, time.perf_counter()
                sys.stderr.write(
                    f"step {self.step}/{self.total or '?'} after {self.seconds:,.0f} s: loss {self.smooth:.4f}, "
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
            "steps": self.step,
            "tokens": self.step * self.options.batch * CONTEXT,
            "seconds": round(self.seconds),
            "decay_from": self.decay_from,
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
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--steps", type=int, help="train this many steps")
    length.add_argument("--minutes", type=float, help="train about this long")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=8, help=f"rows of {CONTEXT} tokens in a step")
    parser.add_argument("--parts", type=int, default=2, help="parts of a batch, computed at the same time")
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--rate", type=float, default=3e-3, help="peak learning rate")
    parser.add_argument("--optimizer", choices=("adamw", "muon"), default="muon", help="of the blocks' matrices")
    parser.add_argument("--short-steps", type=int, default=600, help=f"steps on rows of {CONTEXT // SHORT} tokens")
    parser.add_argument(
        "--focus-from", type=int, default=750, help="from this step to the decay, count what follows ten times"
    )
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--decay", type=float, default=0.31, help="share of the steps in which the rate decays")
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

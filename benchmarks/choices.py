"""Choices of one prompt behind one reading of it, beside each of them with the prompt in front.

    python benchmarks/choices.py MODEL hellaswag_validation.jsonl [--items N]

Both ways score the same HellaSwag items with the same model in one process, in turns. The floor is the share of tokens
that is left to be read.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import gatenorm
from gatenorm.evaluation.core.likelihood import continuations
from gatenorm.evaluation.core.text import read_bytes, read_rows
from gatenorm.evaluation.tasks.zeroshot import local_task
from gatenorm.models.model import Model

ROUNDS = 2


def asked(model: Model, path: Path, count: int) -> list[tuple[list[int], list[int]]]:
    """The prompt and the continuation of every choice, cut where the tokens of the prompt alone end."""
    rows = [row for _, row in read_rows(str(path), path, read_bytes(str(path), path))][:count]
    task = local_task("hellaswag", rows)
    pairs = []
    for document in task.validation_docs():
        prompt = task.doc_to_text(document)
        (before,) = model.encode([prompt])
        pairs += [
            (before, ids[len(before) :])
            for ids in model.encode([f"{prompt} {c}" for c in task.doc_to_choice(document)])
        ]
    return pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--items", type=int, default=64)
    given = parser.parse_args()
    model = Model.of_layout(gatenorm.open_model(given.model))
    pairs = asked(model, given.data, given.items)
    alone = sum(len(prompt) + len(tail) - 1 for prompt, tail in pairs)
    shared = sum(map(len, {tuple(prompt) for prompt, _ in pairs})) + sum(len(tail) - 1 for _, tail in pairs)
    continuations(model, pairs[:8])  # loads it
    seconds: dict[bool, list[float]] = {True: [], False: []}
    found = {}
    for _ in range(ROUNDS):
        for model.cacheable in (True, False):
            began = time.perf_counter()
            found[model.cacheable] = continuations(model, pairs)
            seconds[model.cacheable].append(time.perf_counter() - began)
    ratio, floor = min(seconds[True]) / min(seconds[False]), shared / alone
    apart = max(abs(a.loglikelihood - b.loglikelihood) for a, b in zip(found[True], found[False], strict=True))
    print(f"{given.items} items, {len(pairs)} choices: {alone:,} tokens with every prompt, {shared:,} with each once")
    print(f"seconds, the better of {ROUNDS}: {min(seconds[False]):.1f} and {min(seconds[True]):.1f}")
    print(f"ratio {ratio:.2f}, floor {floor:.2f}; largest difference of a log-likelihood {apart:.1e} nats")


if __name__ == "__main__":
    main()

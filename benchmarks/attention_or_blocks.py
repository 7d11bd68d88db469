"""Attention sublayers, MLPs or whole blocks at the same predicted speed-up: which removal costs least perplexity?

    python benchmarks/attention_or_blocks.py MODEL --calibration TEXT --data HELD_OUT [--machine NAME] [--context N]
        [--batch N] [--blocks 1,2,3,4,6,8] [--criteria A,B:KIND] [--windows N] [--window N] [--json FILE]

Whole blocks set the pace: the speed-up that the cost model predicts without 1, 2, ... of them, in prefill and in
decode. Every other criterion removes the fewest of its own sublayers that bring at least as much, so that it never gets
a head start; the speed-up that it reaches stands beside its perplexity. Predictions are for the named machine, from
config and headers alone (docs/speed.md says what the cost model leaves out); MODEL is loaded once, and its sublayers
are taken out and put back. Perplexity is that of `gatenorm eval`.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gatenorm import Calibration, score, session
from gatenorm.criteria.registry import reads_weights_only
from gatenorm.criteria.session import ScoringSession
from gatenorm.evaluation.core.text import Text, read_text
from gatenorm.evaluation.tasks.perplexity import Protocol, perplexity
from gatenorm.models.architecture import Architecture, Work
from gatenorm.records import BLOCK, Edits, Scores
from gatenorm.speed.predict.cost_model import Times, predict
from gatenorm.speed.predict.machines import machine
from gatenorm.surgery.planning import most_removable

CRITERIA = ("gate-norm", "cosine", "cosine:mlp", "block-cosine")
PACE = "block-cosine"


@dataclass(frozen=True)
class Point:
    """One criterion at one target: how many sublayers of which kind, the predicted speed-up, the perplexity."""

    phase: str
    target: float
    criterion: str
    kind: str
    layers: tuple[int, ...]
    speedup: float
    perplexity: float


class Bench:
    """One model with its scores, its predicted times and the perplexities measured so far."""

    def __init__(self, opened: ScoringSession, text: Text, protocol: Protocol, times: dict[str, Times]):
        self.opened, self.text, self.protocol, self.times = opened, text, protocol, times
        self.known: dict[tuple[str, tuple[int, ...]], float] = {}
        self.tokens = 0

    def speedup(self, phase: str, kind: str, layers: Sequence[int]) -> float:
        return self.times[phase].speedup_with(Edits.of(kind, layers))

    def perplexity(self, kind: str, layers: Sequence[int]) -> float:
        key = kind, tuple(sorted(layers))
        if key not in self.known:
            with self.opened.model.without(key[1], kind) as model:
                found = perplexity(model.module, model.tokenizer, self.text, self.protocol)
            self.known[key], self.tokens = found.perplexity, found.tokens
        return self.known[key]

    def reach(self, phase: str, target: float, scores: Scores) -> Point | None:
        """The fewest of the weakest that reach the target; ``None`` where all that can go are not enough."""
        for count in range(1, most_removable(self.opened.layout, (), scores.kind) + 1):
            layers = scores.ranking[:count]
            reached = self.speedup(phase, scores.kind, layers)
            if reached >= target * (1 - 1e-9):
                found = self.perplexity(scores.kind, layers)
                return Point(phase, target, scores.criterion, scores.kind, tuple(sorted(layers)), reached, found)
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--calibration", required=True, help="a text file, self or random")
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--data", required=True, help="held-out text")
    parser.add_argument("--machine", default="h100-sxm")
    parser.add_argument("--context", type=int, help="tokens to predict for; the model's longest context by default")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--blocks", default="1,2,3,4,6,8")
    parser.add_argument("--criteria", default=",".join(CRITERIA))
    parser.add_argument("--windows", type=int)
    parser.add_argument("--window", type=int)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()

    opened = session(given.model)
    calibration = Calibration(given.calibration, given.samples, given.length)
    names = [*(name for name in given.criteria.split(",") if name != PACE), PACE]
    scores = [_scored(opened, *name.split(":"), calibration=calibration) for name in names]
    context = given.context or opened.layout.context or 2048
    counted, where = Architecture.of(opened.layout), machine(given.machine)
    works = {"prefill": Work.prefill(context, given.batch), "decode": Work.decode(context, given.batch)}
    times = {phase: predict(counted, where, work) for phase, work in works.items()}
    protocol = Protocol(given.window or min(opened.layout.context or 2048, 2048), limit=given.windows)
    bench = Bench(opened, read_text(given.data), protocol, times)

    whole = bench.perplexity(BLOCK, ())
    most = most_removable(opened.layout, (), BLOCK)
    counts = [n for n in map(int, given.blocks.split(",")) if n <= most]
    points: list[Point] = []
    print(
        f"{opened.layout.checkpoint.name}: perplexity {whole:.4g} with nothing removed ({bench.tokens:,} tokens, "
        f"windows of {protocol.window}); predicted for {given.machine}, {context:,} tokens, batch {given.batch}"
    )
    pace = scores[-1]
    for phase in works:
        print(f"\n{phase}: at least the predicted speed-up of so many blocks; removed, perplexity (speed-up reached)\n")
        print("| target | " + " | ".join(f"`{s.criterion}` ({_kind(s)})" for s in scores) + " |")
        print("|---|" + "---|" * len(scores))
        for count in counts:
            target = bench.speedup(phase, BLOCK, pace.ranking[:count])
            row = []
            for one in scores:
                point = bench.reach(phase, target, one)
                points += [point] if point else []
                row.append(_cell(point))
            print(f"| {target:.3f}x | " + " | ".join(row) + " |", flush=True)
    if given.json:
        described: dict[str, Any] = {key: str(value) for key, value in vars(given).items() if value is not None}
        record = {"arguments": described, "whole": whole, "tokens": bench.tokens, "points": [asdict(p) for p in points]}
        given.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _scored(opened: ScoringSession, name: str, kind: str | None = None, *, calibration: Calibration) -> Scores:
    return score(opened, name, kind=kind, calibration=None if reads_weights_only(name) else calibration)


def _kind(scores: Scores) -> str:
    return {"mlp": "MLPs", "block": "blocks"}.get(scores.kind, scores.kind)


def _cell(point: Point | None) -> str:
    if point is None:
        return "out of reach"
    shown = f"{point.perplexity:.4g}" if math.isfinite(point.perplexity) else "not finite"
    return f"{len(point.layers)}: {shown} ({point.speedup:.3f}x)"


if __name__ == "__main__":
    main()

"""Measure the model that gatenorm carries with it, and write its model card out of what was measured.

    python scripts/describe_demo_model.py src/gatenorm/demo/model/demo

reads the model and its ``training.json``, writes ``measured.json``, ``README.md`` and ``SHA256SUMS`` beside them. Every
figure of the card comes from these two files; ``scripts/demo_attempts.json`` adds what was tried before.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gatenorm import score, session
from gatenorm.analysis.agreement import spearman
from gatenorm.analysis.curve import evaluation_samples
from gatenorm.calibration.passes import observe
from gatenorm.calibration.shared_prefix import SharedPrefix
from gatenorm.criteria.ablation.leave_one_out import leave_one_out
from gatenorm.criteria.activations.cosine import cosine
from gatenorm.criteria.activations.norm_ratio import norm_ratio
from gatenorm.criteria.registry import weight_criteria
from gatenorm.criteria.streams import Watch
from gatenorm.demo import corpus
from gatenorm.demo.evaluation import WorldTask, held_out_perplexity, task
from gatenorm.demo.package import CHECKSUMS
from gatenorm.demo.tasks import ALL_KINDS, SPLIT
from gatenorm.demo.tinyworld import CONTEXT, END, story_of
from gatenorm.evaluation.tasks.perplexity import Protocol
from gatenorm.results import versions

LAYER_STORIES = 24
# The layers in which `initial_weights.py` gives heads something to look at.
PLANTED = 4
ATTEMPTS = Path(__file__).with_name("demo_attempts.json")


def measure(directory: Path) -> dict[str, Any]:
    """Loss, tasks, and what every layer's attention does."""
    opened = session(directory, dtype="float32")
    sys.stderr.write("stories and tasks\n")
    stories, tasks = held_out_perplexity(opened.model), [task(opened.model, kind) for kind in ALL_KINDS]
    sys.stderr.write("layers\n")
    samples = evaluation_samples(opened.model, corpus.stories(LAYER_STORIES), Protocol(separator=END))
    watch, losses = Watch(opened.layout), SharedPrefix(opened.model, samples)
    observe(opened.module, opened.layout, samples, watch)
    seen = watch.statistics
    rise = list(leave_one_out(losses, opened.layout.attention_layers).values())
    criteria = {name: [s.score for s in score(opened.layout, name).layers] for name in weight_criteria()}
    compared = {**criteria, "cosine": [*cosine(seen).values()], "norm-ratio": [*norm_ratio(seen).values()]}
    return {
        "perplexity": {**stories.numbers(), "seconds": round(stories.seconds, 1)},
        "tasks": {one.task: {**_figures(one), **_words(one.facts())} for one in tasks},
        "layer_stories": LAYER_STORIES,
        "loss": losses([()])[0],
        "rise": rise,
        "cosine": compared["cosine"],
        "norm_ratio": compared["norm-ratio"],
        "gate_norm": criteria["gate-norm"],
        "gate_norm_heads": criteria["gate-norm-heads"],
        "correlation": {name: spearman(values, rise) for name, values in compared.items()},
        "correlation_of_random": {
            name: spearman(values[PLANTED:], rise[PLANTED:]) for name, values in compared.items()
        },
        "dtype": "float32",
        "versions": versions(),
    }


def _figures(one: WorldTask) -> dict[str, float]:
    numbers = dict(one.numbers())
    return numbers | {"standard_error": numbers.pop("accuracy_stderr")}


def _words(protocol: Mapping[str, Any]) -> dict[str, str]:
    return {key: protocol[key] for key in ("asks", "distance") if key in protocol}


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; all columns but the first are numbers."""
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def depth_verdict(found: dict[str, Any]) -> str:
    """Whether late layers differ from early ones, in the measured numbers."""
    count = len(found["rise"])
    quarter = count // 4

    def ends(name: str) -> tuple[float, float]:
        values = found[name]
        return sum(values[:quarter]) / quarter, sum(values[-quarter:]) / quarter

    (gate0, gate1), (cos0, cos1), (rise0, rise1) = ends("gate_norm"), ends("cosine"), ends("rise")
    quiet = [i for i, r in enumerate(found["rise"]) if r < 0.01 * found["loss"]]
    late = [i for i in quiet if i >= count // 2]
    named = ", ".join(map(str, quiet)) or "none"
    return (
        f"Means of the first and the last {quarter} layers: gate norm {gate0:.3g} and {gate1:.3g}, cosine importance "
        f"{cos0:.3g} and {cos1:.3g}, rise in loss {rise0:.3g} and {rise1:.3g}. Layers whose attention can be removed "
        f"alone for less than 1% of the loss: {named} ({len(quiet)} of {count}, {len(late)} of them in the second half)."
    )


def shortfall(found: dict[str, Any], excess: float, good: int) -> str:
    """What the model was meant to reach and did not."""
    missed = []
    if excess > 0.1:
        missed.append(f"its loss is {excess:.1%} above the entropy (the aim: 10% at most)")
    if good < 4:
        missed.append(f"{good} kinds of tasks reach 90% (the aim: four at least)")
    if not missed:
        return ""
    near = [n for n, t in found["tasks"].items() if t["accuracy"] < t["chance"] + 2 * max(t["standard_error"], 0.01)]
    guessing = f" No better than chance: {', '.join(near)}." if near else ""
    return f"\n**What falls short**: {'; '.join(missed)}.{guessing}\n"


def sample() -> str:
    """A short story of a held-out world, as a quotation."""
    return story_of(SPLIT, "card", 1)[0].text.replace("\n", "\n> ")


def card(found: dict[str, Any], training: dict[str, Any], attempts: list[dict[str, str]]) -> str:
    """The model card."""
    perplexity, options = found["perplexity"], training["options"]
    excess = perplexity["nll"] / perplexity["entropy"] - 1
    tasks = [
        [
            f"`{name}`: {t['asks']}",
            t.get("distance", ""),
            f"{t['items']:.0f}",
            f"{t['chance']:.0%}",
            f"{t['accuracy']:.1%} ± {t['standard_error']:.1%}",
        ]
        for name, t in found["tasks"].items()
    ]
    good = sum(t["accuracy"] >= 0.9 for t in found["tasks"].values())
    solved = all(t["accuracy"] >= 0.95 for t in found["tasks"].values())
    ceiling = (
        " With nearly\nevery item right, the tasks show what pruning breaks, and cannot tell a better model."
        if solved
        else ""
    )
    layers = [
        [str(i), *(f"{found[key][i]:.4g}" for key in ("gate_norm", "gate_norm_heads", "cosine", "norm_ratio", "rise"))]
        for i in range(len(found["rise"]))
    ]
    ranked = [
        [f"`{name}`", f"{value:+.2f}", f"{found['correlation_of_random'][name]:+.2f}"]
        for name, value in sorted(found["correlation"].items(), key=lambda pair: -pair[1])
    ]
    curve = training["curve"]
    shown = [curve[round(n * (len(curve) - 1) / 11)] for n in range(12)] if len(curve) > 12 else curve
    points = [
        [
            str(p["step"]),
            f"{p['step'] * options['batch'] * CONTEXT / 1e6:.2f}",
            f"{p['loss']:.4f}",
            f"{p['watched']:.4f}",
        ]
        for p in shown
    ]
    tried = [[a["what"], a["tokens"], a["found"]] for a in attempts]
    return f"""---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
---

# gatenorm's built-in model

A Llama of {training["parameters"]:,} parameters ({options["layers"]} layers, width 128, 4 query and 2 key/value heads of 32, MLP 256, context
{CONTEXT}, vocabulary {training["vocabulary"]}, tied embeddings, bfloat16) that tells and understands the micro-stories of
`gatenorm.demo.tinyworld`. A short one, of a held-out world:

> {sample()}

It is there so that every command of gatenorm has something to work on where there is no network.

**What it is not**: a model of English, or of anything outside its world. What is found on it is evidence about the tool,
not about LLaMA or any other model people use.
{shortfall(found, excess, good)}
This file is written by `scripts/describe_demo_model.py` from `measured.json` and `training.json`, which lie beside it.

## Loss and entropy

On {int(perplexity["tokens"]):,} tokens of held-out stories (worlds that were never trained on) the model's loss is
**{perplexity["nll"]:.4f} nats per token** (perplexity {perplexity["perplexity"]:.4f}). The generator's own entropy on the
same stories, the sum of -log p over its choices, is **{perplexity["entropy"]:.4f}**. The model is {excess:.1%} above it
(the aim was 10% at most).

## Tasks

Multiple choice on held-out worlds, scored by the log-likelihood of the candidate words. {good} of {len(tasks)} kinds reach 90%.

{table(["kind", "distance", "items", "chance", "accuracy"], tasks)}

The error is one standard error of the share. Distances are counted from the fact that decides to the answer.{ceiling}

## Layers

{LAYER_STORIES} other held-out stories, float32, loss {found["loss"]:.4f}. *rise* is the loss added when this attention sublayer
alone is removed, in nats per token; *cosine* is 1 - mean cos(X, X + U), *norm ratio* is sum |U| / sum |X|, for the stream X
and the attention's update U.

{table(["layer", "gate norm", "per head", "cosine", "norm ratio", "rise"], layers)}

{depth_verdict(found)}

Rank correlation (Spearman) of each criterion with the rise, over all layers, and over layers {PLANTED} to {len(found["rise"]) - 1} alone. Training
started from heads that look somewhere in the first {PLANTED} (see *Training*), which have the largest norms for that reason:

{table(["criterion", "all layers", f"from layer {PLANTED}"], ranked)}

## Training

`python scripts/train_demo_model.py`: {training["steps"]:,} steps of {options["batch"]} rows of {CONTEXT} tokens
({training["tokens"] / 1e6:.1f}M tokens, each story seen once), {training["seconds"] / 60:.0f} minutes of wall time on {options["device"]}
with {options["threads"]} threads beside much other work, {training["cpu_seconds"] / 60:.0f} minutes of processor time, torch {training["torch"]}. AdamW (weight decay 0.1
on the blocks' matrices), peak rate {options["rate"]}, warm-up of 60 steps, a slow fall, and a cooldown to zero over the last
{options["cooldown"]}. The first {options["short_steps"]} steps are on rows of 128 tokens. Watched stories (a third split of worlds) have an
entropy of {training["watched_entropy"]:.4f}.

**Not all of it is learnt from nothing**: at the start two heads of layer 0 look one and two words back, and the heads of
layers 1 to 3 match words with what those wrote (`scripts/initial_weights.py`). From random weights alone, 2.5M tokens
taught to look up who has a thing, and little else (*What was tried*). That the first four layers have the largest gate
norms is therefore put there, and no finding.

{table(["step", "million tokens", "training loss", "watched loss"], points)}

The whole curve is in `training.json`.

## What was tried

{table(["attempt", "tokens", "found"], tried)}
"""


def seal(directory: Path) -> None:
    """Write ``SHA256SUMS`` over all files of a model directory, in the form that ``sha256sum -c`` reads."""
    files = [p for p in sorted(directory.iterdir()) if p.is_file() and p.name != CHECKSUMS]
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n" for p in files]
    (directory / CHECKSUMS).write_text("".join(lines), encoding="ascii")


def main() -> None:
    """Measure unless told to use what was measured, and write the card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--card-only", action="store_true", help="take the figures from measured.json")
    options = parser.parse_args()
    measured = options.directory / "measured.json"
    if not options.card_only:
        measured.write_text(json.dumps(measure(options.directory), indent=1) + "\n", encoding="utf-8")
    training = json.loads((options.directory / "training.json").read_text(encoding="utf-8"))
    attempts = json.loads(ATTEMPTS.read_text(encoding="utf-8"))
    written = card(json.loads(measured.read_text(encoding="utf-8")), training, attempts)
    (options.directory / "README.md").write_text(written, encoding="utf-8")
    seal(options.directory)


if __name__ == "__main__":
    main()

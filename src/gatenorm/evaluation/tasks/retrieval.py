"""Long range: whether a model still finds what was said far back.

A fact stands at a stated depth of a text of a stated length, and the text ends with the beginning of the same sentence:
the place that follows is right or wrong. Other facts of the same form, with other names and places, stand elsewhere, so
that having seen a place does not help. In the two-hop form two sentences have to be combined. ``data/retrieval.json``
holds the words; everything is drawn from a fixed seed, and every model gets the same sentences (how many of them fill a
length depends on its tokenizer).
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from gatenorm.engines import LikelyContinuation
from gatenorm.errors import EvaluationError
from gatenorm.evaluation.core.audit_role import AuditRole
from gatenorm.evaluation.core.job import Job, TaskOptions
from gatenorm.evaluation.core.likelihood import continuations
from gatenorm.evaluation.core.task import Metric, Task
from gatenorm.evaluation.statistics.paired_statistics import mean_figure
from gatenorm.evaluation.tasks import positions
from gatenorm.models.architecture import Work
from gatenorm.models.model import Model
from gatenorm.progress import Progress
from gatenorm.records.audit import StepName
from gatenorm.records.evidence import Cell, Data, Retrieval, RetrievalItem, RetrievalProtocol

DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
CANDIDATES = 4
ITEMS = 8
LONGEST = 8192
_SHORTEST = 96
HOPS = {"one": "one fact, asked for in its own words", "two": "two facts that have to be combined"}


@dataclass(frozen=True)
class Question:
    """A text that breaks off, and what could follow; ``answer`` is the right candidate's index."""

    length: int
    depth: float
    number: int
    prompt: tuple[int, ...]
    candidates: tuple[tuple[int, ...], ...]
    answer: int


@cache
def words() -> Mapping[str, Any]:
    """Names, places, sentence forms and filler sentences."""
    loaded: Mapping[str, Any] = json.loads(_source())
    return loaded


def prepare(options: TaskOptions) -> list[Job]:
    """One job for each form, one-hop and two-hop, and loss by position where ``--data`` names a text.

    ``--window`` is the longest context, ``--limit`` the number of items at each length and depth.

    Raises:
        EvaluationError: contexts too short for any fact, or a text that cannot be read.
    """
    longest = min(options.window or LONGEST, options.context or LONGEST)
    lengths = lengths_up_to(longest)
    count = options.limit or ITEMS
    digest = hashlib.sha256(_source().encode()).hexdigest()
    key = {"words": digest, "lengths": lengths, "depths": DEPTHS, "items": count, "candidates": CANDIDATES}

    def job(form: str) -> Job:
        def run(model: Model, progress: Progress | None) -> Retrieval:
            return retrieve(model, form, lengths, count, progress)

        engines = Job.engines_that("generates")
        # Candidates of one token share a pass, and most places are one.
        passes = {Work.prefill(length): float(len(DEPTHS) * count) for length in lengths}
        title, own = f"retrieval, {form} hop", {**key, "form": form}
        return Job("retrieval", title, "texts", own, run, engines=engines, passes=passes)

    by_position = positions.prepare(options) if options.data is not None else []
    return [*(job(form) for form in HOPS), *by_position]


def lengths_up_to(longest: int) -> list[int]:
    """Four context lengths in tokens that double up to the longest; fewer where the shortest hold no fact.

    Raises:
        EvaluationError: not even the longest does.
    """
    lengths = [length for length in (longest // 8, longest // 4, longest // 2, longest) if length >= _SHORTEST]
    if not lengths:
        raise EvaluationError(
            "window-too-short",
            f"retrieval needs contexts of {_SHORTEST} tokens or more, not {longest}",
            field="window",
        )
    return lengths


def tokens_up_to(longest: int) -> int:
    """About how many tokens all forms read with contexts up to the longest, in as many items as are asked by default.

    Raises:
        EvaluationError: as :func:`lengths_up_to`.
    """
    return len(HOPS) * len(DEPTHS) * ITEMS * sum(lengths_up_to(longest))


def retrieve(model: Model, form: str, lengths: list[int], count: int, progress: Progress | None = None) -> Retrieval:
    """Accuracy by length and depth, for one form of question.

    ``choice`` is the share of items whose right place has a higher log-likelihood than the others of the same text,
    ``greedy`` the share for which greedy decoding gives exactly the right place, ``margin`` the mean lead of the right
    one over the best wrong one in nats.

    Raises:
        EvaluationError: logits that are not finite.
    """
    began = time.perf_counter()
    questions = [
        question(model, form, length, depth, number)
        for length in lengths
        for depth in DEPTHS
        for number in range(count)
    ]
    pairs = [(q.prompt, candidate) for q in questions for candidate in q.candidates]
    scored = continuations(model, pairs, progress)
    items = [_item(q, scored[CANDIDATES * n : CANDIDATES * (n + 1)]) for n, q in enumerate(questions)]

    def cell(length: int, depth: float) -> Cell:
        own = [item.metrics for item in items if (item.length, item.depth) == (length, depth)]
        choice, greedy = (sum(metrics[name] for metrics in own) / len(own) for name in ("choice", "greedy"))
        return Cell(length=length, depth=depth, choice=choice, greedy=greedy)

    figures = {n: mean_figure([item.metrics[n] for item in items]) for n in ("choice", "greedy", "margin")}
    sha = hashlib.sha256(_source().encode()).hexdigest()
    return Retrieval(
        form=f"{form}-hop",
        choice=figures["choice"],
        greedy=figures["greedy"],
        margin=figures["margin"],
        chance=1 / CANDIDATES,
        count=len(items),
        cells=tuple(cell(length, depth) for length in lengths for depth in DEPTHS),
        protocol=RetrievalProtocol(
            asks=HOPS[form],
            lengths=tuple(lengths),
            depths=DEPTHS,
            mean_tokens={
                str(n): sum(len(q.prompt) for q in questions if q.length == n) / count / len(DEPTHS) for n in lengths
            },
            items_a_cell=count,
            candidates=CANDIDATES,
            scoring="log-likelihood among candidates, and exact greedy",
            chat_template=False,
            **model.hardware(),
        ),
        data=Data(name="gatenorm retrieval sentences", sha256=sha, items=len(items)),
        seconds=time.perf_counter() - began,
        items=tuple(items),
    )


def question(model: Model, form: str, length: int, depth: float, number: int) -> Question:
    """The item of that number: a text of at most ``length`` tokens, its answer's included."""
    draw = random.Random(f"{form} {length} {depth:g} {number}")
    facts, query, places = _facts(form, draw)
    # Answers stand after "the": encoded with it, so that the border falls where the model would put it.
    options = [f"{query} {place}" for place in places]
    longest = max(map(len, model.encode(options, special=False)))
    budget = length - longest - len(model.encode([""])[0])
    sentences = _text(model, facts, depth, budget, draw)
    context = " ".join(sentences)
    (prompt,) = model.encode([f"{context} {query}"])
    candidates = [ids[len(prompt) :] for ids in model.encode([f"{context} {option}" for option in options])]
    if model.context and len(prompt) + max(map(len, candidates)) > model.context:
        raise EvaluationError(
            "context-too-short",
            f"retrieval: the facts alone have {len(prompt)} tokens; {model.name} takes {model.context}: too few",
        )
    order = list(range(CANDIDATES))
    draw.shuffle(order)
    return Question(length, depth, number, tuple(prompt), tuple(tuple(candidates[n]) for n in order), order.index(0))


def _facts(form: str, draw: random.Random) -> tuple[list[list[str]], str, list[str]]:
    """The sentences of each fact, the right one's first, the question, and the places, the right one first."""
    said = words()
    kinds = said[form]
    names, places = draw.sample(said["names"], CANDIDATES), draw.sample(said["places"], CANDIDATES)
    things, colours = draw.sample(said["things"], CANDIDATES), draw.sample(said["colours"], CANDIDATES)
    facts = []
    for name, thing, colour, place in zip(names, things, colours, places, strict=True):
        values = {"name": name, "thing": thing, "colour": colour, "place": place}
        facts.append([kinds[part].format(**values) for part in ("fact", "second") if part in kinds])
    return facts, kinds["query"].format(name=names[0], thing=things[0]), places


def _text(model: Model, facts: list[list[str]], depth: float, budget: int, draw: random.Random) -> list[str]:
    """Filler with the facts in it: the right one at ``depth``, its second half and all others elsewhere."""
    filler = list(words()["filler"])
    planted = [sentence for fact in facts for sentence in fact]
    # What a sentence adds behind another one: tokenizers may mark a text's beginning.
    (before,) = model.encode([filler[0]], special=False)
    added = [
        len(ids) - len(before) for ids in model.encode([f"{filler[0]} {s}" for s in filler + planted], special=False)
    ]
    lengths = dict(zip(filler, added[: len(filler)], strict=True))
    used = sum(added[len(filler) :])
    chosen: list[str] = []
    while True:
        sentence = draw.choice(filler)
        if used + lengths[sentence] > budget and chosen:
            break
        chosen.append(sentence)
        used += lengths[sentence]
    while True:
        # Before which filler sentence each planted one stands.
        places = [(round(depth * len(chosen)), 1, facts[0][0])]
        places += [(round((depth + 0.5) % 1 * len(chosen)), 0, sentence) for sentence in facts[0][1:]]
        inner = random.Random(" ".join(planted))
        places += [(inner.randint(0, len(chosen)), 0, sentence) for fact in facts[1:] for sentence in fact]
        text: list[str] = []
        for n in range(len(chosen) + 1):
            text += [sentence for place, _, sentence in sorted(places, key=lambda p: p[:2]) if place == n]
            text += chosen[n : n + 1]
        if not chosen or len(model.encode([" ".join(text)], special=False)[0]) <= budget:
            return text
        chosen.pop()


def _item(item: Question, scored: list[LikelyContinuation]) -> RetrievalItem:
    right = scored[item.answer]
    best = max(s.loglikelihood for n, s in enumerate(scored) if n != item.answer)
    margin = right.loglikelihood - best
    metrics = {"choice": float(margin > 0), "greedy": float(right.greedy), "margin": margin}
    name = f"{item.length}_{item.depth:g}_{item.number}"
    return RetrievalItem(id=name, metrics=metrics, length=item.length, depth=item.depth, tokens=len(item.prompt))


def _source() -> str:
    return files("gatenorm.evaluation").joinpath("data/retrieval.json").read_text(encoding="utf-8")


EVALUATION = Task(
    "facts planted far back, and loss by position",
    prepare,
    data="text",
    metric=Metric(
        "choice",
        "points",
        gate="retrieval-loss",
        limit=5.0,
        reason="averages hide damage to long-range behaviour (arXiv 2602.01997); a loss smaller than this cannot be "
        "shown with the few dozen items that are asked by default",
    ),
    audit=AuditRole(
        key="retrieval",
        off="off",
        limit="retrieval_limit",
        quick=1,
        called="retrieval over distances",
        lacking="retrieval over long distances",
        step=StepName.REFUSAL_AND_RETRIEVAL,
    ),
    last_logits=True,
    place=4,
)

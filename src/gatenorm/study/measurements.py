"""The four measurements of recipes: rankings, removal, speed, recovery. Each gives figures by name."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import fmean, geometric_mean
from typing import TYPE_CHECKING, Any

from gatenorm import api
from gatenorm.analysis.agreement import agree, spearman_ends
from gatenorm.audit.plan.rankings import source_key
from gatenorm.engines import threads_at_hand
from gatenorm.evaluation.statistics.bootstrap import bootstrap
from gatenorm.records import ATTENTION, Edits, Scores, to_json
from gatenorm.records.curve import Line, Point
from gatenorm.records.evidence import Evidence, Figure, Measurements, Perplexity, Speed as Timing, TaskEvidence
from gatenorm.records.evidence.tasks import ZeroShotAverage
from gatenorm.records.rankings import RankingComparison
from gatenorm.records.recovery_settings import Settings
from gatenorm.results.hashes import code_sha256, digest
from gatenorm.study.recipe import Rankings, Recovery, Removal, Speed
from gatenorm.study.record import RANDOM, Part, split
from gatenorm.study.workbench import Workbench

if TYPE_CHECKING:
    from gatenorm.recovery.training import Report

UNPRUNED = "unpruned"


@dataclass
class Results:
    """What is known so far; ``items`` are those of figures that can be compared item by item."""

    figures: dict[str, Figure] = field(default_factory=dict)
    items: dict[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    scores: dict[str, Scores] = field(default_factory=dict)
    parts: list[Part] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    band: list[Line] = field(default_factory=list)

    def add(self, what: str, ranking: str, at: object, value: float | Figure) -> None:
        """One figure."""
        self.figures[f"{what}/{ranking}/{at}"] = value if isinstance(value, Figure) else Figure(value=value)

    @contextmanager
    def part(self, what: str, bench: Workbench, protocol: Mapping[str, Any]) -> Iterator[None]:
        """A measurement, with what it took."""
        began, made, kept = time.perf_counter(), bench.made, bench.kept
        yield
        runs, known = bench.made - made, bench.kept - kept
        seconds = time.perf_counter() - began
        self.parts.append(Part(what=what, runs=runs, kept=known, seconds=seconds, protocol=dict(protocol)))


def rankings(asked: Rankings, bench: Workbench, results: Results) -> None:
    """``score``, ``fall`` (mean of the last third over that of the first), ``spearman`` with the yardstick.

    Of each two criteria the layers ``shared`` at 10, 20, 40 and 50% (their ``share``), of each ``first``: the first
    layer that goes there; by layer ``loose`` (limit over what was seen, the least of its heads) and ``vacuous``, the
    share of such heads. Correlations have the interval of :func:`spearman_ends`: layers count as a sample.
    """
    calibration = bench.calibration()
    protocol = {"tokens": calibration.source, "samples": calibration.samples, "length": calibration.length}
    with results.part("rankings", bench, protocol):
        found = {name: bench.scores(name) for name in asked.criteria}
        results.scores |= found
        against = {}
        if asked.yardstick:
            against[asked.yardstick] = bench.scores(asked.yardstick, samples=asked.yardstick_samples)
        results.scores |= against
    for name, scores in results.scores.items():
        by_depth = [one.score for one in scores.layers]
        third = max(1, len(by_depth) // 3)
        for one in scores.layers:
            results.add("score", name, one.layer, one.score)
        results.add("score", name, "last", by_depth[-1])
        if early := fmean(by_depth[:third]):
            results.add("fall", name, "late over early", fmean(by_depth[-third:]) / early)
        for other, its in results.scores.items():
            if other == name:
                continue
            pair = agree(scores, its)
            if other in against and pair.spearman is not None:
                low, high = spearman_ends(pair.spearman, len(by_depth)) or (None, None)
                results.add("spearman", name, other, Figure(value=pair.spearman, low=low, high=high))
            for overlap in pair.overlaps:
                shared = float(len(overlap.shared))
                results.add("shared", f"{name}+{other}", overlap.count, shared)
                results.add("share", f"{name}+{other}", f"{overlap.share:.0%}", shared / overlap.count)
                results.add("first", name, overlap.count, float(min(scores.ranking[: overlap.count])))
    if asked.bound:
        _bound(bench, results, protocol)


def _bound(bench: Workbench, results: Results, protocol: Mapping[str, Any]) -> None:
    def measure() -> RankingComparison:
        with bench.bars("both sides of the bound", "steps") as progress:
            how: dict[str, Any] = {"calibration": bench.calibration(), "bound": True, "progress": progress}
            return api.compare(bench.session, ("gate-norm", "depth"), **how)

    with results.part("the bound", bench, protocol):
        key = {"bound": protocol, "tokens": source_key(bench.recipe.calibration.source)}
        found = bench.once(key, RankingComparison, measure).bound
    assert found is not None
    for one in found.layers:
        results.add("loose", "limit over seen", one.layer, one.looseness[0])
        results.add("vacuous", "share of heads", one.layer, one.vacuous / len(one.logits))
    heads = sum(len(one.logits) for one in found.layers)
    results.add("vacuous", "share of heads", "all", sum(one.vacuous for one in found.layers) / heads)


def removal(asked: Removal, bench: Workbench, results: Results) -> None:
    """Of every evaluation its figures by criterion and count; ``rise`` is that of the loss, in nats a token.

    A random figure is the mean over the draws (of perplexities that of the mean loss), its ends the least and the
    largest of them. ``beats`` is the share of draws that raise the loss more than a criterion does, with the interval
    that so few draws leave: a few of them without a vital layer make their mean say little.
    """
    protocol = {"evaluations": [f"{one.task}, limit {one.limit}{', spread' * one.spread}" for one in asked.evaluations]}
    with results.part("removal", bench, protocol):
        kind = None if asked.kind == "attention" else asked.kind
        chosen = {name: bench.scores(name, kind=kind) for name in asked.criteria}
        drawn = {f"{RANDOM} {n}": bench.scores(RANDOM, seed=n, kind=kind) for n in range(asked.random_draws)}
        results.scores |= chosen
        before = bench.evaluated(Edits(), asked.evaluations)
        _figures(UNPRUNED, 0, before, before, results)
        for name, scores in (chosen | drawn).items():
            points = [Point(layers=(), perplexity=_perplexity(before))] if _perplexity(before) else []
            for count in asked.counts:
                gone = scores.ranking[:count]
                after = bench.evaluated(Edits.of(asked.kind, gone), asked.evaluations)
                _figures(name, count, before, after, results)
                if _perplexity(after):
                    points.append(Point(layers=gone, perplexity=_perplexity(after)))
            if points:
                (results.band if name in drawn else results.lines).append(Line(name=name, points=tuple(points)))
    if drawn:
        _merge_draws(list(drawn), asked.counts, results)


def _merge_draws(draws: Sequence[str], counts: Sequence[int], results: Results) -> None:
    """The mean of the draws in their place, item by item too, and the share of them that each ranking beats."""
    for count in counts:
        parts = {split(name): figure.value for name, figure in results.figures.items()}
        rises = {ranking: value for (what, ranking, at), value in parts.items() if (what, at) == ("rise", str(count))}
        for ranking in (name for name in rises if name not in draws):
            results.add(
                "beats", ranking, count, _share(sum(rises[draw] > rises[ranking] for draw in draws), len(draws))
            )
        for what in dict.fromkeys(name.partition("/")[0] for name in list(results.figures)):
            names = [f"{what}/{name}/{count}" for name in draws]
            known = [one.value for name in names if (one := results.figures.pop(name, None)) is not None]
            if known:
                mean = geometric_mean(known) if what == "perplexity" else fmean(known)
                results.add(what, RANDOM, count, Figure(value=mean, low=min(known), high=max(known)))
            items = [own for name in names if (own := results.items.pop(name, None)) is not None]
            if items:
                merged = ((fmean(value for value, _ in column), column[0][1]) for column in zip(*items, strict=True))
                results.items[f"{what}/{RANDOM}/{count}"] = tuple(merged)


def _share(hits: int, of: int) -> Figure:
    """A share with the exact 95% interval of a proportion (Clopper and Pearson, 1934)."""
    from scipy.stats import binomtest

    ends = binomtest(hits, of).proportion_ci(0.95)
    return Figure(value=hits / of, low=float(ends.low), high=float(ends.high))


def _perplexity(records: Sequence[Evidence]) -> float:
    return next((one.perplexity for one in records if isinstance(one, Perplexity)), 0.0)


def _figures(ranking: str, count: int, before: Sequence[Evidence], after: Sequence[Evidence], results: Results) -> None:
    """The figures of one pruned model's records; of shares and losses the items too."""
    pooled: dict[str, list[tuple[float, float]]] = {}
    for base, record in zip(before, after, strict=True):
        if isinstance(record, Perplexity) and isinstance(base, Perplexity):
            losses = [(item.metrics["nll"], item.weight) for item in record.items]
            rises = [a - item.metrics["nll"] for (a, _), item in zip(losses, base.items, strict=True)]
            results.add("perplexity", ranking, count, record.perplexity)
            if count:
                results.add("rise", ranking, count, bootstrap(rises, [weight for _, weight in losses]))
                results.items[f"rise/{ranking}/{count}"] = tuple(zip(rises, (w for _, w in losses), strict=True))
        elif isinstance(record, ZeroShotAverage):
            results.add(record.kind, ranking, count, record.average)
        elif isinstance(record, TaskEvidence) and record.headline:
            results.add(f"{record.kind}:{record.task}", ranking, count, record.metrics[record.headline])
            for metric in (record.headline, "log_probability"):
                own = [(item.metrics[metric], 1.0) for item in record.items if metric in item.metrics]
                called = record.kind if metric == record.headline else f"{record.kind} nats"
                pooled.setdefault(called, []).extend(own)
    for what, own in pooled.items():
        if own:
            results.add(what, ranking, count, bootstrap([value for value, _ in own]))
            results.items[f"{what}/{ranking}/{count}"] = tuple(own)


def speed(asked: Speed, bench: Workbench, results: Results) -> None:
    """``prefill`` and ``decode`` speed-ups, times as fast, by count and prompt length, and the ``ideal`` ones."""
    layout, threads = bench.session.layout, threads_at_hand()
    protocol = {"engine": asked.engine, "new tokens": asked.new_tokens, "rounds": asked.rounds, "threads": threads}

    def measure() -> Measurements:
        models = [bench.pruned(layers) for layers in gone]
        bench.session.release()
        how: dict[str, Any] = {"device": bench.session.model.device, "dtype": bench.session.model.dtype}
        how |= {"engine": asked.engine, "new_tokens": asked.new_tokens, "rounds": asked.rounds}
        with bench.bars("timing in turns", "tokens") as progress:
            return Measurements(api.bench(models, layout, lengths=asked.lengths, progress=progress, **how))

    with results.part("speed", bench, protocol):
        ranking = bench.scores(asked.criterion).ranking
        gone = [ranking[:count] for count in asked.counts]
        key = {"speed": gone, "lengths": asked.lengths, **protocol}
        timed = bench.once(key, Measurements, measure)
    for record in timed:
        if isinstance(record, Timing) and record.compared:
            count = len(record.edits.attention)
            for phase in ("prefill", "decode"):
                own, at = record.phase(phase), f"{count} at {record.protocol.prompt_tokens}"
                if own.speedup is not None:
                    ends = {"low": own.speedup.low, "high": own.speedup.high}
                    results.add(phase, asked.criterion, at, Figure(value=own.speedup.median, **ends))
                if own.ideal is not None:
                    results.add(f"{phase} ideal", asked.criterion, at, own.ideal)


def recovery(asked: Recovery, bench: Workbench, results: Results) -> None:
    """Held-out perplexity of the whole model, ``pruned`` and ``recovered``, by criterion and count; accuracy in tasks.

    ``won back`` is the share of the lost log-perplexity. ``boundary`` is the largest count up to which recovery works
    at every count, for perplexity and each task; 0 where it works at none.
    """
    layout = bench.session.layout
    shares = [count / len(layout.removable(ATTENTION)) for count in asked.counts]
    model = bench.session.model
    settings = Settings(
        steps=asked.steps,
        objective=asked.objective,
        batch=asked.batch,
        length=asked.length,
        watch_every=min(100, asked.steps),  # of a trial
        watch_windows=min(64, asked.steps),
        device=model.device,
        dtype=model.dtype,
    )
    train, held_out = bench.recipe.calibration.source, bench.recipe.text
    measured = {"tasks": asked.tasks, "task_data": bench.task_data(asked.tasks), "limit": asked.limit}
    bench.session.release()
    # A study goes on in its directory, and refuses one of other settings or of another release.
    key = digest([train, held_out, to_json(asked), to_json(settings), measured, code_sha256()])
    where = bench.directory / f"{bench.content[:12]}-recovery-{key[:8]}"
    where.parent.mkdir(parents=True, exist_ok=True)
    with (
        results.part("recovery", bench, {"trained on": train, **to_json(asked), "dtype": settings.dtype}),
        bench.bars("training", "steps") as progress,
    ):
        trained: list[str] = []
        total = len(shares) * len(asked.criteria) * settings.steps

        def report(variant: str) -> Report:
            before = len(trained) * settings.steps
            trained.append(variant)
            return lambda step: progress(before + step.step, total)

        how: dict[str, Any] = {"settings": settings, "held_out": held_out, "report": report, **measured}
        found = api.recovery_study(layout, where, train, shares, asked.criteria, **how)
        bench.made += len(trained)
        bench.kept += len(found.variants) - len(trained)
    results.add("recovered", UNPRUNED, 0, found.dense.held_out)
    for task, accuracy in found.dense.tasks.items():
        results.add(f"{task} recovered", UNPRUNED, 0, accuracy)
    for one in found.variants:
        if one.won_back is not None:
            results.add("won back", one.criterion, len(one.removed), one.won_back)
        for what, own in (("pruned", one.before), ("recovered", one.after)):
            results.add(what, one.criterion, len(one.removed), own.held_out)
            for task, accuracy in own.tasks.items():
                results.add(f"{task} {what}", one.criterion, len(one.removed), accuracy)
    for criterion, count in found.boundary.items():
        results.add("boundary", criterion, "perplexity", float(count or 0))
        for task in found.tasks:
            results.add("boundary", criterion, task, float(found.task_boundary(criterion, task) or 0))

"""Scores as a table with bars."""

import shlex
from collections.abc import Iterable
from pathlib import Path

from rich.table import Table
from rich.text import Text

from gatenorm.analysis.agreement import label
from gatenorm.analysis.comparison import PRACTICAL
from gatenorm.analysis.diagnostics import Cluster
from gatenorm.cli import console
from gatenorm.cli.tables import table
from gatenorm.criteria.registry import criterion
from gatenorm.families import Layout
from gatenorm.records import ANY, ATTENTION, NAMES, SINGULAR, Edit, Scores, spans
from gatenorm.records.numbers import quantity
from gatenorm.records.rankings import CrossCheck, SublayerRanking
from gatenorm.surgery.operation import treatments
from gatenorm.surgery.planning import count_for_share

_BAR = 40


def show(
    scores: Scores,
    layout: Layout,
    cluster: Cluster,
    checked: CrossCheck | None,
    plot: Path | None,
    model: str,
    options: list[str],
) -> None:
    """The scores of every layer, whether the weak ones are late, where other criteria disagree, and what to do next.

    Args:
        model: as it was named, for the command that comes next; ``options`` say there how it was ranked.
    """
    console.print_table(_scores_table(scores, set(cluster.members), layout))
    console.say(
        f"{_work(scores)}; weakest first: "
        + ", ".join(map(str, scores.ranking[:10]))
        + (", ..." if len(scores.ranking) > 10 else "")
    )
    if layout.edits.mlp and scores.kind == "block":
        console.say("layers that have lost one of the two sublayers are no blocks any more and have no score")
    verdict = "a clear cluster of weak late layers" if cluster else "no clear cluster of weak late layers"
    console.say(f"{verdict}: {cluster.reason}")
    for layers in scores.ties:
        console.say(f"tied: the scores of layers {spans(sorted(layers))} differ by no more than their numerical error")
    console.say_each("note", scores.notes)
    if checked:
        show_cross_check(checked)
    if scores.calibration is None:
        console.say(
            "A weight-only score is a heuristic: check the pruned model on text of your own before you trust it"
            + ("." if checked else ", or begin with --cross-check.")
        )
    _say_next(model, len(scores.layers), options, scores.kind)
    if plot:
        console.say(f"plot: {plot}")


def _say_next(model: str, sublayers: int, options: list[str], kind: str) -> None:
    """The command that removes the weakest fifth."""
    count, path = count_for_share(PRACTICAL, sublayers), Path(model)
    ending = path.suffix if path.suffix == ".gguf" else ""
    of_kind = ["--kind", kind] if kind != ATTENTION else []
    out = f"{path.name.removesuffix(ending)}-{count}{ending}"
    command = shlex.join(["gatenorm", "prune", model, "--layers", str(count), *options, *of_kind, "-o", out])
    console.say_whole(f"What removes the {f'{count} weakest' if count > 1 else 'weakest'}: {command}")


def show_both(ranking: SublayerRanking, model: str, options: list[str]) -> None:
    """Attention and MLP sublayers in one table, by damage for the time that they save; see :func:`show`."""
    scores = ranking.scores
    rows = table(
        f"{scores.model.name}: {label(scores)} of both kinds, for what is saved on {ranking.machine}, "
        f"{ranking.context:,} tokens, batch {ranking.batch}",
        *(">rank", ">layer", "sublayer", "operation", ">damage", ">prefill", ">decode", ">cache"),
        *(">per 1% time", ">per 1% cache"),
    )
    for rank, one in enumerate(ranking.sublayers, start=1):
        rows.add_row(
            *(str(rank), str(one.edit.layer), NAMES[one.edit.sublayer], one.edit.operation, f"{one.damage:.4g}"),
            *(f"{share:.2%}" for share in (one.prefill, one.decode, one.cache)),
            *("-" if ratio is None else f"{ratio:.4g}" for ratio in (one.per_time, one.per_cache)),
        )
    console.print_table(rows, "rank", "operation", "prefill", "decode")
    console.say(
        "prefill, decode, cache: the shares that are saved; then damage for 1% of the time of both, and of the cache"
    )
    _say_next(model, len(ranking.sublayers), options, ANY)


def show_cross_check(checked: CrossCheck) -> None:
    """Where the criteria disagree, in a few lines."""
    console.say(f"cross-check of {quantity(checked.count, 'layer')} that {label(checked.scores)} would remove first:")
    for agreement, dispute in zip(checked.agreements, checked.disputes, strict=True):
        shared = checked.count - len(dispute.only_scores)
        correlation = "-" if agreement.spearman is None else f"{agreement.spearman:+.2f}"
        line = f"  {dispute.check}: {shared} of {checked.count} shared, rank correlation {correlation}"
        if dispute.only_scores:
            line += f"; would keep {spans(dispute.only_scores)} and remove {spans(dispute.only_check)} instead"
        console.say(line)
    console.say_each("warning", (warning.message for warning in checked.warnings))


def _work(scores: Scores) -> str:
    """What it took: bytes of weights, or forward passes and what came before them."""
    if scores.calibration is None:
        return f"read {console.bytes_for_people(scores.bytes_read)} in {scores.seconds:.2f} s"
    took = scores.calibration.seconds
    parts = {"loading the model": took.loading, "drawing tokens": took.drawing}
    before = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in parts.items() if seconds)
    return f"forward passes took {took.passes:.2f} s" + (f" ({before})" if before else "")


def _scores_table(scores: Scores, cluster: set[int], layout: Layout) -> Table:
    summary = criterion(scores.criterion).summary
    what = "" if scores.kind == ATTENTION else f" of {SINGULAR[scores.kind]}s"
    rows = table(f"{scores.model.name}: {label(scores)}{what} ({summary})", ">layer", ">score", ">rank")
    rows.add_column("0 to the largest score", min_width=_BAR)
    by_layer = scores.by_layer
    largest = max(by_layer.values()) or 1.0
    tied = {layer for layers in scores.ties for layer in layers}
    rank = {layer: f"{place}{'=' if layer in tied else ''}" for place, layer in enumerate(scores.ranking, start=1)}
    for layer in range(layout.layers):
        if layer not in by_layer:
            rows.add_row(str(layer), "-", "-", Text(_without_score(layout.edits.at(layer)), style="dim"))
            continue
        length = max(0.0, by_layer[layer]) / largest * _BAR
        style = "yellow" if layer in cluster else "cyan"
        mark = " weak" if layer in cluster else ""
        rows.add_row(str(layer), f"{by_layer[layer]:.5g}", rank[layer], Text(_bar(length) + mark, style=style))
    return rows


def _without_score(edits: Iterable[Edit]) -> str:
    """Why a layer has no score: what happened to its sublayers, such as ``attention and MLP removed``."""
    edited: dict[str, list[str]] = {}
    for sublayer, participle in treatments(edits):
        edited.setdefault(participle, []).append(NAMES[sublayer])
    return ", ".join(f"{' and '.join(names)} {participle}" for participle, names in edited.items()) or "another mixer"


def _bar(length: float) -> str:
    """A bar of ``length`` characters to an eighth of one; never empty, so that the smallest can be seen."""
    eighths = max(1, round(length * 8))
    return "█" * (eighths // 8) + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[eighths % 8]

"""Records as rows of a table for spreadsheets: a figure a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from gatenorm.records import Evidence, Scores
from gatenorm.records.rankings import SublayerRanking

Row = Mapping[str, object]


def score_rows(scores: Scores) -> Iterator[Row]:
    """A row for each layer; rank 1 is removed first."""
    rank = {layer: n for n, layer in enumerate(scores.ranking, 1)}
    for one in scores.layers:
        yield {"layer": one.layer, "score": one.score, "rank": rank[one.layer]}


def cost_rows(ranking: SublayerRanking) -> Iterator[Row]:
    """A row for each sublayer of both kinds, in the order in which they would be edited."""
    for one in ranking.sublayers:
        saved = {"prefill": one.prefill, "decode": one.decode, "cache": one.cache}
        ratios = {"damage_per_time": one.per_time, "damage_per_cache": one.per_cache}
        about = {"layer": one.edit.layer, "sublayer": one.edit.sublayer, "operation": one.edit.operation}
        yield {**about, "damage": one.damage, **saved, **ratios}


def evidence_rows(records: Iterable[Evidence]) -> Iterator[Row]:
    """A row for each figure of each measurement, under the names that ``--json`` has for them."""
    for record in records:
        about = {"model": record.model.name, "measured": record.kind, "task": record.task, "data": record.data.name}
        if record.kind in ("speed", "profile"):
            case = record.facts()
            about["data"] = f"{case['prompt_tokens']} tokens, batch {case['batch']}"
        for name, value in record.numbers().items():
            yield {**about, "figure": name, "value": value}

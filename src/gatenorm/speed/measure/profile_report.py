"""``gatenorm profile``: what attention and MLP take of time, weights, FLOPs and cache, as evidence."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from gatenorm.engines import Case, Setting, SkippedError
from gatenorm.engines.transformers.profiler import PassTimes
from gatenorm.families import Layout
from gatenorm.models.architecture import Architecture, Work
from gatenorm.progress import Progress
from gatenorm.records.evidence import Data, Profile, ProfiledPhase
from gatenorm.speed.measure.bench import described

if TYPE_CHECKING:
    from gatenorm.engines.transformers.timed import TransformersTimed


def profile_model(layout: Layout, setting: Setting, rounds: int = 3, progress: Progress | None = None) -> list[Profile]:
    """Profile every case of ``setting`` on a model in transformers: one warm-up, then ``rounds`` runs.

    Args:
        progress: called with (runs done, runs).

    Returns:
        A record for each case; one that does not fit says so.

    Raises:
        CheckpointError, MissingExtraError: the model cannot be loaded.
    """
    from gatenorm.engines.transformers.timed import TransformersTimed

    session = TransformersTimed.of_directory(Path(layout.checkpoint.directory), setting)
    profiles: list[Profile] = []
    done, total = 0, len(setting.cases) * (1 + rounds)

    def count() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, total)

    try:
        for case in setting.cases:
            profiles.append(_one(session, layout, setting, case, rounds, count))
    finally:
        session.close()
    return profiles


def _one(
    session: TransformersTimed, layout: Layout, setting: Setting, case: Case, rounds: int, count: Callable[[], None]
) -> Profile:
    began, skipped, runs = time.perf_counter(), None, []
    try:
        for _ in range(1 + rounds):
            runs.append(session.profiles(case))
            count()
    except SkippedError as reason:
        skipped = str(reason)
    profile = Profile(
        model=layout.identity(),
        edits=layout.edits,
        protocol=described(
            case,
            setting,
            engine="transformers",
            dtype=session.dtype,
            rounds=rounds,
            warmups=1,
            instrument="hooks around blocks, attention and MLP; what neither claims is halved between them",
        ),
        data=Data(name="random tokens", seed=setting.seed),
        versions=dict(session.versions),
        skipped=skipped,
    )
    if not skipped:
        counted = Architecture.of(layout)
        cache = counted.cache_bytes(case.tokens, case.batch, session.itemsize)
        weights, of_prefill = count_shares(counted, Work.prefill(case.tokens, case.batch))
        _, of_decode = count_shares(counted, Work.decode(case.tokens, case.batch))
        profile = replace(
            profile,
            prefill=profiled([run[0] for run in runs[1:]], of_prefill),
            decode=profiled([run[1] for run in runs[1:]], of_decode),
            attention_weights_share=weights,
            cache_bytes=cache,
            cache_bytes_per_layer=cache / len(counted.attention),
        )
    return replace(profile, seconds=time.perf_counter() - began)


def profiled(passes: Sequence[PassTimes], flops_share: float) -> ProfiledPhase:
    """One phase: medians over its passes."""
    attention = statistics.median(sum(p.attention.values()) for p in passes)
    mlp = statistics.median(sum(p.mlp) for p in passes)
    first, blocks = passes[0], range(len(passes[0].mlp))
    return ProfiledPhase(
        attention_seconds=attention,
        mlp_seconds=mlp,
        outer_seconds=statistics.median(p.outer for p in passes),
        attention_over_mlp=(attention / len(first.attention)) / (mlp / len(first.mlp)),
        attention_flops_share=flops_share,
        attention_by_layer=tuple(
            statistics.median(p.attention[i] for p in passes) if i in first.attention else None for i in blocks
        ),
        mlp_by_layer=tuple(statistics.median(p.mlp[i] for p in passes) for i in blocks),
    )


def count_shares(counted: Architecture, work: Work) -> tuple[float, float]:
    """Attention's share of all parameters, and of the FLOPs of one pass."""
    tokens = work.tokens * work.batch
    attention = sum(counted.attention_flops(layer, work) for layer in counted.attention)
    others = sum(part.flops(tokens) for part in (*counted.mlp, *counted.replaced.values(), counted.around))
    others += counted.head.flops(work.batch)
    weights = sum(part.parameters for part in counted.attention.values())
    return weights / counted.parameters, attention / (attention + others)

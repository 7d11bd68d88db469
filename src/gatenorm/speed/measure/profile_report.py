"""``gatenorm profile``: what attention and MLP take of time, weights, FLOPs and cache, as evidence.

One record for each case, with figures for the two phases (``prefill_...``, ``decode_...``):

``attention_seconds``, ``mlp_seconds``, ``outer_seconds``, ``total_seconds``   of all layers; medians over the rounds
``attention_share``                              of the time
``attention_over_mlp``                           mean attention over mean MLP sublayer
``attention_flops_share``                        of all FLOPs, with the pairs that a causal mask leaves

and for the model ``attention_weights_share``, ``cache_bytes``, ``cache_bytes_per_layer``. Seconds by layer lie under
``data``.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatenorm.engines import Case, Setting, SkippedError
from gatenorm.engines.transformers.profiler import Profile
from gatenorm.families import Layout
from gatenorm.models.architecture import Architecture, Work
from gatenorm.records.evidence import Measurement

if TYPE_CHECKING:
    from gatenorm.engines.transformers.timed import TransformersTimed

KIND = "profile"


def breakdown(
    layout: Layout, setting: Setting, rounds: int = 3, progress: Callable[[int, int], None] | None = None
) -> list[Measurement]:
    """Profile every case of ``setting`` on a model in transformers: one warm-up, then ``rounds`` runs.

    Args:
        progress: called with (runs done, runs).

    Returns:
        A record for each case; one that does not fit has the reason under ``protocol.skipped``.

    Raises:
        CheckpointError, MissingExtraError: the model cannot be loaded.
    """
    from gatenorm.engines.transformers.timed import TransformersTimed

    session = TransformersTimed.of_directory(Path(layout.checkpoint.directory), setting)
    found: list[Measurement] = []
    done, total = 0, len(setting.cases) * (1 + rounds)

    def count() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, total)

    try:
        for case in setting.cases:
            found.append(_one(session, layout, setting, case, rounds, count))
    finally:
        session.close()
    return found


def _one(
    session: TransformersTimed, layout: Layout, setting: Setting, case: Case, rounds: int, count: Callable[[], None]
) -> Measurement:
    began, skipped, runs = time.perf_counter(), None, []
    try:
        for _ in range(1 + rounds):
            runs.append(session.profiles(case))
            count()
    except SkippedError as reason:
        skipped = str(reason)
    prefill, decode = [run[0] for run in runs[1:]], [run[1] for run in runs[1:]]
    figures = {} if skipped else _figures(Architecture.of(layout), case, session.itemsize, prefill, decode)
    return Measurement(
        noun=KIND,
        model=layout.identity(),
        edits=layout.edits,
        figures=figures,
        protocol=_described(case, setting, rounds, session.dtype, skipped),
        data={
            "name": "random tokens",
            "seed": setting.seed,
            "layers": {} if skipped else {"prefill": _layers(prefill), "decode": _layers(decode)},
        },
        seconds=time.perf_counter() - began,
        versions=dict(session.versions),
    )


def time_figures(profiles: Sequence[Profile]) -> dict[str, float]:
    """The parts of one phase, medians over its profiles; ``attention_share`` is of the sum of the parts."""
    attention = statistics.median(sum(p.attention.values()) for p in profiles)
    mlp = statistics.median(sum(p.mlp) for p in profiles)
    outer = statistics.median(p.outer for p in profiles)
    layers, blocks = len(profiles[0].attention), len(profiles[0].mlp)
    return {
        "attention_seconds": attention,
        "mlp_seconds": mlp,
        "outer_seconds": outer,
        "total_seconds": attention + mlp + outer,
        "attention_share": attention / (attention + mlp + outer),
        "attention_over_mlp": (attention / layers) / (mlp / blocks),
    }


def count_shares(counted: Architecture, work: Work) -> tuple[float, float]:
    """Attention's share of all parameters, and of the FLOPs of one pass."""
    tokens = work.tokens * work.batch
    attention = sum(counted.attention_flops(layer, work) for layer in counted.attention)
    others = sum(part.flops(tokens) for part in (*counted.mlp, counted.around)) + counted.head.flops(work.batch)
    weights = sum(part.parameters for part in counted.attention.values())
    return weights / counted.parameters, attention / (attention + others)


def _figures(
    counted: Architecture, case: Case, itemsize: int, prefill: Sequence[Profile], decode: Sequence[Profile]
) -> dict[str, float]:
    cache = counted.cache_bytes(case.tokens, case.batch, itemsize)
    works = {"prefill": Work.prefill(case.tokens, case.batch), "decode": Work.decode(case.tokens, case.batch)}
    shares = {phase: count_shares(counted, work) for phase, work in works.items()}
    figures: dict[str, float] = {
        "attention_weights_share": shares["prefill"][0],
        "cache_bytes": cache,
        "cache_bytes_per_layer": cache / len(counted.attention),
    }
    for phase, profiles in (("prefill", prefill), ("decode", decode)):
        figures |= {f"{phase}_{name}": value for name, value in time_figures(profiles).items()}
        figures[f"{phase}_attention_flops_share"] = shares[phase][1]
    return figures


def _layers(profiles: Sequence[Profile]) -> dict[str, Any]:
    """Seconds of each layer, medians over the runs."""
    first = profiles[0]
    return {
        "attention": {str(i): statistics.median(p.attention[i] for p in profiles) for i in first.attention},
        "mlp": [statistics.median(p.mlp[i] for p in profiles) for i in range(len(first.mlp))],
    }


def _described(case: Case, setting: Setting, rounds: int, dtype: str, skipped: str | None) -> dict[str, Any]:
    described = {
        "engine": "transformers",
        "prompt_tokens": case.tokens,
        "batch": case.batch,
        "new_tokens": case.new,
        "rounds": rounds,
        "warmups": 1,
        "instrument": "hooks around blocks, attention and MLP; what neither claims is halved between them",
        "device": setting.device,
        "dtype": dtype,
        "threads": setting.threads,
        **({"attention": setting.attention} if setting.attention else {}),
    }
    return described | ({"skipped": skipped} if skipped else {})

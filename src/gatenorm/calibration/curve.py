"""Perplexity by number of removed sublayers for several rankings, beside the band of random ones.

One loaded model, from which layers are taken and put back; a set of layers that several rankings lead to is measured
once. What is measured goes to a state file at once, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gatenorm.calibration.agreement import label
from gatenorm.calibration.laboratory import Laboratory
from gatenorm.calibration.removal_effects import Loss, loss_on
from gatenorm.calibration.requests import Request, score_requests
from gatenorm.calibration.sources import Samples
from gatenorm.calibration.statistics import Progress
from gatenorm.calibration.warnings import curve_signatures, weakest
from gatenorm.criteria import score as score_weights
from gatenorm.errors import CalibrationError, EvaluationError, OutputError
from gatenorm.evaluation.perplexity import Protocol, encode
from gatenorm.evaluation.text import Text
from gatenorm.records import FailureSignature, ModelIdentity, Scores, read_json

CURVE_SCHEMA = "gatenorm/curve/1"
STATE_SCHEMA = "gatenorm/curve-state/1"
RANDOM_BAND = "random"
_NLL = "nll"

Figures = dict[str, float]
Measure = Callable[[Any], float]


@dataclass(frozen=True)
class Line:
    """One ranking's perplexities, by number of removed sublayers, and the layers that each number means.

    ``figures`` holds what else was measured, by name and number.
    """

    name: str
    removed: Mapping[int, tuple[int, ...]]
    perplexity: Mapping[int, float]
    figures: Mapping[str, Mapping[int, float]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        points = [
            {"removed": n, "layers": sorted(self.removed[n]), "perplexity": self.perplexity[n]}
            | {name: values[n] for name, values in self.figures.items()}
            for n in sorted(self.perplexity)
        ]
        return {"name": self.name, "points": points}


@dataclass(frozen=True)
class Curve:
    """Lines of the rankings, those of the random draws, and what they warn of."""

    model: ModelIdentity
    lines: tuple[Line, ...]
    band: tuple[Line, ...]
    warnings: tuple[FailureSignature, ...]
    protocol: Mapping[str, Any]
    data: Mapping[str, Any]
    seconds: float
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def counts(self) -> tuple[int, ...]:
        return tuple(sorted(self.lines[0].perplexity))

    def spread(self) -> dict[int, tuple[float, float, float]]:
        """Least, geometric mean and largest perplexity of the random draws, by number of removed sublayers."""
        found = {}
        for count in self.counts if self.band else ():
            values = [line.perplexity[count] for line in self.band]
            mean = math.exp(math.fsum(map(math.log, values)) / len(values))
            found[count] = (min(values), mean, max(values))
        return found

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": CURVE_SCHEMA,
            "model": self.model.to_json(),
            "lines": [line.to_json() for line in self.lines],
            "random": [line.to_json() for line in self.band],
            "warnings": [warning.to_json() for warning in self.warnings],
            "protocol": dict(self.protocol),
            "data": dict(self.data),
            "seconds": self.seconds,
            "versions": dict(self.versions),
        }


def evaluation_samples(laboratory: Laboratory, text: Text, protocol: Protocol) -> Samples:
    """A text as the sequences that perplexity is taken on, by the protocol of ``gatenorm eval``.

    Raises:
        CalibrationError: the model has no tokenizer.
        EvaluationError: a text shorter than one window, or tokens outside the vocabulary.
    """
    if laboratory.tokenizer is None:
        raise CalibrationError(f"{laboratory.layout.checkpoint.directory} has no tokenizer that can be read")
    sequences, described = encode(laboratory.tokenizer, text, protocol, laboratory.config)
    return Samples(tuple(map(tuple, sequences)), described, protocol.batch_size)


def curve(
    laboratory: Laboratory,
    asked: Sequence[Request | Scores],
    text: Text,
    protocol: Protocol,
    counts: Sequence[int],
    *,
    seeds: int = 5,
    measures: Mapping[str, Measure] | None = None,
    state: Path | None = None,
    progress: Progress | None = None,
) -> Curve:
    """Measure perplexity without the ``n`` weakest sublayers, for every ``n`` in ``counts`` and every ranking.

    Args:
        asked: the rankings, as requests for them or as scores of the laboratory's model; what can be wrong with the
            text, the counts or the state file is said before any is made.
        counts: numbers of removed sublayers; 0 is measured whether named or not.
        seeds: how many random rankings make the band.
        measures: what else to measure of every pruned model, by name: a function of the model, run without a key/value
            cache, that gives a number, such as a task's accuracy.
        state: a JSON file that keeps what was measured; goes on from it where it exists.
        progress: called with (perplexities known, perplexities to know).

    Raises:
        EvaluationError: a count that leaves no attention, a state file of another curve, logits that are not finite.
        OutputError: the state file cannot be written.
    """
    from gatenorm.runtimes.transformers import versions

    began = time.perf_counter()
    layers = laboratory.layout.attention_layers
    numbers = sorted({0, *counts})
    if numbers[0] < 0 or numbers[-1] >= len(layers):
        raise EvaluationError(
            f"a curve to {numbers[-1]} removed sublayers: the model has {len(layers)}, and one must stay"
        )
    samples = evaluation_samples(laboratory, text, protocol)
    measures = measures or {}
    memory = _Memory(state, laboratory, text, samples, sorted(measures))
    rankings = _rankings(laboratory, asked, progress)
    drawn = [score_weights(laboratory.layout, "random", seed=seed) for seed in range(seeds)]
    sets = {frozenset(weakest(s, n)) for s in (*rankings, *drawn) for n in numbers}
    stated = {**samples.protocol, "dtype": laboratory.computes_in, "device": laboratory.device, "counts": numbers}
    missing = sorted((s for s in sets if s not in memory.known), key=lambda s: (len(s), sorted(s)))
    loss: Loss | None = None
    for n, layers_gone in enumerate(missing):
        if progress:
            progress(len(sets) - len(missing) + n, len(sets))
        loss = loss or loss_on(laboratory.removable, samples)
        found = {_NLL: loss(layers_gone)}
        with laboratory.removable.without(layers_gone) as model:
            found |= {name: measure(model) for name, measure in measures.items()}
        memory.keep(layers_gone, found)
    if progress:
        progress(len(sets), len(sets))
    lines = [_line(label(s), s, numbers, memory.known) for s in rankings]
    band = [_line(f"{RANDOM_BAND} {s.seed}", s, numbers, memory.known) for s in drawn]
    return Curve(
        model=laboratory.layout.identity(),
        lines=tuple(lines),
        band=tuple(band),
        warnings=tuple(w for line in lines for w in curve_signatures(line.name, line.perplexity)),
        protocol=stated,
        data=text.identity(),
        seconds=time.perf_counter() - began,
        versions=versions(),
    )


def _rankings(laboratory: Laboratory, asked: Sequence[Request | Scores], progress: Progress | None) -> Sequence[Scores]:
    wanted = [one for one in asked if isinstance(one, Request)]
    made = iter(score_requests(laboratory, wanted, progress=progress))
    return [next(made) if isinstance(one, Request) else one for one in asked]


def _line(name: str, scores: Scores, counts: Sequence[int], known: Mapping[frozenset[int], Figures]) -> Line:
    removed = {n: tuple(weakest(scores, n)) for n in counts}
    found = {n: known[frozenset(gone)] for n, gone in removed.items()}
    others = {key for figures in found.values() for key in figures} - {_NLL}
    figures = {key: {n: figures[key] for n, figures in found.items()} for key in sorted(others)}
    return Line(name, removed, {n: _perplexity(figures[_NLL]) for n, figures in found.items()}, figures)


def _perplexity(nll: float) -> float:
    return math.exp(nll) if nll < 700 else math.inf


class _Memory:
    """What was measured, in a file if one is named; a file of another model, text or protocol is refused."""

    def __init__(
        self, path: Path | None, laboratory: Laboratory, text: Text, samples: Samples, measures: Sequence[str]
    ):
        self.path = path
        self.known: dict[frozenset[int], Figures] = {}
        identity = laboratory.layout.identity().to_json() | {"name": None}
        how = {**samples.protocol, "dtype": laboratory.computes_in, "device": laboratory.device}
        # Through JSON and back, so that it compares with what was read.
        key = {"model": identity, "data": text.identity(), "protocol": how, "measures": list(measures)}
        self.key: dict[str, Any] = json.loads(json.dumps(key))
        if path is None or not path.exists():
            return
        found = read_json(path, "--state")
        if found.get("schema") != STATE_SCHEMA or found.get("key") != self.key:
            raise EvaluationError(
                f"--state {path} holds another curve's measurements (model, text or protocol differ): name another file"
            )
        try:
            for entry in found["measured"]:
                figures = {str(name): float(value) for name, value in entry["figures"].items()}
                self.known[frozenset(entry["removed"])] = figures | {_NLL: figures[_NLL]}
        except (KeyError, TypeError, ValueError, AttributeError):
            raise EvaluationError(f"--state {path} is damaged: delete it, or name another file") from None

    def keep(self, removed: frozenset[int], figures: Figures) -> None:
        self.known[removed] = figures
        if self.path is None:
            return
        measured = [{"removed": sorted(gone), "figures": found} for gone, found in self.known.items()]
        temporary = self.path.with_name(f".partial-{os.getpid()}-{self.path.name}"[:255])
        try:
            temporary.write_text(json.dumps({"schema": STATE_SCHEMA, "key": self.key, "measured": measured}) + "\n")
            temporary.replace(self.path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise OutputError(f"--state {self.path} could not be written: {error.strerror}") from None

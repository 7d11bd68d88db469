"""What is left by number of removed sublayers, for several rankings beside the band of random ones.

Perplexity always; tasks, speed and functions of the model where they are asked for, along the rankings alone. One
loaded model, whose tensors every pruned one shares; a set of layers that several rankings lead to is measured once.
What is measured goes to a state file at once, so that a run that was stopped goes on where it was.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from msgspec.structs import replace

from gatenorm.analysis.agreement import label
from gatenorm.analysis.curve_metrics import FunctionProbe, Measure, Probe, TaskProbe, check_probes
from gatenorm.analysis.diagnostics import curve_signatures
from gatenorm.analysis.latency import LatencyProbe
from gatenorm.calibration.samples import Samples
from gatenorm.calibration.shared_prefix import SharedPrefix
from gatenorm.criteria.criterion_spec import CriterionSpec, score_all
from gatenorm.criteria.scoring import score as score_weights
from gatenorm.criteria.session import ScoringSession
from gatenorm.errors import CriterionError, EvaluationError
from gatenorm.evaluation.core.job import Job
from gatenorm.evaluation.core.text import Text, read_text
from gatenorm.evaluation.tasks.perplexity import Protocol, encode, exp
from gatenorm.models.model import Model
from gatenorm.progress import Progress
from gatenorm.records import ATTENTION, Evidence, Scores, to_json
from gatenorm.records.curve import Curve, Line, Point
from gatenorm.records.evidence import Measurements, Perplexity, TextProtocol, of_type
from gatenorm.results import Fingerprint, ResultStore, versions

RANDOM_BAND = "random"
_PERPLEXITY = "perplexity"


@dataclass(frozen=True)
class TextProbe:
    """The perplexity of a text that was ``cut`` into ``samples``."""

    model: Model
    text: Text
    samples: Samples
    cut: TextProtocol

    @property
    def name(self) -> str:
        return _PERPLEXITY

    @cached_property
    def protocol(self) -> TextProtocol:
        """How the text was cut, and what it is read in."""
        return replace(self.cut, dtype=self.model.computes_in, device=self.model.device)

    @property
    def key(self) -> Mapping[str, object]:
        return {"data": to_json(self.text.identity()), "protocol": self.protocol.facts()}

    @cached_property
    def _losses(self) -> SharedPrefix:
        return SharedPrefix(self.model, self.samples)

    def measure(self, model: Model, layers: Collection[int]) -> Perplexity:
        (nll,) = self._losses([layers])
        return Perplexity(
            perplexity=exp(nll),
            nll=nll,
            tokens=self.samples.predicted,
            protocol=self.protocol,
            data=self.text.identity(),
        )


class CurveResults:
    """Measurements by set of removed layers and by what measured them.

    A directory of another model (its tokenizer counts), text or protocol, or of other software, is refused; so is one
    in which something of the same name was measured in another way. What is asked for anew, such as a task, is added.

    Args:
        probes: what the figures of everything that is measured follow from, by name; ``None`` keeps nothing.

    Raises:
        OutputError: a directory of another curve, or one that cannot be written.
        RecordError: a damaged directory.
    """

    def __init__(self, directory: Path | None, probes: Mapping[str, Fingerprint] | None):
        self._store = None if directory is None else ResultStore(directory)
        self._probes = dict(probes or {})
        self._known: dict[tuple[frozenset[int], str], Evidence] = {}
        if self._store is not None:
            for name, fingerprint in self._probes.items():
                self._store.claim(f"{name} of a curve", fingerprint, "state")

    def has(self, layers: frozenset[int], probe: str) -> bool:
        if (layers, probe) not in self._known and self._store is not None:
            kept = self._store.get(self._fingerprint(layers, probe), Measurements)
            if kept:
                self._known[layers, probe] = kept[0]
        return (layers, probe) in self._known

    def get(self, layers: frozenset[int], probe: str) -> Evidence:
        return self._known[layers, probe]

    def perplexity(self, layers: frozenset[int]) -> float:
        (record,) = of_type([self.get(layers, _PERPLEXITY)], Perplexity)
        return record.perplexity

    def keep(self, layers: frozenset[int], probe: str, record: Evidence) -> None:
        """Add a record, and write it.

        Raises:
            OutputError: it cannot be written.
        """
        self._known[layers, probe] = record
        if self._store is not None:
            self._store.put(self._fingerprint(layers, probe), Measurements((record,)))

    def _fingerprint(self, layers: frozenset[int], probe: str) -> Fingerprint:
        return self._probes[probe].asking(removed=sorted(layers))


def evaluation_text(source: str) -> Text:
    """The text that ``source`` names, as an evaluation reads it.

    Raises:
        EvaluationError: there is none.
    """
    try:
        return read_text(source)
    except EvaluationError as error:  # here no parameter names the field
        if error.code == "text-field-missing":
            error.hint = "a text to measure on must be in that field"
        raise


def evaluation_samples(model: Model, text: Text, protocol: Protocol) -> tuple[Samples, TextProtocol]:
    """A text as the sequences that perplexity is taken on, and how it was cut, by the protocol of ``gatenorm eval``.

    Raises:
        EvaluationError: no tokenizer, a text shorter than one window, or tokens outside the vocabulary.
    """
    sequences, described = encode(model.tokenizer, text, protocol, model.config)
    return Samples(tuple(map(tuple, sequences)), protocol.batch_size), described


def curve(
    session: ScoringSession,
    asked: Sequence[CriterionSpec | Scores],
    text: Text,
    protocol: Protocol,
    counts: Sequence[int],
    *,
    seed: int = 0,
    seeds: int = 5,
    measures: Mapping[str, Measure] | None = None,
    tasks: Sequence[Job] = (),
    latency: LatencyProbe | None = None,
    state: Path | None = None,
    progress: Progress | None = None,
) -> Curve:
    """Measure perplexity without the ``n`` weakest sublayers, for every ``n`` in ``counts`` and every ranking.

    The arguments are those of :func:`gatenorm.curve`. Count 0 is always measured; the random band, with the seeds 0,
    1, ..., has perplexities alone; the tasks' mean share of right answers is the figure ``accuracy``. What can be wrong
    with the text, the counts or the state is said before any ranking is made.

    Raises:
        EvaluationError: a count that leaves no attention, a length that does not fit, no tokenizer, tasks or timing of
            a model that is spread over devices, or logits that are not finite.
        CriterionError: no ranking, or one that cannot be made.
        OutputError: ``state`` holds another curve, or cannot be written.
    """
    began = time.perf_counter()
    model, layers = session.model, session.layout.removable(ATTENTION)
    numbers = sorted({0, *counts})
    if not asked:
        expected = "one or more, such as gate-norm,cosine@random"
        raise CriterionError("criteria-missing", "is empty", field="criteria", expected=expected)
    if numbers[0] < 0 or numbers[-1] >= len(layers):
        expected = f"0 to {len(layers) - 1}: the model has {len(layers)} sublayers, and one must stay"
        given = numbers[0] if numbers[0] < 0 else numbers[-1]
        raise EvaluationError.out_of_range("counts", given, expected, "count-out-of-range")
    probes: list[Probe] = [FunctionProbe(name, measure) for name, measure in (measures or {}).items()]
    probes += [TaskProbe(job) for job in tasks]
    if latency is not None:
        latency.check(model)
        probes.append(latency)
    check_probes(model, probes)
    reading = TextProbe(model, text, *evaluation_samples(model, text, protocol))
    fingerprints = None
    if state is not None:  # every weight is read for its hash, which nobody needs without a directory
        base = Fingerprint.of(
            reading.key,
            {"model": session.layout.checkpoint.fingerprint()},
            ("accelerate", "lm_eval"),
        )
        fingerprints = {reading.name: base} | {probe.name: base.asking(probe=dict(probe.key)) for probe in probes}
    known = CurveResults(state, fingerprints)
    rankings = _rankings(session, asked, seed, progress)
    drawn = [score_weights(session.layout, RANDOM_BAND, seed=number) for number in range(seeds)]
    along = {frozenset(s.weakest(n)) for s in rankings for n in numbers}
    sets = along | {frozenset(s.weakest(n)) for s in drawn for n in numbers}
    asked_of = {gone: [reading, *(probes if gone in along else ())] for gone in sets}
    _measure(model, known, asked_of, progress)
    lines = [_line(label(s), s, numbers, known, probes) for s in rankings]
    band = [_line(f"{RANDOM_BAND} {s.seed}", s, numbers, known, ()) for s in drawn]
    return Curve(
        model=session.layout.identity(),
        lines=tuple(lines),
        band=tuple(band),
        warnings=tuple(w for line in lines for w in curve_signatures(line.name, line.perplexity)),
        protocol=reading.protocol,
        data=text.identity(),
        seconds=time.perf_counter() - began,
        versions=versions(),
    )


def _measure(
    model: Model,
    known: CurveResults,
    asked: Mapping[frozenset[int], Sequence[Probe]],
    progress: Progress | None,
) -> None:
    """Whatever is asked of a set of layers and not known yet; the fewest removals first."""
    todo = [(gone, probe) for gone in sorted(asked, key=lambda s: (len(s), sorted(s))) for probe in asked[gone]]
    missing = [(gone, probe) for gone, probe in todo if not known.has(gone, probe.name)]
    for n, (gone, probe) in enumerate(missing, len(todo) - len(missing)):
        if progress:
            progress(n, len(todo))
        record = probe.measure(model, gone)
        model.check_unchanged()
        known.keep(gone, probe.name, record)
    if progress:
        progress(len(todo), len(todo))


def _rankings(
    session: ScoringSession, asked: Sequence[CriterionSpec | Scores], seed: int, progress: Progress | None
) -> Sequence[Scores]:
    wanted = [one for one in asked if isinstance(one, CriterionSpec)]
    made = iter(score_all(session, wanted, seed=seed, progress=progress))
    return [next(made) if isinstance(one, CriterionSpec) else one for one in asked]


def _line(name: str, scores: Scores, counts: Sequence[int], known: CurveResults, probes: Sequence[Probe]) -> Line:
    points = []
    for gone in (scores.weakest(count) for count in counts):
        records = Measurements(known.get(frozenset(gone), probe.name) for probe in probes)
        points.append(Point(layers=tuple(gone), perplexity=known.perplexity(frozenset(gone)), records=records))
    return Line(name=name, points=tuple(points))

"""One model, loaded once, and all that is measured on it: samples, one pass for all stream statistics, losses."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

from msgspec.structs import asdict

from gatenorm.calibration.layerwise import observe_layer_by_layer
from gatenorm.calibration.passes import Observer, observe
from gatenorm.calibration.samples import SELF, Calibration, CalibrationSamples, Samples
from gatenorm.calibration.shared_prefix import SharedPrefix
from gatenorm.calibration.sources import draw
from gatenorm.criteria.criterion import ForwardCriterion, Measured, Run
from gatenorm.criteria.registry import check_ranks, criterion, forward_criteria
from gatenorm.criteria.streams import StreamStatistics, Watch
from gatenorm.errors import CalibrationError, CriterionError, named
from gatenorm.extensions import check_kind
from gatenorm.families import Layout
from gatenorm.fitting.trial import Kept
from gatenorm.models.model import Model
from gatenorm.progress import Progress
from gatenorm.records import LayerScore, Scores
from gatenorm.records.calibration import CalibrationRun, CalibrationSeconds


@dataclass
class ScoringSession:
    """A model, and the samples and statistics that its criteria share.

    ``layer_by_layer`` never loads it as a whole: one block's weights at a time, for models larger than memory;
    ``spool`` is then a folder for activations, which otherwise stay in memory. ``fitted`` is what fits measured, so
    that another operation in the same sublayers' place makes no pass of its own.
    """

    model: Model
    layer_by_layer: bool = False
    spool: Path | None = None
    fitted: Kept = field(default_factory=Kept)
    _samples: dict[Calibration, tuple[CalibrationSamples, float]] = field(default_factory=dict)
    _statistics: dict[Calibration, tuple[StreamStatistics, float]] = field(default_factory=dict)

    @property
    def layout(self) -> Layout:
        return self.model.known_layout

    def release(self) -> None:
        """Give back the memory of the model and of the sums of fits; samples are kept."""
        self.model.release()
        self.fitted = Kept()

    @property
    def module(self) -> Any:
        """The whole model.

        Raises:
            CalibrationError: this session works layer by layer.
            CheckpointError, MissingExtraError: as loading.
        """
        if self.layer_by_layer:
            raise _whole_model_needed("this")
        return self.model.module

    @property
    def _one_device(self) -> str:
        import torch

        if self.model.device != "auto":
            return self.model.device
        return "cuda" if torch.cuda.is_available() else "cpu"

    def prepare(self, name: str, calibration: Calibration) -> ForwardCriterion:
        """The criterion, once all that can be wrong is known not to be, before a weight is loaded.

        Raises:
            CriterionError: an unknown criterion, or one that looks at weights alone.
            CalibrationError, EvaluationError, CheckpointError, MissingExtraError: a calibration, a device or a model
                that cannot be had.
        """
        chosen = criterion(name)
        if not isinstance(chosen, ForwardCriterion):
            problem = f"is of no use to {name}, which reads weights only"
            raise CriterionError("calibration-unused", problem, field="calibration")
        self.model.check_hardware()
        if self.layer_by_layer and (not chosen.layer_by_layer or calibration.source == SELF):
            raise _whole_model_needed(f"{name} on {calibration.source}")
        if calibration.source != SELF:
            self.samples(calibration)
        return chosen

    def samples(self, calibration: Calibration, progress: Progress | None = None) -> CalibrationSamples:
        """The tokens of a calibration; drawn once.

        Raises:
            CalibrationError: they cannot be had.
        """
        if calibration not in self._samples:
            began, loaded = time.perf_counter(), self.model.load_seconds
            if self.layer_by_layer and calibration.source == SELF:
                raise _whole_model_needed(SELF)
            drawn = draw(calibration, self.model, progress)
            self._samples[calibration] = drawn, time.perf_counter() - began - (self.model.load_seconds - loaded)
        return self._samples[calibration][0]

    def statistics(self, calibration: Calibration, progress: Progress | None = None) -> StreamStatistics:
        """Stream statistics over a calibration's tokens: one pass, whatever is asked of them afterwards."""
        if calibration not in self._statistics:
            samples, watch = self.samples(calibration, progress), Watch(self.layout)
            if not self.layer_by_layer:
                _ = self.module  # loaded before the clock starts
            began = time.perf_counter()
            self.observe(samples, watch, progress)
            self._statistics[calibration] = watch.statistics, time.perf_counter() - began
        return self._statistics[calibration][0]

    def observe(self, samples: Samples, observer: Observer, progress: Progress | None = None) -> None:
        """One pass over the samples, through the whole model or layer by layer.

        Args:
            progress: called with (work done, work in all).
        """
        if not self.layer_by_layer:
            observe(self.module, self.layout, samples, observer, progress)
            return
        where = {"device": self._one_device, "dtype": self.model.dtype}
        observe_layer_by_layer(self.layout, samples, observer, **where, spool=self.spool, progress=progress)

    def score(
        self, name: str, calibration: Calibration, progress: Progress | None = None, kind: str | None = None
    ) -> Scores:
        """The scores of a criterion that runs the model; a low score means: remove first.

        ``kind`` says which sublayers, by default what the criterion ranks first of all. ``seconds`` holds all that it
        would take on its own: loading, drawing the tokens, and the passes; what criteria share was done once.

        Raises:
            CriterionError: it is no such criterion, it does not rank that kind, or the activations are not finite.
            CalibrationError, CheckpointError: as :meth:`prepare` and loading.
        """
        from gatenorm.results import versions

        chosen = self.prepare(name, calibration)
        kind = kind or chosen.kinds[0]
        check_ranks(chosen, kind)
        samples = self.samples(calibration, progress)
        if not self.layer_by_layer:
            _ = self.module  # loaded before the clock starts
        run = Run(
            model=self.model,
            samples=samples,
            layers=self.layout.removable(kind),
            losses=SharedPrefix(self.model, samples, kind),
            observe=lambda: self.statistics(calibration, progress),
            kind=kind,
            progress=progress,
        )
        began = time.perf_counter()
        measured = chosen.measure(run)
        passes = time.perf_counter() - began
        if chosen.layer_by_layer:  # the pass may have been made for another criterion
            passes = self._statistics[calibration][1]
        _check_scores(name, measured, run.layers)
        bad = [layer for layer, score in measured.scores.items() if not math.isfinite(score)]
        if bad:
            problem = f"{name} of layer {bad[0]} is not finite: activations overflow"
            raise CriterionError("score-not-finite", problem, hint=f"try {named('dtype')} float32")
        drawing = self._samples[calibration][1]
        written = samples.protocol.self_text
        seconds = CalibrationSeconds(loading=self.model.load_seconds, drawing=drawing, passes=passes)
        return Scores(
            model=self.layout.identity(),
            criterion=name,
            layers=tuple(LayerScore(layer, measured.scores[layer]) for layer in run.layers),
            seconds=seconds.loading + seconds.drawing + seconds.passes,
            bytes_read=self.layout.nbytes,
            notes=tuple(note for note in (chosen.note, written and written.gibberish) if note),
            seed=calibration.seed if calibration.drawn else None,
            version=versions()["gatenorm"],
            calibration=CalibrationRun(
                **asdict(samples.protocol),
                dtype=self.model.computes_in,
                device=self.model.device,
                layer_by_layer=self.layer_by_layer,
                score=measured.score,
                path=measured.path,
                seconds=seconds,
                versions=versions(),
            ),
            kind=kind,
        )


def _check_scores(name: str, measured: Measured, layers: tuple[int, ...]) -> None:
    """Raise GatenormError where the criterion of another package gives no number, or none for a layer."""
    check_kind(f"what {name} measures", measured, Measured)
    check_kind(f"the scores of {name}", measured.scores, Mapping)
    check_kind(f"what {name} calls its scores", measured.score, str)
    if {*measured.scores} != {*layers}:
        problem = f"{name} gives scores of layers {sorted(map(str, measured.scores))}"
        expected = f"of layers {', '.join(map(str, layers))}"
        raise CriterionError("extension-wrong", problem, field="criterion", given=name, expected=expected)
    for layer, score in measured.scores.items():
        check_kind(f"the score of {name} in layer {layer}", score, Real)


def _whole_model_needed(what: str) -> CalibrationError:
    able = ", ".join(name for name, chosen in forward_criteria().items() if chosen.layer_by_layer)
    problem = f"is possible for {able}, on a text or random tokens: {what} needs the whole model in memory"
    return CalibrationError("whole-model-needed", problem, field="layer_by_layer")

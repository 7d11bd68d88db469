"""One model, loaded once, and all that is measured on it: samples, one pass for all stream statistics, losses."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatenorm.criteria import check_ranks, criterion
from gatenorm.criteria.ablation.removal_effects import greedy, leave_one_out
from gatenorm.criteria.ablation.shared_prefix import SharedPrefix
from gatenorm.criteria.activations.layerwise import observe_layer_by_layer
from gatenorm.criteria.activations.stream_statistics import Progress, StreamStatistics, observe
from gatenorm.criteria.tokens.sources import (
    RANDOM,
    SELF,
    Calibration,
    Samples,
    opening_token,
    random_samples,
    self_samples,
    text_samples,
)
from gatenorm.errors import CalibrationError, CriterionError, EvaluationError
from gatenorm.evaluation.tasks.perplexity import check_hardware
from gatenorm.families import Layout
from gatenorm.models.configuration import configuration
from gatenorm.models.removable import Removable
from gatenorm.records import LayerScore, Scores

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass
class Laboratory:
    """A model that is loaded when it is first run, and kept.

    ``device`` is a torch device, or ``auto`` to let accelerate spread the model over what there is. ``layer_by_layer``
    never loads it as a whole: one block's weights at a time, for models larger than memory; ``spool`` is then a folder
    for activations, which otherwise stay in memory.
    """

    layout: Layout
    device: str = "cpu"
    dtype: str = "auto"
    layer_by_layer: bool = False
    spool: Path | None = None
    load_seconds: float = 0.0
    _samples: dict[Calibration, tuple[Samples, float]] = field(default_factory=dict)
    _statistics: dict[Calibration, tuple[StreamStatistics, float]] = field(default_factory=dict)

    @cached_property
    def config(self) -> Any:
        """The model's configuration, for checks before anything is loaded."""
        return configuration(self.layout)

    @cached_property
    def computes_in(self) -> str:
        """The dtype that the model is, or would be, run in."""
        from gatenorm.models.loading import dtype_for

        chosen = dtype_for(self.dtype, self.device)
        named = (self.config.dtype or "float32") if chosen == "auto" else chosen
        return str(named).removeprefix("torch.")

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """The model's tokenizer, or ``None``: drawn tokens need none."""
        from gatenorm.models.loading import load_tokenizer

        try:
            return load_tokenizer(self.layout.checkpoint.directory)
        except EvaluationError:
            return None

    @cached_property
    def model(self) -> PreTrainedModel:
        """The whole model.

        Raises:
            CalibrationError: this laboratory works layer by layer.
            CheckpointError, MissingExtraError: as loading.
        """
        from gatenorm.models.loading import dtype_for, load

        if self.layer_by_layer:
            raise CalibrationError(
                f"this needs the whole model in memory: layer by layer only {', '.join(_STREAM)} can be had, on a text "
                "or random tokens"
            )
        began = time.perf_counter()
        device_map = "auto" if self.device == "auto" else {"": self.device}
        model = load(self.layout.checkpoint.directory, dtype=dtype_for(self.dtype, self.device), device_map=device_map)
        self.load_seconds = time.perf_counter() - began
        return model

    @property
    def _one_device(self) -> str:
        """Where one block at a time is run: there is nothing to spread."""
        import torch

        if self.device != "auto":
            return self.device
        return "cuda" if torch.cuda.is_available() else "cpu"

    @cached_property
    def removable(self) -> Removable:
        return Removable(self.model, self.layout)

    def prepare(self, name: str, calibration: Calibration) -> None:
        """Everything that can be wrong with a request is found here, before a weight is loaded.

        Raises:
            CriterionError: an unknown criterion, or one that looks at weights alone.
            CalibrationError, EvaluationError, CheckpointError, MissingExtraError: a calibration, a device or a model
                that cannot be had.
        """
        if criterion(name).function is not None:
            raise CriterionError(f"{name} looks at weights alone: it takes no calibration")
        check_hardware("cpu" if self.device == "auto" else self.device, self.dtype)
        if self.layer_by_layer and (name not in _STREAM or calibration.source == SELF):
            raise CalibrationError(
                f"{name} on {calibration.source} needs the whole model in memory: layer by layer only "
                f"{', '.join(_STREAM)} can be had, on a text or random tokens"
            )
        if calibration.source != SELF:
            self.samples(calibration)

    def samples(self, calibration: Calibration, progress: Progress | None = None) -> Samples:
        """The tokens of a calibration; drawn once.

        Raises:
            CalibrationError: they cannot be had.
        """
        if calibration not in self._samples:
            began, loaded = time.perf_counter(), self.load_seconds
            drawn = self._draw(calibration, progress)
            self._samples[calibration] = drawn, time.perf_counter() - began - (self.load_seconds - loaded)
        return self._samples[calibration][0]

    def statistics(self, calibration: Calibration, progress: Progress | None = None) -> StreamStatistics:
        """Stream statistics over a calibration's tokens: one pass, whatever is asked of them afterwards."""
        if calibration not in self._statistics:
            samples = self.samples(calibration, progress)
            if self.layer_by_layer:
                began = time.perf_counter()
                found = observe_layer_by_layer(
                    self.layout, samples, device=self._one_device, dtype=self.dtype, spool=self.spool, progress=progress
                )
            else:
                model = self.model
                began = time.perf_counter()
                found = observe(model, self.layout, samples, progress)
            self._statistics[calibration] = found, time.perf_counter() - began
        return self._statistics[calibration][0]

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
        from gatenorm.models.loading import versions

        kind = kind or criterion(name).kinds[0]
        check_ranks(criterion(name), kind)
        self.prepare(name, calibration)
        found = _MEASURES[name](self, calibration, progress, kind)
        bad = [layer for layer, score in found.scores.items() if not math.isfinite(score)]
        if bad:
            raise CriterionError(f"{name} of layer {bad[0]} is not finite: activations overflow, try --dtype float32")
        samples, drawing = self._samples[calibration]
        how = {
            "dtype": self.computes_in,
            "device": self.device,
            **({"layer_by_layer": True} if self.layer_by_layer else {}),
        }
        parts = {"loading": self.load_seconds, "drawing": drawing, "passes": found.seconds}
        return Scores(
            model=self.layout.identity(),
            criterion=name,
            layers=tuple(LayerScore(layer, found.scores[layer]) for layer in self.layout.there(kind)),
            seconds=sum(parts.values()),
            bytes_read=sum(self.layout.checkpoint.files.values()),
            notes=found.notes,
            seed=calibration.seed if calibration.drawn else None,
            version=versions()["gatenorm"],
            calibration={**samples.protocol, **how, **found.protocol, "seconds": parts, "versions": versions()},
            kind=kind,
        )

    def _draw(self, calibration: Calibration, progress: Progress | None) -> Samples:
        if calibration.source == RANDOM:
            return random_samples(calibration, self.config, opening_token(self.tokenizer, self.config))
        if calibration.source == SELF:
            model = self.model
            return self_samples(calibration, model, opening_token(self.tokenizer, model.config), progress)
        if self.tokenizer is None:
            raise CalibrationError(
                f"{self.layout.checkpoint.directory} has no tokenizer that can be read: calibrate on random or self"
            )
        return text_samples(calibration, self.tokenizer, self.config)


@dataclass(frozen=True)
class _Measured:
    """Scores by layer, the seconds of the passes, and what else the record should state."""

    scores: Mapping[int, float]
    seconds: float
    protocol: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def _stream(figure: Callable[[StreamStatistics], dict[int, float]], *notes: str) -> Callable[..., _Measured]:
    def measure(lab: Laboratory, calibration: Calibration, progress: Progress | None, kind: str) -> _Measured:
        statistics = lab.statistics(calibration, progress)
        return _Measured(figure(statistics), lab._statistics[calibration][1], notes=notes)

    return measure


def _leave_one_out(lab: Laboratory, calibration: Calibration, progress: Progress | None, kind: str) -> _Measured:
    losses, began = _losses(lab, calibration, kind)
    rises = leave_one_out(losses, lab.layout.there(kind), progress)
    return _Measured(rises, time.perf_counter() - began, {"score": "rise in nats per predicted token"})


def _greedy(lab: Laboratory, calibration: Calibration, progress: Progress | None, kind: str) -> _Measured:
    losses, began = _losses(lab, calibration, kind)
    path = greedy(losses, lab.layout.there(kind), progress=progress)
    steps = {layer: float(n + 1) for n, layer in enumerate(path.order)}
    stated = {"score": "the step at which it is removed", "loss": path.whole, "losses": list(path.losses)}
    return _Measured(steps, time.perf_counter() - began, stated)


def _losses(lab: Laboratory, calibration: Calibration, kind: str) -> tuple[SharedPrefix, float]:
    samples = lab.samples(calibration)
    return SharedPrefix(lab.removable, lab.layout, samples, kind), time.perf_counter()


_BLOCKS = "block-cosine speaks of whole blocks: beside criteria of attention, as in a curve, their attention alone goes"
_STREAM = {
    "cosine": _stream(StreamStatistics.cosine),
    "norm-ratio": _stream(StreamStatistics.norm_ratio),
    "block-cosine": _stream(StreamStatistics.block_cosine, _BLOCKS),
    "mlp-cosine": _stream(StreamStatistics.mlp_cosine),
}
_MEASURES: dict[str, Callable[[Laboratory, Calibration, Progress | None, str], _Measured]] = {
    **_STREAM,
    "leave-one-out": _leave_one_out,
    "perplexity-greedy": _greedy,
}

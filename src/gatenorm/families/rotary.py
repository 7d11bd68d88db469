"""Rotary positions: which dimensions of a head turn, and how fast."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gatenorm.checkpoint import ModelConfig
from gatenorm.errors import CriterionError, FamilyError
from gatenorm.families.family import config_wrong, positive, value
from gatenorm.families.schema import Family


@dataclass(frozen=True)
class Rotary:
    """Rotary embedding of ``dims`` dimensions of a head from ``start`` on, which turn in pairs.

    Counted from there, dimension ``j`` turns with ``j + dims/2``, or, where they are ``interleaved``, ``2j`` with
    ``2j + 1``.
    ``theta`` is the base, ``scaling`` the rope parameters of the config (rope type, factors), ``context`` the number of
    positions that the model was trained on (before any stretching), where the config says so.
    """

    dims: int
    theta: float
    scaling: Mapping[str, Any]
    context: int | None
    interleaved: bool = False
    start: int = 0

    @classmethod
    def of(cls, config: ModelConfig, data: Family, head_dim: int, kind: str | None = None) -> Rotary | None:
        """Read it from a config, in the spelling of transformers 4 (``rope_theta``, ``rope_scaling``) or 5
        (``rope_parameters``, by kind of layer where they differ); ``None`` where nothing turns.

        Args:
            kind: that of the layer, where layers turn in different ways.

        Raises:
            FamilyError: a base, a fraction or a context that is no number, or parameters that are no object.
        """
        rule = data.rotary and data.rotary.by_kind.get(kind or "", data.rotary)
        if rule is None:
            return None
        scaling = config.get("rope_scaling") or config.get("rope_parameters") or rule.default_scaling
        if not isinstance(scaling, Mapping):
            raise config_wrong("rope_scaling or rope_parameters", scaling, "an object")
        if isinstance(own := scaling.get(kind or ""), Mapping):
            scaling = own
        elif not rule.scaled:
            scaling = {}
        theta = _first(rule.theta, scaling, config, rule.default_theta)
        fraction = _first(rule.fraction, scaling, config, rule.default_fraction)
        turning = value(config, data, rule.dims) if rule.dims else None
        if turning is not None:
            fraction = positive(rule.dims, turning) / head_dim
        if fraction > 1:
            raise config_wrong(rule.dims or rule.fraction[0], turning or fraction, "a share of at most 1")
        spans = [
            int(positive(key, source[key]))
            for key in ("original_max_position_embeddings", "max_position_embeddings")
            for source in (scaling, config)
            if source.get(key) is not None
        ]
        default = data.defaults.get("max_position_embeddings")
        dims = round(head_dim * fraction) if turning is not None else int(head_dim * fraction)
        if scaling.get("rope_type") == "proportional":
            dims = head_dim  # the fraction says how many of the pairs turn: see `frequencies`
        start = head_dim - dims if rule.place == "end" else 0
        return cls(dims, theta, scaling, min(spans, default=default), rule.pairs == "interleaved", start)

    def partners(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The dimensions of the pairs, each ``[dims / 2]``: the first of them, and the ones that turn with them."""
        half, start = np.arange(self.dims // 2), self.start
        if self.interleaved:
            return start + 2 * half, start + 2 * half + 1
        return start + half, start + half + self.dims // 2

    @property
    def kind(self) -> str:
        return str(self.scaling.get("rope_type") or self.scaling.get("type") or "default")

    def frequencies(self) -> npt.NDArray[np.float64]:
        """Radians per position of each pair, ``[dims / 2]``.

        Raises:
            CriterionError: a rope type whose frequencies depend on the prompt's length or are not known here.
        """
        inverse = self.theta ** (-np.arange(0, self.dims, 2, dtype=np.float64) / self.dims)
        if self.kind in ("default", "mrope"):  # three positions, which are one where there is only text
            return inverse
        if self.kind == "linear":
            return inverse / self._parameter("factor")
        if self.kind == "proportional":  # pairs are those of the whole head, and the last of them stand still
            still = np.arange(len(inverse)) >= int(self._parameter("partial_rotary_factor", 1.0) * self.dims // 2)
            return np.where(still, 0.0, inverse / self._parameter("factor", 1.0))
        if self.kind == "llama3":
            return self._llama3(inverse)
        if self.kind == "yarn":
            return self._yarn(inverse)
        problem = f"rope type {self.kind!r:.40} is not known to gate-norm-rope"
        expected = "default, linear, llama3, proportional or yarn"
        raise CriterionError("rope-type-unknown", problem, expected=expected)

    def _llama3(self, inverse: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Llama 3.1's rule: long waves are stretched by ``factor``, short ones kept, those between blended."""
        old = self._original_context()
        low, high = self._parameter("low_freq_factor"), self._parameter("high_freq_factor")
        if low >= high:
            raise CriterionError(
                "config-wrong",
                f"rope type 'llama3' needs low_freq_factor < high_freq_factor, given {low} and {high}",
            )
        turns = old * inverse / (2 * math.pi)
        blend = np.clip((turns - low) / (high - low), 0.0, 1.0)
        return (1 - blend) * inverse / self._parameter("factor") + blend * inverse

    def _yarn(self, inverse: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """YaRN's rule (arXiv 2309.00071): waves that turn less than ``beta_slow`` times within the original context
        are stretched by ``factor``, those that turn more than ``beta_fast`` times kept, those between blended by their
        number. What it multiplies the logits of all layers by is no part of this.
        """
        old = self._original_context()
        fast, slow = (
            self._parameter(key) if self.scaling.get(key) else default
            for key, default in (("beta_fast", 32.0), ("beta_slow", 1.0))
        )
        try:
            first, last = (
                self.dims * math.log(old / (turns * 2 * math.pi)) / (2 * math.log(self.theta)) for turns in (fast, slow)
            )
            if self.scaling.get("truncate", True):
                first, last = math.floor(first), math.ceil(last)
        except (ArithmeticError, ValueError):
            problem = f"rope type 'yarn' cannot stretch waves of base {self.theta:g} from {old:g} positions"
            raise CriterionError("config-wrong", problem) from None
        first, last = max(first, 0), min(last, self.dims - 1)
        blend = np.clip((np.arange(len(inverse)) - first) / max(last - first, 0.001), 0.0, 1.0)
        mixed: npt.NDArray[np.float64] = (1 - blend) * inverse + blend * inverse / self._parameter("factor")
        return mixed

    @property
    def yarn_scale(self) -> float:
        """What DeepSeek's models multiply their logit scale by: ``(0.1 mscale_all_dim ln(factor) + 1)^2``."""
        if self.kind == "default" or not self.scaling.get("mscale_all_dim"):
            return 1.0
        weight = self._parameter("mscale_all_dim")
        return float((0.1 * weight * math.log(max(self._parameter("factor"), 1.0)) + 1) ** 2)

    def _original_context(self) -> float:
        """Where the config leaves it out, transformers takes the context there is."""
        key = "original_max_position_embeddings"
        return self._parameter(key) if key in self.scaling or self.context is None else float(self.context)

    def _parameter(self, key: str, default: float | None = None) -> float:
        try:
            return positive(f"the rope parameter {key}", self.scaling.get(key, default))
        except FamilyError as error:
            raise CriterionError("config-wrong", f"rope type {self.kind!r:.40}: {error}") from None


def _first(keys: Sequence[str], parameters: Mapping[str, Any], config: ModelConfig, default: float) -> float:
    for source in (parameters, config):
        for key in keys:
            if source.get(key) is not None:
                return positive(key, source[key])
    return default

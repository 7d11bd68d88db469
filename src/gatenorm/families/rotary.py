"""Rotary positions: which dimensions of a head turn, and how fast."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gatenorm.errors import CriterionError


@dataclass(frozen=True)
class Rotary:
    """Half-split rotary embedding: dimension ``j`` and ``j + dims/2`` of the first ``dims`` turn together.

    ``theta`` is the base, ``scaling`` the rope parameters of the config (rope type, factors), ``context`` the number of
    positions that the model was trained on (before any stretching), where the config says so.
    """

    dims: int
    theta: float
    scaling: Mapping[str, Any]
    context: int | None

    @classmethod
    def of(cls, config: Mapping[str, Any], data: Mapping[str, Any], head_dim: int) -> Rotary:
        """Read it from a config, in the spelling of transformers 4 (``rope_theta``, ``rope_scaling``) or 5
        (``rope_parameters``)."""
        rule = data["rotary"]
        parameters = config.get("rope_parameters") or {}
        scaling = dict(config.get("rope_scaling") or {}) | dict(parameters)
        theta = _first(rule["theta"], parameters, config, rule["default_theta"])
        fraction = _first(rule["fraction"], parameters, config, rule["default_fraction"])
        context = scaling.get("original_max_position_embeddings") or config.get("original_max_position_embeddings")
        return cls(int(head_dim * fraction), float(theta), scaling, context or config.get("max_position_embeddings"))

    @property
    def kind(self) -> str:
        return str(self.scaling.get("rope_type") or self.scaling.get("type") or "default")

    def frequencies(self) -> npt.NDArray[np.float64]:
        """Radians per position of each pair, ``[dims / 2]``.

        Raises:
            CriterionError: a rope type whose frequencies depend on the prompt's length or are not known here.
        """
        inverse = self.theta ** (-np.arange(0, self.dims, 2, dtype=np.float64) / self.dims)
        if self.kind == "default":
            return inverse
        if self.kind == "linear":
            return inverse / float(self.scaling["factor"])
        if self.kind == "llama3":
            return self._llama3(inverse)
        raise CriterionError(f"rope type {self.kind!r} is not known to gate-norm-rope; known: default, linear, llama3")

    def _llama3(self, inverse: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Llama 3.1's rule: long waves are stretched by ``factor``, short ones kept, those between blended."""
        s = self.scaling
        old, low, high = (
            float(s[k]) for k in ("original_max_position_embeddings", "low_freq_factor", "high_freq_factor")
        )
        turns = old * inverse / (2 * math.pi)
        blend = np.clip((turns - low) / (high - low), 0.0, 1.0)
        return (1 - blend) * inverse / float(s["factor"]) + blend * inverse


def _first(keys: list[str], parameters: Mapping[str, Any], config: Mapping[str, Any], default: float) -> float:
    for source in (parameters, config):
        for key in keys:
            if source.get(key) is not None:
                return float(source[key])
    return default

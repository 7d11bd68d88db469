"""Rotary positions: which dimensions of a head turn, and how fast."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gatenorm.errors import CriterionError, FamilyError
from gatenorm.families.family import config_wrong, positive


@dataclass(frozen=True)
class Rotary:
    """Rotary embedding of the first ``dims`` dimensions of a head, which turn in pairs.

    Dimension ``j`` turns with ``j + dims/2``, or, where they are ``interleaved``, ``2j`` with ``2j + 1``.
    ``theta`` is the base, ``scaling`` the rope parameters of the config (rope type, factors), ``context`` the number of
    positions that the model was trained on (before any stretching), where the config says so.
    """

    dims: int
    theta: float
    scaling: Mapping[str, Any]
    context: int | None
    interleaved: bool = False

    @classmethod
    def of(
        cls, config: Mapping[str, Any], data: Mapping[str, Any], head_dim: int, kind: str | None = None
    ) -> Rotary | None:
        """Read it from a config, in the spelling of transformers 4 (``rope_theta``, ``rope_scaling``) or 5
        (``rope_parameters``, by kind of layer where they differ); ``None`` where nothing turns.

        Args:
            kind: that of the layer, where layers turn in different ways.

        Raises:
            FamilyError: a base, a fraction or a context that is no number, or parameters that are no object.
        """
        rule = data["rotary"]
        if rule is not None and kind in rule.get("by_kind", {}):
            change = rule["by_kind"][kind]
            rule = None if change is None else {**rule, **change}
        if rule is None:
            return None
        scaling = config.get("rope_scaling") or config.get("rope_parameters") or {}
        if not isinstance(scaling, Mapping):
            raise config_wrong("rope_scaling or rope_parameters", scaling, "an object")
        if isinstance(scaling.get(kind), Mapping):
            scaling = scaling[kind]
        elif "scaling" in rule:
            scaling = {}
        theta = _first(rule["theta"], scaling, config, rule["default_theta"])
        fraction = _first(rule["fraction"], scaling, config, rule["default_fraction"])
        turning = None if "dims" not in rule else config.get(rule["dims"])
        if turning is not None:
            fraction = positive(rule["dims"], turning) / head_dim
        if fraction > 1:
            raise config_wrong(rule["fraction"][0], fraction, "a share of at most 1")
        spans = [
            int(positive(key, source[key]))
            for key in ("original_max_position_embeddings", "max_position_embeddings")
            for source in (scaling, config)
            if source.get(key) is not None
        ]
        default = data.get("defaults", {}).get("max_position_embeddings")
        pairs = rule.get("pairs", "half")
        return cls(int(head_dim * fraction), theta, scaling, min(spans, default=default), pairs == "interleaved")

    def partners(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The dimensions of the pairs, each ``[dims / 2]``: the first of them, and the ones that turn with them."""
        half = np.arange(self.dims // 2)
        return (2 * half, 2 * half + 1) if self.interleaved else (half, half + self.dims // 2)

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
        if self.kind == "llama3":
            return self._llama3(inverse)
        raise CriterionError(
            "rope-type-unknown",
            f"rope type {self.kind!r:.40} is not known to gate-norm-rope",
            expected="default, linear or llama3",
        )

    def _llama3(self, inverse: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Llama 3.1's rule: long waves are stretched by ``factor``, short ones kept, those between blended."""
        # Where the config leaves the original context out, transformers takes the context there is.
        key = "original_max_position_embeddings"
        old = self._parameter(key) if key in self.scaling or self.context is None else float(self.context)
        low, high = self._parameter("low_freq_factor"), self._parameter("high_freq_factor")
        if low >= high:
            raise CriterionError(
                "config-wrong",
                f"rope type 'llama3' needs low_freq_factor < high_freq_factor, given {low} and {high}",
            )
        turns = old * inverse / (2 * math.pi)
        blend = np.clip((turns - low) / (high - low), 0.0, 1.0)
        return (1 - blend) * inverse / self._parameter("factor") + blend * inverse

    def _parameter(self, key: str) -> float:
        try:
            return positive(f"the rope parameter {key}", self.scaling.get(key))
        except FamilyError as error:
            raise CriterionError("config-wrong", f"rope type {self.kind!r:.40}: {error}") from None


def _first(keys: list[str], parameters: Mapping[str, Any], config: Mapping[str, Any], default: float) -> float:
    for source in (parameters, config):
        for key in keys:
            if source.get(key) is not None:
                return positive(key, source[key])
    return default

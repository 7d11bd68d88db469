"""Measurements of speed: models timed in turns, and where the time of one model goes."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import ClassVar

from gatenorm.records.evidence.base import Data, Evidence, Protocol
from gatenorm.records.machine import Machine
from gatenorm.records.serialization import Value

# Prefill reads the prompt, decode writes the new tokens; the first token is known in between.
PHASES = ("prefill", "first_token", "decode")


class Sample(Value, frozen=True):
    """One run of one case.

    Attributes:
        prefill: seconds until the prompt has been read.
        first_token: seconds until the first new token is known to the caller.
        decode: seconds for the new tokens after it, of all sequences side by side.
        cache_bytes: bytes of keys and values held for the prompts, as the engine's own objects have them, or ``None``.
        peak_bytes: the most memory that the process (or the accelerator) held during the run, or ``None``.
    """

    prefill: float
    first_token: float
    decode: float
    cache_bytes: int | None = None
    peak_bytes: int | None = None


class Shares(Value, frozen=True):
    """Each layer's attention as a share of a whole pass; ``layers`` holds the original numbers."""

    layers: tuple[int, ...]
    prefill: tuple[float, ...]
    decode: tuple[float, ...]

    def of(self, phase: str, layers: Sequence[int]) -> float:
        """The summed share of some layers; ``phase`` is ``prefill`` or ``decode``."""
        by_layer = dict(zip(self.layers, getattr(self, phase), strict=True))
        return float(sum(by_layer[layer] for layer in layers))


class Spread(Value, frozen=True):
    """The median of some values, and the smallest and the largest of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


class SpeedProtocol(Protocol, frozen=True, kw_only=True, omit_defaults=True):
    """``batch`` random prompts of ``prompt_tokens``, each continued by ``new_tokens``, a run in each of ``rounds``.

    ``runs_a_turn`` says how often a short one ran in each turn, of which the fastest counts; ``order`` who took turns.
    """

    prompt_tokens: int
    batch: int
    new_tokens: int
    rounds: int = 0
    warmups: int = 0
    runs_a_turn: int = 1
    order: str = ""
    baseline: str | None = None
    threads: int | None = None
    attention: str | None = None
    label: str = ""
    instrument: str = ""
    machine: Machine | None = None

    @property
    def case(self) -> str:
        """For tables: ``2,048 x 1``."""
        return f"{self.prompt_tokens:,} x {self.batch}"

    @property
    def read(self) -> str:
        """For spreadsheets: ``2048 tokens, batch 1``."""
        return f"{self.prompt_tokens} tokens, batch {self.batch}"


class PhaseTime(Value, frozen=True, kw_only=True, omit_defaults=True):
    """The seconds of a phase, and what they are beside the baseline's.

    Attributes:
        speedup: the baseline's time over this one's, by round.
        ideal: the speed-up if the edits saved their attention's time, less what replaces it, and cost nothing else.
        predicted: the speed-up by the cost model, where a machine was named.
    """

    seconds: Spread | None = None
    speedup: Spread | None = None
    ideal: float | None = None
    predicted: float | None = None

    @property
    def achieved(self) -> float | None:
        """The speed-up over the ideal one."""
        return None if self.ideal is None or self.speedup is None else self.speedup.median / self.ideal


class Speed(Evidence, frozen=True, kw_only=True, tag="gatenorm/speed/1"):
    """One model timed on one case. Without figures the case was ``skipped``, which says why.

    ``cache_bytes`` is the key/value cache after the prompt, ``peak_bytes`` the process's largest size. ``samples`` has
    a run for every round, ``attention_shares`` a profile of the baseline.
    """

    comparable: ClassVar[bool] = False
    protocol: SpeedProtocol
    data: Data = Data(name="random tokens")
    prefill: PhaseTime = PhaseTime()
    first_token: PhaseTime = PhaseTime()
    decode: PhaseTime = PhaseTime()
    decode_tokens_per_second: Spread | None = None
    cache_bytes: int | None = None
    cache_share_removed: float | None = None
    peak_bytes: int | None = None
    skipped: str | None = None
    samples: tuple[Sample, ...] = ()
    attention_shares: tuple[Shares, ...] = ()

    @property
    def read(self) -> str:
        return self.protocol.read

    @property
    def measured(self) -> bool:
        """Whether the case was run."""
        return self.prefill.seconds is not None

    @property
    def request_seconds(self) -> list[float]:
        """Seconds of a whole request, prompt and new tokens, by round."""
        return [sample.prefill + sample.decode for sample in self.samples]

    @property
    def compared(self) -> bool:
        """Whether there is a speed-up over a baseline."""
        return self.prefill.speedup is not None

    def phase(self, name: str) -> PhaseTime:
        """One of ``PHASES``."""
        timed: PhaseTime = getattr(self, name)
        return timed

    def facts(self) -> Mapping[str, object]:
        return {**self.protocol.facts(), **({"skipped": self.skipped} if self.skipped else {})}

    def numbers(self) -> Mapping[str, float]:
        figures: dict[str, float | None] = {
            **{f"{name}_seconds": _median(self.phase(name).seconds) for name in PHASES[:2]},
            "decode_tokens_per_second": _median(self.decode_tokens_per_second),
            "cache_bytes": self.cache_bytes,
            "peak_bytes": self.peak_bytes,
            **{f"{name}_speedup": _median(self.phase(name).speedup) for name in PHASES},
            "cache_share_removed": self.cache_share_removed,
            **{f"{name}_ideal": self.phase(name).ideal for name in PHASES},
        }
        return {name: float(value) for name, value in figures.items() if value is not None}


class ProfiledPhase(Value, frozen=True, kw_only=True):
    """Where the time of one phase goes, in seconds of all layers; medians over the rounds.

    Attributes:
        attention_share: of the sum of the parts.
        attention_over_mlp: mean attention over mean MLP sublayer.
        attention_flops_share: of all FLOPs, with the pairs that a causal mask leaves.
        attention_by_layer, mlp_by_layer: seconds; ``None`` where a layer has no attention.
    """

    attention_seconds: float
    mlp_seconds: float
    outer_seconds: float
    attention_over_mlp: float
    attention_flops_share: float
    attention_by_layer: tuple[float | None, ...]
    mlp_by_layer: tuple[float, ...]

    @property
    def total_seconds(self) -> float:
        return self.attention_seconds + self.mlp_seconds + self.outer_seconds

    @property
    def attention_share(self) -> float:
        return self.attention_seconds / self.total_seconds


class Profile(Evidence, frozen=True, kw_only=True, tag="gatenorm/profile/1"):
    """What attention and MLP take of time, weights, FLOPs and cache; without figures the case was ``skipped``."""

    protocol: SpeedProtocol
    data: Data = Data(name="random tokens")
    prefill: ProfiledPhase | None = None
    decode: ProfiledPhase | None = None
    attention_weights_share: float | None = None
    cache_bytes: float | None = None
    cache_bytes_per_layer: float | None = None
    skipped: str | None = None

    @property
    def read(self) -> str:
        return self.protocol.read

    def phases(self) -> dict[str, ProfiledPhase]:
        """Prefill and decode by name, as far as they were measured."""
        return {name: phase for name in ("prefill", "decode") if (phase := getattr(self, name)) is not None}

    def numbers(self) -> Mapping[str, float]:
        return {f"{name}_attention_share": phase.attention_share for name, phase in self.phases().items()}


def _median(spread: Spread | None) -> float | None:
    return None if spread is None else spread.median

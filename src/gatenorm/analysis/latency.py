"""How fast a pruned model is beside the whole one: both in this process, on the same tensors, taking turns.

For every set of removed layers the whole model and the pruned one take turns, the whole one first: A B A B, after a run
each to warm up. A run is one forward pass over random tokens, then so many new tokens one by one from the key/value
cache, as ``bench`` does it. Speed-ups are formed within a round, whole model's seconds over the pruned one's, before
their median is taken: a machine that slows down slows both. What ``bench`` adds is a process for each model, and with
it memory.
"""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gatenorm.engines import Case, Setting
from gatenorm.errors import EvaluationError, named
from gatenorm.models.model import Model
from gatenorm.records import ATTENTION, Edits
from gatenorm.speed.defaults import NEW_TOKENS, ROUNDS
from gatenorm.speed.measure.turns import Measured, measure

PHASES = ("prefill", "decode")
_WHOLE, _PRUNED = "whole", "pruned"


@dataclass(frozen=True)
class LatencyProbe:
    """Seconds of prefill and tokens per second of decoding, and both as speed-up over the whole model.

    ``tokens`` are read, then ``new`` ones decoded, for ``batch`` sequences, ``rounds`` times after ``warmups``.
    Figures: ``prefill_speedup``, ``decode_speedup`` and ``prefill_seconds``, ``decode_tokens_per_second`` (medians over
    the rounds; ``_low`` and ``_high`` are the extremes of the speed-ups).
    """

    tokens: int
    new: int = NEW_TOKENS
    batch: int = 1
    rounds: int = ROUNDS
    warmups: int = 1

    @property
    def name(self) -> str:
        return "latency"

    @property
    def key(self) -> Mapping[str, Any]:
        """With the number of threads, for which alone a timing is true."""
        import torch

        return {**asdict(self), "threads": torch.get_num_threads()}

    def measure(self, model: Model, layers: Collection[int]) -> dict[str, float]:
        """Take turns.

        Raises:
            EvaluationError: not enough memory.
        """
        from gatenorm.engines.transformers.timed import TransformersTimed

        case = Case(tokens=self.tokens, batch=self.batch, new=self.new)
        setting = Setting(cases=(case,), device=model.device, dtype=model.dtype)
        models = {_WHOLE: model}
        if layers:
            models[_PRUNED] = model.edited_copy(Edits.of(ATTENTION, layers))
        sessions = {name: TransformersTimed(one.module, model.known_layout, setting) for name, one in models.items()}
        timed = {m.name: m for m in measure(sessions, [case], self.rounds, warmups=self.warmups)}
        skipped = next((m.skipped for m in timed.values() if m.skipped), None)
        if skipped is not None:
            raise EvaluationError("latency-skipped", str(skipped), field="latency", given=self.tokens)
        return _figures(timed[_WHOLE], timed.get(_PRUNED))

    def describe(self) -> Mapping[str, Any]:
        order = "in turns, whole and pruned, in one process on the same tensors; speed-up by round, then the median"
        return {
            "engine": "transformers",
            **{("prompt_tokens" if name == "tokens" else name): value for name, value in self.key.items()},
            "prompts": "random tokens",
            "order": order,
        }

    def check(self, model: Model) -> None:
        """Raise EvaluationError for a length that does not fit into the context, or is below 1."""
        for field, given in {"latency": self.tokens, "new_tokens": self.new, "rounds": self.rounds}.items():
            if given < 1:
                raise EvaluationError.out_of_range(field, given, "1 or more", "out-of-range")
        if model.context and self.tokens + self.new > model.context:
            problem = f"with {named('new_tokens')} {self.new} exceeds the model's context of {model.context:,} tokens"
            expected = f"at most {max(model.context - self.new, 0):,}"
            raise EvaluationError("context-too-short", problem, field="latency", given=self.tokens, expected=expected)


def _figures(whole: Measured, pruned: Measured | None) -> dict[str, float]:
    own = pruned or whole
    figures = {
        "prefill_seconds": own.seconds("prefill").median,
        "decode_tokens_per_second": own.tokens_per_second().median,
    }
    for phase in PHASES:
        if pruned is None:  # the whole model is what all others are held against
            figures |= dict.fromkeys((f"{phase}_speedup", f"{phase}_speedup_low", f"{phase}_speedup_high"), 1.0)
            continue
        spread = pruned.speedup(whole, phase)
        figures |= {f"{phase}_speedup": spread.median}
        figures |= {f"{phase}_speedup_low": spread.low, f"{phase}_speedup_high": spread.high}
    return figures

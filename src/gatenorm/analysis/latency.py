"""How fast a pruned model is beside the whole one: both in this process, on the same tensors, taking turns.

For every set of removed layers the whole model and the pruned one take turns, the whole one first: A B A B, after a run
each to warm up. A run is one forward pass over random tokens, then so many new tokens one by one from the key/value
cache, as ``bench`` does it. Speed-ups are formed within a round, whole model's seconds over the pruned one's, before
their median is taken: a machine that slows down slows both. What ``bench`` adds is a process for each model, and with
it memory.
"""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass

from msgspec.structs import replace

from gatenorm.engines import Case, Setting
from gatenorm.errors import EvaluationError, named
from gatenorm.models.model import Model
from gatenorm.records import ATTENTION, Edits
from gatenorm.records.evidence import Data, Speed
from gatenorm.speed.defaults import NEW_TOKENS, ROUNDS
from gatenorm.speed.measure.bench import described, with_speedups, with_times
from gatenorm.speed.measure.turns import measure

_WHOLE, _PRUNED = "whole", "pruned"


@dataclass(frozen=True)
class LatencyProbe:
    """Seconds of prefill and tokens per second of decoding, and both as speed-up over the whole model.

    ``tokens`` are read, then ``new`` ones decoded, for ``batch`` sequences, ``rounds`` times after ``warmups``.
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
    def key(self) -> Mapping[str, object]:
        """With the number of threads, for which alone a timing is true."""
        import torch

        return {**asdict(self), "threads": torch.get_num_threads()}

    def measure(self, model: Model, layers: Collection[int]) -> Speed:
        """Take turns; the whole model's speed-up over itself is 1.

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
        ran = {m.name: m for m in measure(sessions, [case], self.rounds, warmups=self.warmups)}
        skipped = next((m.skipped for m in ran.values() if m.skipped), None)
        if skipped is not None:
            raise EvaluationError("latency-skipped", str(skipped), field="latency", given=self.tokens)
        whole = ran[_WHOLE]
        own = ran.get(_PRUNED, whole)
        protocol = described(
            case,
            replace(setting, threads=self.key["threads"]),
            engine="transformers",
            dtype=model.computes_in,
            rounds=self.rounds,
            warmups=self.warmups,
            runs_a_turn=own.runs,
            order="in turns, whole and pruned, in one process on the same tensors; speed-up by round, then the median",
        )
        speed = Speed(protocol=protocol, data=Data(name="random tokens", seed=setting.seed), samples=tuple(own.samples))
        return with_speedups(with_times(speed, own), own, whole)

    def check(self, model: Model) -> None:
        """Raise EvaluationError for a length that does not fit into the context, or is below 1."""
        for field, given in {"latency": self.tokens, "new_tokens": self.new, "rounds": self.rounds}.items():
            if given < 1:
                raise EvaluationError.out_of_range(field, given, "1 or more", "out-of-range")
        if model.context and self.tokens + self.new > model.context:
            problem = f"with {named('new_tokens')} {self.new} exceeds the model's context of {model.context:,} tokens"
            expected = f"at most {max(model.context - self.new, 0):,}"
            raise EvaluationError("context-too-short", problem, field="latency", given=self.tokens, expected=expected)

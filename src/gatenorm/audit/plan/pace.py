"""How long this machine takes for a model's passes, reckoned before any is made."""

from __future__ import annotations

from collections.abc import Mapping

from gatenorm.engines import Setting
from gatenorm.families import Layout
from gatenorm.models.architecture import Architecture, Work
from gatenorm.speed.predict.cost_model import predict
from gatenorm.speed.predict.machines import THIS, machine_for

# The cost model is a lower bound: real passes take longer, mostly for logits of every token.
_SLOWER = 1.5


class Pace:
    """The cost model on this machine, whose speed a few products of matrices tell within seconds.

    A whole audit reckoned so is right to a factor of two; what is timed later takes its place.
    """

    def __init__(self, layout: Layout, device: str, dtype: str, threads: int):
        import torch

        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        setting = Setting(cases=(), device=device, dtype=dtype, threads=threads)
        self._model, self._machine = Architecture.of(layout), machine_for(THIS, setting, overheads=True)
        (self._dtype,) = self._machine.rates

    def seconds(self, passes: Mapping[Work, float]) -> float:
        """How long so many passes of each kind take."""
        return _SLOWER * sum(count * self._once(work) for work, count in passes.items())

    def _once(self, work: Work) -> float:
        return predict(self._model, self._machine, work, dtype=self._dtype).total

"""Where the time goes: attention and MLP of every layer, by hooks on a live transformers model.

A clock is read when a block begins and ends, and around the modules that belong to its attention (those that surgery
would remove) and to its MLP branch. What neither claims within a block (the two residual adds, Python between modules)
is given to both in halves, as each has one add; in a block without attention it is the MLP's alone. Embedding, final
norm, logits and whatever else stands outside the blocks is ``outer``. So the parts sum to the total by construction.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from gatenorm.families.schema import Block


@dataclass(frozen=True)
class PassTimes:
    """Seconds of one pass: of each attention sublayer by original layer number, of each block's MLP, and the rest."""

    attention: Mapping[int, float]
    mlp: tuple[float, ...]
    outer: float

    @property
    def total(self) -> float:
        return sum(self.attention.values()) + sum(self.mlp) + self.outer

    def shares(self) -> dict[int, float]:
        return {layer: seconds / self.total for layer, seconds in self.attention.items()}


class Watch:
    """Reads the time where the model runs: the processor's clock, or events in the stream of an accelerator.

    An accelerator is not made to wait for its readings: they become seconds when all is done.
    """

    def __init__(self, device: Any):
        import torch

        self._cuda = torch.cuda if device.type == "cuda" else None

    def read(self) -> Any:
        if self._cuda is None:
            return time.perf_counter()
        event = self._cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(self, begin: Any, end: Any) -> float:
        if self._cuda is None:
            return float(end - begin)
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1000


class Recorder:
    """Readings of one or more passes while the hooks are on; :meth:`profile` adds them up."""

    def __init__(self, watch: Watch, layers: int, drop: tuple[int, ...]):
        self.watch, self.layers, self.drop = watch, layers, drop
        # (layer, part) -> pairs of readings
        self.spans: dict[tuple[int, str], list[tuple[Any, Any]]] = {}
        self._open: dict[tuple[int, str], Any] = {}

    def begin(self, layer: int, part: str) -> None:
        self._open[layer, part] = self.watch.read()

    def end(self, layer: int, part: str) -> None:
        # Readings are taken first and stored afterwards, so that storing is not within them.
        now = self.watch.read()
        self.spans.setdefault((layer, part), []).append((self._open.pop((layer, part)), now))

    def profile(self, begin: Any, end: Any) -> PassTimes:
        """The parts of the time between two readings."""

        def seconds(layer: int, part: str) -> float:
            return sum(self.watch.between(*span) for span in self.spans.get((layer, part), ()))

        attention, mlp, blocks = {}, [], 0.0
        for layer in range(self.layers):
            whole, own, other = (seconds(layer, part) for part in ("block", "attention", "mlp"))
            left = whole - own - other
            blocks += whole
            if layer in self.drop:
                mlp.append(other + left)
            else:
                attention[layer] = own + left / 2
                mlp.append(other + left / 2)
        return PassTimes(attention, tuple(mlp), self.watch.between(begin, end) - blocks)


@contextmanager
def recording(model: Any, block: Block, drop: tuple[int, ...]) -> Iterator[Recorder]:
    """Hooks on the blocks of ``model`` while the context lasts.

    Args:
        model: a causal language model, stock or pruned.
        block: the family's description of a block: its ``path`` and the modules of attention and branch.
        drop: original numbers of the layers without attention.
    """
    blocks = list(model.get_submodule(block.path))
    recorder = Recorder(Watch(model.device), len(blocks), drop)
    # In a post-norm block some norms stand on the stream itself and stay: they are the MLP's.
    others = (*block.before, *block.branch, *block.after)
    with ExitStack() as hooks:

        def around(module: Any, layer: int, part: str) -> None:
            hooks.enter_context(module.register_forward_pre_hook(lambda *_: recorder.begin(layer, part)))
            hooks.enter_context(module.register_forward_hook(lambda *_: recorder.end(layer, part)))

        for layer, one in enumerate(blocks):
            around(one, layer, "block")
            for part, names in (("attention", block.attention), ("mlp", others)):
                for name in names:
                    if hasattr(one, name):
                        around(getattr(one, name), layer, part)
        yield recorder

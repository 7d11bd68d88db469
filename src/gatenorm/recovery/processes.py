"""The processes that train together under ``accelerate launch``: each has the whole model and its share of the data."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Processes:
    """One process, or one of several; ``main`` is the one that looks, writes and speaks."""

    count: int = 1
    index: int = 0
    device: str = "cpu"

    @classmethod
    def here(cls, device: str) -> Processes:
        """This process by itself on ``device``, or as ``accelerate launch`` placed it among others."""
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls(device=device)
        from accelerate import PartialState

        state = PartialState(cpu=device == "cpu")
        # Processors are not numbered, though accelerate does.
        own = "cpu" if state.device.type == "cpu" else str(state.device)
        return cls(state.num_processes, state.process_index, own)

    @property
    def main(self) -> bool:
        return self.index == 0

    def wrap(self, model: Any) -> Any:
        """The model as it is called in training: alone as it is, among others with gradients averaged over them all."""
        if self.count == 1:
            return model
        from torch.nn.parallel import DistributedDataParallel

        return DistributedDataParallel(model, device_ids=None if self.device == "cpu" else [self.device])

    def without_averaging(self, wrapped: Any, last: bool) -> AbstractContextManager[Any]:
        """For the batches of a step before its last one, whose gradients only add up."""
        return nullcontext() if self.count == 1 or last else wrapped.no_sync()

    def mean(self, value: Any) -> float:
        """The mean of a number (a tensor) over all processes, the same in each of them."""
        if self.count == 1:
            return float(value)
        from accelerate.utils import reduce

        return float(reduce(value.detach().clone(), "mean"))

    def agree(self, value: Any) -> Any:
        """What the main process has, in all of them."""
        if self.count == 1:
            return value
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]

    def wait(self) -> None:
        """Go on when all have come as far."""
        if self.count > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()

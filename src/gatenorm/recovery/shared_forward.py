"""The forward passes of a training, without what gives the same at every step.

The blocks in front of the first that is trained or edited are frozen, and the student has them from its parent: they
run once for both. Where every sequence comes more than once, the stream that leaves them is kept for the next time, and
so is the stream that leaves the parent's last block: the parent then runs each sequence once in all.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from gatenorm.calibration.block_stand_in import Reached, passed_over
from gatenorm.families import Layout
from gatenorm.models.forward import blocks_of, hidden_output

if TYPE_CHECKING:
    from torch import Tensor

# Streams are kept while they take no more memory than this.
KEPT_BYTES = 4 << 30


class SharedForward:
    """Gives the logits of a student and of its parent.

    Args:
        student: a causal language model, with peft's wrapper or without, some of whose parameters want a gradient.
            Dropout leaves its frozen blocks out.
        parent: the unpruned model, or ``None``.
        layout: of the student.
        sequences, length: how many there are to train on, of how many tokens each.
        passes: how often each of them comes.
    """

    def __init__(self, student: Any, parent: Any, layout: Layout, *, sequences: int, length: int, passes: float):
        self._student = student.get_base_model() if hasattr(student, "get_base_model") else student
        self._parent = parent
        self._blocks = blocks_of(self._student, layout)
        self._parent_blocks = None if parent is None else blocks_of(parent, layout)
        self.begin = layout.resumed_at(self._first(layout))
        streams = (self.begin > 0) + (parent is not None)
        nbytes = streams * sequences * length * layout.width * student.dtype.itemsize
        self.keeps = passes > 1 and 0 < nbytes <= KEPT_BYTES
        self._kept: dict[int, tuple[Tensor | None, Tensor | None]] = {}

    def __call__(self, wrapped: Any, numbers: list[int], ids: Tensor) -> tuple[Tensor, Tensor | None]:
        """The student's logits ``[batch, tokens, vocabulary]``, and the parent's where there is one.

        Args:
            wrapped: the student, as it is called in training.
            numbers: of the sequences, which name what is kept of them.
            ids: their tokens, ``[batch, tokens]``.
        """
        import torch

        with torch.no_grad():
            if self.keeps:
                # One at a time: what is kept of a sequence must not depend on those beside it.
                for number, row in zip(numbers, ids, strict=True):
                    if number not in self._kept:
                        entering, leaving = self._streams(row[None])
                        self._kept[number] = _on_cpu(entering), _on_cpu(leaving)
                kept = [self._kept[number] for number in numbers]
                entering, leaving = (_together(parts, ids.device) for parts in zip(*kept, strict=True))
            else:
                entering, leaving = self._streams(ids)
            expected = None
            if self._parent_blocks is not None:
                with passed_over(self._parent_blocks, len(self._parent_blocks), leaving):
                    expected = self._parent(input_ids=ids, use_cache=False).logits
        with passed_over(self._blocks, self.begin, entering):
            return wrapped(input_ids=ids, use_cache=False).logits, expected

    def _first(self, layout: Layout) -> int:
        """The first block that is trained or edited, or is not the parent's; 0 where anything around blocks is."""
        inside = layout.block.path + "."
        around = {n: p for n, p in self._student.named_parameters() if not n.startswith(inside)}
        if any(p.requires_grad for p in around.values()):
            return 0
        if self._parent is not None:
            same = {n: p for n, p in self._parent.named_parameters() if not n.startswith(inside)}
            if not _equal(around, same):
                return 0
        for layer, block in enumerate(self._blocks):
            own = dict(block.named_parameters())
            if layer in layout.edits.layers or any(p.requires_grad for p in own.values()):
                return layer
            if self._parent_blocks is not None and not _equal(own, dict(self._parent_blocks[layer].named_parameters())):
                return layer
        return len(self._blocks)

    def _streams(self, ids: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """What enters the block ``begin``, and what leaves the parent's last block; ``None`` where it is not needed."""
        entering = leaving = None
        if self._parent_blocks is None:
            if self.begin:
                training = self._student.training
                self._student.eval()
                entering = _run(self._student, self._blocks[self.begin - 1], ids)
                self._student.train(training)
            return entering, leaving
        if self.begin:
            entering = _run(self._parent, self._parent_blocks[self.begin - 1], ids)
        with passed_over(self._parent_blocks, self.begin, None if entering is None else entering.clone()):
            leaving = _run(self._parent, self._parent_blocks[-1], ids)
        return entering, leaving


def _run(model: Any, last: Any, ids: Tensor) -> Tensor:
    """The stream that leaves a block; what comes behind it does not run."""
    outputs: list[Tensor] = []

    def stop(_: Any, __: Any, output: Any) -> None:
        outputs.append(hidden_output(output))
        raise Reached

    with last.register_forward_hook(stop), suppress(Reached):
        model.base_model(input_ids=ids, use_cache=False)
    return outputs[0]


def _equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    if one.keys() != other.keys():
        return False
    pairs = ((tensor, other[name]) for name, tensor in one.items())
    return all(p.shape == q.shape and p.dtype == q.dtype and bool((p == q.to(p.device)).all()) for p, q in pairs)


def _on_cpu(stream: Tensor | None) -> Tensor | None:
    return None if stream is None else stream.cpu()


def _together(parts: tuple[Tensor | None, ...], device: Any) -> Tensor | None:
    import torch

    present = [part for part in parts if part is not None]
    return torch.cat(present).to(device) if present else None

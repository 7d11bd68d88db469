"""What the weights of a sublayer, or of what lies around the blocks, come to: elements, matrices, products."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from gatenorm.checkpoint import TensorSpec
from gatenorm.families import Layout
from gatenorm.families.family import value
from gatenorm.surgery.operation import operation_named

# A tensor of one expert, and one that may hold all of them, in three dimensions.
_EXPERTS_IN_ONE = re.compile(r"\.(experts|block_sparse_moe)\.")
_EXPERT = re.compile(r"\.experts\.\d+\.")


@dataclass(frozen=True)
class Mixture:
    """Experts in the place of an MLP: how many there are, and how many run for a token."""

    count: int
    active: int

    @classmethod
    def of(cls, layout: Layout) -> Mixture | None:
        """That of a family whose MLPs are mixtures; ``None`` where they are dense, or the config does not say."""
        rule = layout.data.mixture
        if not rule:
            return None
        numbers = []
        for keys in (rule.count, rule.active):
            given = (value(layout.config, layout.data, key) for key in keys)
            numbers.append(next((number for number in given if type(number) is int and number > 0), None))
        count, active = numbers
        return None if count is None or active is None else cls(count, active)


@dataclass(frozen=True)
class WeightCount:
    """What was counted of the weights of a sublayer, or of what lies around the blocks, in elements.

    Attributes:
        parameters: all of them, norms and biases included.
        matrix: those in matrices; each costs one multiplication, 2 FLOPs, a token.
        ends: rows and columns of the matrices summed: what their products read and write for one token.
        matrices: how many matrices there are.
    """

    parameters: int = 0
    matrix: int = 0
    ends: int = 0
    matrices: int = 0

    @classmethod
    def of_operation(cls, name: str, width: int) -> WeightCount:
        """What an operation stores and multiplies in a sublayer's place: nothing for removal. It has no cache.

        All that an edit costs, predicted or ideal, is computed from this.

        Raises:
            PlanError: there is no such operation.
        """
        shapes = operation_named(name).shapes(width)
        return cls.of(TensorSpec(own, "F32", shape, 4 * prod(shape)) for own, shape in shapes.items())

    @classmethod
    def of(cls, tensors: Iterable[TensorSpec], mixture: Mixture | None = None) -> WeightCount:
        """Count tensors; matrices are those of two dimensions, whichever way round they are stored, and of three, where
        experts are stored in one.

        Of a mixture's experts, those that a token runs through count as matrices.
        """
        parameters = 0
        matrices: list[tuple[int, ...]] = []
        experts: list[tuple[int, ...]] = []
        for tensor in tensors:
            parameters += prod(tensor.shape)
            if len(tensor.shape) == 3 and _EXPERTS_IN_ONE.search(tensor.name):
                experts += [tensor.shape[1:]] * tensor.shape[0]
            elif len(tensor.shape) == 2 and _EXPERT.search(tensor.name):
                experts.append(tensor.shape)
            elif len(tensor.shape) == 2 and not tensor.name.endswith("bias"):  # a mixture's biases stand in one
                matrices.append(tensor.shape)
        if mixture is not None:
            # Sorted by shape, one in every ``count`` matrices is one of a single expert's.
            matrices += sorted(experts)[:: mixture.count] * mixture.active
        return cls(
            parameters=parameters,
            matrix=sum(map(prod, matrices)),
            ends=sum(map(sum, matrices)),
            matrices=len(matrices),
        )

    def flops(self, tokens: int) -> int:
        """FLOPs of the products for ``tokens`` tokens: ``2 x matrix x tokens``."""
        return 2 * self.matrix * tokens

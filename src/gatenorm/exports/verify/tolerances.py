"""How far an engine may be from the reference before it is said to compute something else."""

from __future__ import annotations

import dataclasses
from collections.abc import Set
from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    """What is put down to arithmetic: ``most`` of the figure ``of``.

    ``near_tie``: two log-probabilities (nats) closer than this may change places, and neither choice is wrong then.
    ``reference`` says whose tensors the reference computes with.
    """

    of: str
    most: float
    near_tie: float
    reference: str = "the source's tensors"


_OWN = "the file's own tensors"
EXACT = Limit("largest_difference", 1e-3, 2e-3)
# By the type that the weights lie in: llama.cpp rounds what it multiplies them with to that type, or to 8 bits. Largest
# figures of right files (five prunings of three trained models): 0.0058 for Q8_0, 0.013 and near ties of 0.51 for the
# others. A wrong tensor is found by the comparison of tensors; with two of one layer exchanged the divergence was 0.02
# to 7.6.
_BY_TYPE = {
    "F32": EXACT,
    "F16": Limit("largest_difference", 5e-2, 1e-1),
    "BF16": Limit("largest_difference", 0.5, 1.0),
    "Q8_0": Limit("mean_kl", 0.02, 1.0, _OWN),
}
QUANTISED = Limit("mean_kl", 0.04, 1.0, _OWN)


def limit_for(types: Set[str]) -> Limit:
    """The limit for a model whose tensors are of these types: that of the coarsest.

    Raises:
        ValueError: no types.
    """
    return max((_BY_TYPE.get(kind, QUANTISED) for kind in types), key=[*_BY_TYPE.values(), QUANTISED].index)


def tolerated(tolerance: float, usual: Limit) -> Limit:
    """The limit that someone has chosen: for the largest difference of two log-probabilities."""
    return dataclasses.replace(usual, of="largest_difference", most=tolerance, near_tie=2 * tolerance)

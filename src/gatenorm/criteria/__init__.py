"""Criteria: formulas that turn a layer's attention weights into a score, without data and without a forward pass."""

from gatenorm.criteria.registry import CRITERIA, FORWARD_CRITERIA, Criterion, check_ranks, criterion
from gatenorm.criteria.scoring import score, to_score
from gatenorm.criteria.weights.compute import Backend, backend

__all__ = [
    "CRITERIA",
    "FORWARD_CRITERIA",
    "Backend",
    "Criterion",
    "backend",
    "check_ranks",
    "criterion",
    "score",
    "to_score",
]

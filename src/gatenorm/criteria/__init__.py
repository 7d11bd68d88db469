"""Criteria: formulas that turn a layer's attention weights into a score, without data and without a forward pass."""

from gatenorm.criteria.clusters import Cluster, late_cluster
from gatenorm.criteria.compute import Backend, backend
from gatenorm.criteria.registry import CRITERIA, FORWARD_CRITERIA, Criterion, check_ranks, criterion
from gatenorm.criteria.scoring import score, to_score

__all__ = [
    "CRITERIA",
    "FORWARD_CRITERIA",
    "Backend",
    "Cluster",
    "Criterion",
    "backend",
    "check_ranks",
    "criterion",
    "late_cluster",
    "score",
    "to_score",
]

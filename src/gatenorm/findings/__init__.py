"""What records say when a model is read beside the unpruned one: every figure that gates, reports and tables quote.

A record holds what was measured of one model. Here two of them become a change with its interval, once; whoever
quotes it formats it and computes nothing.
"""

from gatenorm.findings.changes import (
    Change,
    average,
    divergence,
    of_metric,
    perplexities,
    pooled,
    refusals,
    retrieval,
    rise,
    tasks,
    turned,
    within_chance,
)
from gatenorm.findings.pairs import Findings, findings
from gatenorm.findings.timings import RequestSpeedup, request_speedups

__all__ = [
    "Change",
    "Findings",
    "RequestSpeedup",
    "average",
    "divergence",
    "findings",
    "of_metric",
    "perplexities",
    "pooled",
    "refusals",
    "request_speedups",
    "retrieval",
    "rise",
    "tasks",
    "turned",
    "within_chance",
]

"""What records say when a model is read beside the unpruned one: every figure that gates, reports and tables quote.

A record holds what was measured of one model. Here two of them become a change with its interval, once; whoever
quotes it formats it and computes nothing.
"""

from gatenorm.findings.changes import (
    Change as Change,
    average as average,
    divergence as divergence,
    multistep as multistep,
    of_metric as of_metric,
    perplexities as perplexities,
    pooled as pooled,
    refusals as refusals,
    retrieval as retrieval,
    rise as rise,
    tasks as tasks,
    turned as turned,
    within_chance as within_chance,
)
from gatenorm.findings.pairs import (
    Findings as Findings,
    RequestSpeedup as RequestSpeedup,
    counterpart as counterpart,
    findings as findings,
    loss_change as loss_change,
    request_speedups as request_speedups,
)

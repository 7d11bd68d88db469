"""How much memory an audit takes at most, reckoned before anything is loaded."""

from __future__ import annotations

import os

from gatenorm.audit.plan.prepare import AuditPlan
from gatenorm.checkpoint.dtypes import COMPUTED
from gatenorm.families.family import value
from gatenorm.fitting.moments import MomentObserver
from gatenorm.models.architecture import Architecture
from gatenorm.models.batches import BatchBudget
from gatenorm.records import ATTENTION, REMOVE, Edits

# Python with PyTorch, transformers and what else evaluating imports, and what timing does.
_LIBRARIES, _TIMER = 750 << 20, 380 << 20
# Losses are computed from logits, from a copy of them without the last token, and from their log-probabilities.
_LOGITS = 3
_FLOAT32 = 4


def memory(plan: AuditPlan) -> int:
    """Bytes that all processes take together: while models are measured or fitted, or while they are timed in turns."""
    if not plan.runs:
        return _LIBRARIES
    twice = plan.config.recovery.enabled or any(one.paired for one in plan.evaluations)
    working = _LIBRARIES + plan.layout.nbytes + (1 + twice) * _loaded(plan) + max(_logits(plan), _sums(plan))
    timed = min(side_by_side(plan), 1 + plan.candidates + plan.further_candidates) if plan.config.speed.engines else 0
    timing = _LIBRARIES + timed * _timer(plan)
    return max(working, timing)


def side_by_side(plan: AuditPlan) -> int:
    """How many models are timed at once: as many as fit into half of the memory, two at least, all where few."""
    chosen = plan.config.speed.side_by_side
    if chosen is not None:
        return chosen
    if plan.config.run.device != "cpu" or not hasattr(os, "sysconf"):
        return 2
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(2, min(8, available // 2 // _timer(plan)))


def _timer(plan: AuditPlan) -> int:
    """Of a process that times the model: what is stored is read into memory too."""
    return _TIMER + plan.layout.nbytes + _loaded(plan)


def _loaded(plan: AuditPlan) -> int:
    """The weights in the type that they are computed in."""
    stored = COMPUTED.get(plan.config.run.dtype, COMPUTED["float32"])
    return Architecture.of(plan.layout).parameters * stored.itemsize


def _logits(plan: AuditPlan) -> int:
    """Of the largest batch; some evaluations need those of the last tokens only."""
    run, vocabulary = plan.config.run, int(value(plan.layout.config, plan.layout.data, "vocab_size") or 1)
    budget = BatchBudget(run.device, vocabulary, run.batch_size)
    whole = (work for one in plan.evaluations if not one.last_logits for work in one.passes)
    tokens = (work.tokens * budget.rows(work.tokens) for work in whole)
    return _LOGITS * _FLOAT32 * vocabulary * max(tokens, default=0)


def _sums(plan: AuditPlan) -> int:
    """What fits add up of the sublayers of all candidates; rankings may choose different ones."""
    counts = {name: b.count * len(plan.requested) for b in plan.budgets for name in b.operations if name != REMOVE}
    layers, sources = plan.layout.attention_layers, len(plan.config.budgets.fit)
    edits = (Edits.of(ATTENTION, layers[:count], name) for name, count in counts.items())
    return max((MomentObserver.nbytes(plan.layout, some, sources) for some in edits), default=0)

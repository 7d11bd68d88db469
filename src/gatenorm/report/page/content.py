"""The whole report as blocks: what it says, apart from what it is written as."""

from __future__ import annotations

from gatenorm.records.audit import FALLS, STANDS, Audit
from gatenorm.report.page import audit_view as measured
from gatenorm.report.page import long_range as distance
from gatenorm.report.page import quality, sources
from gatenorm.report.page import ranking as choosing
from gatenorm.report.page import speed as timing
from gatenorm.report.page import verdict as judging
from gatenorm.report.page.blocks import BAD, GOOD, OPEN, Report


def report(audit: Audit) -> Report:
    """An audit as a report: the verdict and the table of variants, then what they rest on."""
    outcome, tone = _outcome(audit)
    when = audit.provenance.get("ended") or audit.provenance.get("began") or audit.provenance.get("date") or ""
    return Report(
        title="Audit of attention sublayers",
        model=audit.model.name,
        when=str(when),
        verdict=audit.verdict,
        tone=tone,
        badge=outcome,
        counts=judging.counts(audit),
        summary=judging.summary(audit),
        sections=(
            judging.cautions(audit),
            choosing.depth(audit),
            quality.tradeoff(audit),
            choosing.agreement(audit),
            quality.behaviour(audit),
            distance.section(audit),
            timing.section(audit),
            judging.gates(audit),
            sources.evidence(audit),
            judging.limits(audit),
            sources.workflow(audit),
            sources.provenance(audit),
        ),
    )


def _outcome(audit: Audit) -> tuple[str, str]:
    variant = measured.chosen(audit)
    if variant is not None and variant.outcome == STANDS:
        return f"{measured.title(variant)} stands", GOOD
    own = measured.candidates(audit)
    if own and all(v.outcome == FALLS for v in own):
        return "no variant stands", BAD
    return "not proven", OPEN

"""The whole report as blocks, whatever the format."""

from gatenorm.records.audit import FAILS, QUALITY, SAFETY, SPEED, Audit
from gatenorm.report.page import audit_view, gates, long_range, quality, ranking, sources, speed, verdict
from gatenorm.report.page.blocks import Report
from gatenorm.report.page.wording import minute, tone


def report(audit: Audit) -> Report:
    """An audit as a report: the verdict and the table of variants, then what they rest on."""
    return Report(
        title="Audit of attention sublayers",
        model=audit.model.name,
        when=minute(audit.provenance.ended or audit.provenance.began),
        verdict=audit.verdict,
        tone=tone(audit.verdict.outcome),
        badge=_badge(audit),
        picture=verdict.picture(audit),
        unexamined=", ".join(gap.what for gap in audit.not_examined),
        counts=verdict.counts(audit),
        summary=verdict.summary(audit),
        grounds={
            QUALITY: ("quality against speed", "tradeoff"),
            SPEED: ("every timing", "speed"),
            SAFETY: ("the replies that changed", quality.TURNED)
            if quality.shows_turned(audit)
            else ("tasks and refusals", "behaviour"),
        },
        sections=(
            verdict.cautions(audit),
            ranking.depth(audit),
            quality.tradeoff(audit),
            ranking.agreement(audit),
            quality.behaviour(audit),
            long_range.section(audit),
            speed.section(audit),
            gates.section(audit),
            sources.evidence(audit),
            verdict.limits(audit),
            ranking.baselines(audit),
            sources.workflow(audit),
            sources.provenance(audit),
        ),
    )


def _badge(audit: Audit) -> str:
    variant = audit_view.chosen(audit)
    if variant is not None:
        return f"{audit_view.title(variant)} {audit.verdict.outcome}"
    return "no variant passes" if audit.verdict.outcome == FAILS else audit.verdict.outcome

"""The whole report as blocks, whatever the format."""

from gatenorm.records.audit import FAILS, INCONCLUSIVE, PASSES, QUALITY, SAFETY, SPEED, Audit
from gatenorm.report.page import audit_view, gates, long_range, quality, ranking, sources, speed, verdict
from gatenorm.report.page.blocks import BAD, GOOD, OPEN, Report
from gatenorm.report.page.wording import minute


def report(audit: Audit) -> Report:
    """An audit as a report: the verdict and the table of variants, then what they rest on."""
    outcome, tone = _outcome(audit)
    return Report(
        title="Audit of attention sublayers",
        model=audit.model.name,
        when=minute(audit.provenance.ended or audit.provenance.began),
        verdict=audit.verdict,
        tone=tone,
        badge=outcome,
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


def _outcome(audit: Audit) -> tuple[str, str]:
    variant = audit_view.chosen(audit)
    if variant is not None and variant.outcome == PASSES:
        return f"{audit_view.title(variant)} {PASSES}", GOOD
    own = audit_view.candidates(audit)
    if own and all(v.outcome == FAILS for v in own):
        return "no variant passes", BAD
    return INCONCLUSIVE, OPEN

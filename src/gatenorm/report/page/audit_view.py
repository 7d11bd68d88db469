"""What was measured of a variant beside the unpruned model, read out of an audit's evidence."""

from gatenorm.findings import Findings
from gatenorm.records.audit import CANDIDATE, RECOVERED, Audit, AuditedVariant, CostCase
from gatenorm.records.evidence import Speed, of_type
from gatenorm.surgery.operation import participles


def title(variant: AuditedVariant) -> str:
    """What a variant is called in charts and lists: recovered ones are marked."""
    return f"{variant.name} (recovered)" if variant.state == RECOVERED else variant.name


def tags(variant: AuditedVariant) -> tuple[str, ...]:
    """The marks that a variant bears wherever it is named: what was recovered is another model."""
    return ("recovered",) if variant.state == RECOVERED else ()


def candidates(audit: Audit) -> list[AuditedVariant]:
    """The variants that could be taken, the chosen one first."""
    own = [v for v in audit.variants if v.role == CANDIDATE]
    return sorted(own, key=lambda v: v.name != audit.chosen)


def comparisons(audit: Audit) -> list[AuditedVariant]:
    """The variants that are there to be beaten."""
    return [v for v in audit.variants if v.role != CANDIDATE]


def chosen(audit: Audit) -> AuditedVariant | None:
    """The variant that the verdict recommends."""
    return next((v for v in audit.variants if v.name == audit.chosen), None)


def verb(audit: Audit) -> str:
    """What the variants do to sublayers, in a word: ``removed``, or ``edited`` where some have others put in place."""
    done = participles(edit for variant in audit.variants for edit in variant.plan.added)
    return done if done == "removed" else "edited"


def findings(audit: Audit, variant: AuditedVariant) -> Findings:
    """What was measured of a variant beside the unpruned model."""
    return Findings.of_records(audit.baseline, variant.evidence)


def speeds(variant: AuditedVariant) -> list[Speed]:
    """What was timed against the unpruned model, the longest prompt last."""
    own = [e for e in of_type(variant.evidence, Speed) if e.compared]
    return sorted(own, key=lambda s: (s.protocol.prompt_tokens, -s.protocol.batch))


def quoted_request(audit: Audit) -> tuple[str, int, int] | None:
    """The engine, length and batch that the verdict quotes, and with it the first screen and the charts."""
    own = sorted(candidates(audit), key=lambda v: v.name != audit.verdict.about)
    quoted = next((v.cost_benefit.quoted for v in own if v.cost_benefit), None)
    return None if quoted is None else (quoted.engine, quoted.prompt_tokens, quoted.batch)


def quoted_speed(audit: Audit, variant: AuditedVariant) -> Speed | None:
    """This variant's timing of the quoted request."""
    quoted, own = quoted_request(audit), ((s, s.protocol) for s in speeds(variant))
    return next((s for s, at in own if (at.engine, at.prompt_tokens, at.batch) == quoted), None)


def quoted_case(audit: Audit, variant: AuditedVariant) -> CostCase | None:
    """The speed-up of the quoted request as a whole, with its interval."""
    quoted = quoted_request(audit)
    cases = variant.cost_benefit.cases if variant.cost_benefit else ()
    return next((c for c in cases if (c.engine, c.prompt_tokens, c.batch) == quoted), None)


def engines(audit: Audit) -> list[str]:
    """The engines that anything was timed in."""
    return list(dict.fromkeys(s.protocol.engine for v in audit.variants for s in speeds(v)))

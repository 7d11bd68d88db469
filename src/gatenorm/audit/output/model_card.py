"""The part of the evidence that a variant's model card carries."""

from pathlib import Path

from gatenorm.files import write_text
from gatenorm.records import spans
from gatenorm.records.audit import AuditedVariant
from gatenorm.records.evidence import Comparison
from gatenorm.report.gate_figures import amount, figure, interval
from gatenorm.surgery.card import with_evidence
from gatenorm.surgery.operation import participles


def write_card(directory: Path, variant: AuditedVariant, baseline: str) -> None:
    """Put what the audit found into the model card of a variant; what an earlier audit put there is replaced.

    Raises:
        OutputError: it cannot be written.
    """
    card = directory / "README.md"
    text = with_evidence(card.read_text(encoding="utf-8"), section(variant, baseline))
    write_text(card, text)


def section(variant: AuditedVariant, baseline: str) -> str:
    """Markdown: the outcome, the gates, the figures with their protocols."""
    lines = [
        f"Audited against {baseline} by gatenorm: **{variant.outcome}**"
        + (f" ({variant.rejected})" if variant.rejected else "")
        + f". Attention {participles(variant.plan.added)} in layers {spans(variant.plan.added.attention)} "
        f"({variant.share:.1%}), chosen by `{variant.criterion}`.",
        "",
        "| gate | figure | interval | limit | outcome |",
        "|---|---:|---|---:|---|",
    ]
    for gate in variant.gates:
        lines.append(
            f"| {gate.gate} | {figure(gate)} | {interval(gate)} | {amount(gate.limit, gate.unit)} | {gate.outcome} |"
        )
    lines += ["", "| measured | figures | protocol |", "|---|---|---|"]
    for evidence in variant.evidence:
        if isinstance(evidence, Comparison) or not evidence.numbers():
            continue
        figures = ", ".join(f"{name} {value:.4g}" for name, value in list(evidence.numbers().items())[:4])
        name = evidence.data.name
        protocol = "; ".join(
            f"{key.replace('_', ' ')} {value}" for key, value in evidence.facts().items() if _short(value)
        )
        lines.append(f"| {evidence.kind}, {_cell(name)} | {figures} | {_cell(protocol)} |")
    if variant.cost_benefit is not None:
        lines += ["", variant.cost_benefit.sentence]
    return "\n".join(lines)


def _short(value: object) -> bool:
    return isinstance(value, (int, float, str)) and len(str(value)) <= 80


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")

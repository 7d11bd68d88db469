"""The report's sources: every measurement with its protocol, the steps with their commands, versions and hashes."""

from gatenorm.records import Evidence, Scores, to_json
from gatenorm.records.audit import Audit
from gatenorm.records.evidence import Comparison, Speed
from gatenorm.records.numbers import duration
from gatenorm.report.page.audit_view import candidates, comparisons, title
from gatenorm.report.page.blocks import (
    Block,
    Cell,
    Code,
    Details,
    Facts,
    Heading,
    Row,
    Section,
    Table,
    Text,
    numeric,
)
from gatenorm.report.page.wording import NONE, facts, number, size, tone, words

_FIGURES = 6
_DIGEST = 12


def evidence(audit: Audit) -> Section:
    """Every measurement in a row, and behind it its protocol."""
    groups = [("unpruned", audit.baseline)]
    groups += [(title(v), v.evidence) for v in (*candidates(audit), *comparisons(audit))]
    blocks: list[Block] = [
        Text(
            "Every figure of this report is read from one of these records; `audit.json` beside this page holds them "
            "whole, item by item."
        )
    ]
    for name, records in groups:
        if not records:
            continue
        table = Table.of_rows(f"Measurements of {name}", [_record(record) for record in records], wide=True)
        blocks.append(Details(f"{name}: {len(records)} records", (table, *_protocols(records)), printed=True))
    return Section("evidence", "Evidence and protocols", tuple(blocks))


def _record(record: Evidence) -> Row:
    about = record.task
    if isinstance(record, Speed):
        at = record.protocol
        about = f"{at.engine}, {at.prompt_tokens} tokens, batch {at.batch}"
    if isinstance(record, Comparison):
        about = f"{record.of}: {about}" if about else record.of
    shown = [(k, v) for k, v in record.numbers().items() if not k.endswith(("_stderr", "_low", "_high", "_items"))]
    figures = "; ".join(f"{words(k)} {number(v)}" for k, v in shown[:_FIGURES])
    more = f"and {len(shown) - _FIGURES} more" if len(shown) > _FIGURES else ""
    return {
        "Measurement": Cell(record.kind, note=about),
        "Figures": Cell(figures or str(record.facts().get("skipped", NONE)), note=more),
        "Data": record.data.name or NONE,
        "SHA-256": record.data.sha256[:_DIGEST] or NONE,
        numeric("Took"): duration(record.seconds) if record.seconds else NONE,
    }


def _protocols(records: tuple[Evidence, ...]) -> list[Block]:
    groups: dict[tuple[str, tuple[tuple[str, str], ...]], list[str]] = {}
    for record in records:
        leave = ("task", "asks", "baseline", "label", "order", "prompt_tokens", "distance", "mean_tokens")
        own = facts(record.facts(), leave)
        data = {f"data {words(k)}": v for k, v in to_json(record.data).items() if k in ("split", "seed", "from")}
        groups.setdefault((record.kind, (*own, *facts(data))), []).append(record.task or record.kind)
    return [
        Details(f"Protocol of {kind}{_names(names, kind)}", (Facts(own),))
        for (kind, own), names in groups.items()
        if own
    ]


def _tokens(scores: Scores) -> tuple[tuple[str, str], ...]:
    """Which tokens a ranking looked at, or the seed that it was drawn with."""
    return facts({"seed": scores.seed} if scores.calibration is None else scores.calibration.to_dict())


def _names(names: list[str], kind: str) -> str:
    different = [n for n in dict.fromkeys(names) if n != kind]
    return f": {', '.join(different)}" if different else ""


def workflow(audit: Audit) -> Section:
    """The steps, what each found, how long it took, and the command that repeats it."""
    rows: list[Row] = [
        {
            numeric("Step"): str(n),
            "Name": step.name,
            "Status": Cell(step.status, badge=tone(step.status)),
            "Found": step.detail,
            numeric("Took"): duration(step.seconds) if step.seconds else NONE,
        }
        for n, step in enumerate(audit.steps, 1)
    ]
    blocks: list[Block] = [Table.of_rows("The steps of this audit", rows)]
    commands: dict[str, list[str]] = {}
    for step in audit.steps:
        if step.command:
            commands.setdefault(step.command, []).append(step.name)
    if commands:
        blocks.append(Heading("Commands that repeat the figures"))
    for command, names in commands.items():
        blocks += [Text(f"{', '.join(names).capitalize()}:"), Code(command)]
    return Section("workflow", "Steps and commands", tuple(blocks))


def provenance(audit: Audit) -> Section:
    """Which model, which software, which machine, which seeds, which data."""
    model = audit.model
    files: list[Row] = [
        {"File": name, numeric("Size"): Cell(size(count), note=f"{count:,} bytes")}
        for name, count in model.files.items()
    ]
    identity = (
        ("name", model.name),
        ("model type", model.model_type),
        ("layers", str(model.layers)),
        ("SHA-256 of config.json", model.config_sha256),
        *((("SHA-256 of samples of the weights", model.sample_sha256),) if model.sample_sha256 else ()),
    )
    blocks: list[Block] = [
        Heading("Model"),
        Facts(identity),
        Table.of_rows("Weight files", files),
        Heading("Run"),
        Facts((*((("gatenorm", audit.version),) if audit.version else ()), *facts(to_json(audit.provenance)))),
    ]
    rankings = [
        (s.criterion, f"{said}; {duration(s.seconds)}")
        for s in audit.scores
        if (said := "; ".join(f"{k} {v}" for k, v in _tokens(s)))
    ]
    if rankings:
        blocks += [Heading("Tokens and seeds of the rankings"), Facts(tuple(rankings))]
    if audit.config:
        blocks += [Heading("Configuration"), Facts(facts(audit.config))]
    return Section("provenance", "Provenance", tuple(blocks))

"""The report on gains: speed by length beside the ideal, memory, cost."""

from gatenorm.records import to_json
from gatenorm.records.audit import Audit, CostCase
from gatenorm.records.evidence import Speed, of_type
from gatenorm.report.figures.evaluations import rows_figure
from gatenorm.report.figures.series import Point, Series
from gatenorm.report.page import audit_view
from gatenorm.report.page.audit_view import title
from gatenorm.report.page.blocks import Block, Cell, Chart, Facts, Heading, Row, Section, Table, Text, numeric
from gatenorm.report.page.wording import NONE, facts, number, percent, size, span, times

_IDEAL = ", ideal"
# Of the ideal speed-up: what is above it by a tenth is noise.
_BEYOND = 1.1


def section(audit: Audit) -> Section:
    """Speed-up by length, a chart for each engine and phase; times, cache and memory; money."""
    blocks: list[Block] = []
    for engine in audit_view.engines(audit):
        blocks += [Heading(f"In {engine}"), *(_chart(audit, engine, phase) for phase in ("prefill", "decode"))]
        blocks.append(_times(audit, engine))
    if blocks:
        blocks.insert(
            0,
            Text(
                "Variants and the unpruned model were timed in turns, so that load on the machine affects all of them; "
                "each figure is the median of the rounds, with the smallest and largest. The ideal is the speed-up if "
                "editing a sublayer saved exactly the time that it took, less that of what replaces it."
            ),
        )
    else:
        blocks.append(Text("Nothing was timed: see what was not examined."))
    blocks += _cost(audit)
    return Section("speed", "Speed, memory, cost", tuple(blocks))


def _chart(audit: Audit, engine: str, phase: str) -> Chart:
    own = audit_view.candidates(audit)
    points: dict[str, list[Point]] = {}
    rows: list[Row] = []
    for variant in own:
        for s in (s for s in audit_view.speeds(variant) if s.protocol.engine == engine):
            taken = s.phase(phase)
            speedup, achieved = taken.speedup, taken.achieved
            assert speedup is not None  # as `speeds` has chosen them
            at = f"{s.protocol.prompt_tokens:,} tokens" + (
                f", batch {s.protocol.batch}" if s.protocol.batch > 1 else ""
            )
            row, ends = title(variant), (speedup.low, speedup.high)
            tip = f"{row}, {at}: {times(speedup.median)}"
            points.setdefault(at, []).append(Point(speedup.median, row, tip, *ends))
            if taken.ideal is not None:
                points.setdefault(f"{at}, ideal", []).append(
                    Point(taken.ideal, row, f"{tip}, ideal {times(taken.ideal)}")
                )
            rows.append(
                {
                    "Variant": title(variant),
                    numeric("Prompt", "tokens"): f"{s.protocol.prompt_tokens:,}",
                    numeric("Batch"): str(s.protocol.batch),
                    numeric("Speed-up", "×"): times(speedup.median),
                    numeric("Smallest to largest", "×"): span(speedup.low, speedup.high, times),
                    numeric("Ideal", "×"): times(taken.ideal),
                    numeric("Achieved of ideal", "%"): NONE if achieved is None else percent(achieved, 0),
                }
            )
    known = any(name.endswith(_IDEAL) for name in points)
    ideal = "Open marks are the ideal." if known else "No ideal is known for this engine."
    timed = (s.phase(phase) for v in own for s in audit_view.speeds(v) if s.protocol.engine == engine)
    if any((one.achieved or 0) > _BEYOND for one in timed):
        ideal += " What is much faster than its ideal, the edits do not explain: the machine was busy, time it again."
    lengths = [name for name in points if not name.endswith(_IDEAL)]
    series = [
        Series(
            name,
            tuple(own),
            lengths.index(name.removesuffix(_IDEAL)),
            marks="hollow" if name not in lengths else "filled",
        )
        for name, own in points.items()
    ]
    return Chart(
        name=f"speed-{phase}-{audit_view.engines(audit).index(engine)}",
        title=f"{phase.capitalize()} speed-up of each variant, {engine}",
        says=f"A row for each variant; bars span the rounds. {ideal} Left of the dotted line at 1 a variant is slower.",
        figure=rows_figure(series, f"{phase} speed-up (×)", reference=1, legend=lengths),
        table=Table.of_rows(f"{phase.capitalize()} speed-up in {engine}", rows),
    )


def _times(audit: Audit, engine: str) -> Table:
    rows: list[Row] = []
    models = [("unpruned", e) for e in of_type(audit.baseline, Speed)]
    models += [(title(v), s) for v in audit_view.candidates(audit) for s in audit_view.speeds(v)]
    own = [(name, e) for name, e in models if e.measured and e.protocol.engine == engine]
    for name, e in sorted(own, key=lambda m: (m[1].protocol.prompt_tokens, m[1].protocol.batch)):
        figures = e.numbers()
        rows.append(
            {
                "Model": name,
                numeric("Prompt", "tokens"): f"{e.protocol.prompt_tokens:,}",
                numeric("Batch"): str(e.protocol.batch),
                numeric("Prefill", "ms"): number(1000 * figures["prefill_seconds"], 3),
                numeric("First token", "ms"): number(1000 * figures["first_token_seconds"], 3),
                numeric("Decode", "tokens/s"): number(figures["decode_tokens_per_second"], 3),
                numeric("Key/value cache"): Cell(size(e.cache_bytes), note=_saved(e.cache_share_removed)),
                numeric("Peak memory of the process"): size(e.peak_bytes),
            }
        )
    return Table.of_rows(f"Times and memory in {engine}, medians", rows, wide=True)


def _saved(saved: float | None) -> str:
    return "" if saved is None else f"{percent(saved)} saved"


def _cost(audit: Audit) -> list[Block]:
    blocks: list[Block] = [Heading("Cost")]
    own = [v for v in audit_view.candidates(audit) if v.cost_benefit]
    if not any(v.cost_benefit.price_per_hour for v in own if v.cost_benefit):
        blocks.append(
            Text("No price was given, so no cost is given: set `cost.price_per_hour` for the cost per million tokens.")
        )
    rows: list[Row] = []
    currency = next((v.cost_benefit.currency for v in own if v.cost_benefit and v.cost_benefit.currency), "")
    unit = f"{currency} a million tokens".strip()
    for variant in own:
        assert variant.cost_benefit is not None
        blocks += [Text(f"{title(variant)}: {variant.cost_benefit.sentence}")]
        rows += [_case(title(variant), case, unit) for case in variant.cost_benefit.cases]
        plain = facts({k: v for k, v in to_json(variant.cost_benefit).items() if k not in ("sentence", "cases")})
        blocks += [Facts(plain)] if plain else []
    if rows:
        blocks.append(Table.of_rows("Cost of a request before and after, from the measured times", rows, wide=True))
    return blocks


def _case(name: str, case: CostCase, unit: str) -> Row:
    ends = span(case.request_speedup_low, case.request_speedup_high, times)
    return {
        "Variant": name,
        "Engine": case.engine,
        numeric("Prompt + new", "tokens"): f"{case.prompt_tokens:,} + {case.new_tokens:,}",
        numeric("Batch"): str(case.batch),
        numeric("Whole request", "×"): Cell(times(case.request_speedup), note=ends),
        numeric("Before", unit): number(case.cost_per_million_before),
        numeric("After", unit): number(case.cost_per_million_after),
    }

"""The audit's report as content: every figure of the record is there, in both forms."""

from __future__ import annotations

import html as entities
import json
import re

import pytest
from msgspec import structs

from gatenorm.evaluation.statistics.paired_statistics import compare
from gatenorm.records import Edits, from_json, spans, to_json
from gatenorm.records.audit import (
    CANDIDATE,
    FAILS,
    INCONCLUSIVE,
    PASSES,
    PRUNED,
    RECOVERED,
    Audit,
    Command,
    NotExamined,
    Probe,
    Search,
    StepName,
)
from gatenorm.records.evidence import (
    MULTISTEP,
    Comparison,
    Data,
    Evidence,
    Figure,
    Measurements,
    Multistep,
    Perplexity,
    Speed,
    TaskItem,
    of_type,
)
from gatenorm.report.figures.drawing import WIDE, svg
from gatenorm.report.page.audit_view import quoted_case, quoted_speed, speeds
from gatenorm.report.page.blocks import Block, Cell, Chart, Charts, Details, Facts, Report, Table
from gatenorm.report.page.content import report
from gatenorm.report.page.html import html
from gatenorm.report.page.markdown import markdown
from gatenorm.report.page.ranking import rankings_table
from gatenorm.report.page.verdict import variants_table
from gatenorm.report.page.wording import NONE, number
from gatenorm.surgery.operation import Operation
from tests.report.audits import audit, cost_benefit, own_prompts, with_english_tasks


def first_screen(content: Report) -> dict[str, dict[str, Cell]]:
    """The first table by variant and column."""
    table = content.summary[0]
    assert isinstance(table, Table)
    titles = [column.title for column in table.columns]
    return {row[0].text: dict(zip(titles, row, strict=True)) for row in table.rows}


def charts_of(content: Report) -> list[Chart]:
    """All charts, in order."""

    def within(blocks: tuple[Block, ...]) -> list[Chart]:
        charts: list[Chart] = []
        for block in blocks:
            if isinstance(block, Chart):
                charts.append(block)
            elif isinstance(block, Charts):
                charts += block.items
            elif isinstance(block, Details):
                charts += within(block.blocks)
        return charts

    first = [content.picture] if content.picture else []
    return first + within(content.summary) + [chart for s in content.sections for chart in within(s.blocks)]


def test_the_first_screen_leads_to_the_replies_that_changed():
    with_replies, without = (html(report(one)) for one in (with_english_tasks(audit("demo")), audit("demo")))
    assert '<a href="#turned">The replies that changed</a>' in with_replies
    assert '<table id="turned"' in with_replies
    assert "#turned" not in without
    assert '<a href="#behaviour">Tasks and refusals</a>' in without


def test_both_forms_say_the_same(measured: Audit):
    content = report(measured)
    page, text = entities.unescape(html(content)), markdown(content)
    shown = re.sub(r"\\(.)", r"\1", entities.unescape(text))
    said = measured.verdict
    assert said.next is not None
    for sentence in (
        said.headline,
        said.reason,
        said.ranking,
        said.next.command,
        *(j.sentence for j in said.judgements),
    ):
        assert sentence in page
        assert sentence in shown
    for variant in measured.variants:
        assert variant.name in page
        assert variant.name in shown
        for gate in variant.gates:
            assert gate.reason in page
            assert gate.reason in shown
    for warning in measured.warnings:
        assert warning.message in page
        assert warning.message in shown
    for gap in measured.not_examined:
        assert gap.what in page
        assert gap.how in shown
    assert measured.model.config_sha256 in page
    assert measured.model.config_sha256 in shown
    for chart in charts_of(content):
        for cell in (cell for row in chart.table.rows for cell in row):
            assert cell.text in page
        assert chart.title in shown


def test_the_first_screen_holds_the_records_figures(measured: Audit):
    rows = first_screen(report(measured))
    candidates = [v for v in measured.variants if v.role == CANDIDATE]
    assert rows.keys() == {v.name for v in candidates}
    for variant in candidates:
        row = rows[variant.name]
        before = of_type(measured.baseline, Perplexity)[0].perplexity
        after = of_type(variant.evidence, Perplexity)[0].perplexity
        assert row["Perplexity"].text == f"{number(before)} → {number(after)}"
        assert f"{100 * (after / before - 1):+.1f}".replace("-", "−") in row["Perplexity"].note
        assert (
            row["Attention removed"].note
            == f"{len(variant.plan.edits.attention)} of {measured.model.layers}, {variant.share:.1%}"
        )
        assert row["Outcome"].text == variant.outcome
        assert row["Outcome"].badge == {PASSES: "good", FAILS: "bad", INCONCLUSIVE: "open"}[variant.outcome]
        speeds = [e for e in of_type(variant.evidence, Speed) if e.protocol.engine == "transformers"]
        longest = max(speeds, key=lambda e: e.protocol.prompt_tokens).numbers()
        assert row["Prefill"].text == f"{longest['prefill_speedup']:.2f}×"
        assert row["Prefill"].note == f"ideal {longest['prefill_ideal']:.2f}×"
        assert row["Decode"].text == f"{longest['decode_speedup']:.2f}×"
        assert row["Cache saved"].text == f"{100 * longest['cache_share_removed']:.0f}%"


def test_a_model_pruned_twice_shows_what_this_step_removes_and_its_share(measured: Audit):
    """Not all layers ever removed beside the share of the last step."""
    variant = next(v for v in measured.variants if v.role == CANDIDATE)
    before, added = Edits.of("attention", [0, 1, 2]), Edits.of("attention", [9, 10])
    first = structs.replace(variant.plan, edits=before, previous=None)
    present = measured.model.layers - 3
    share, plan = 2 / present, structs.replace(variant.plan, edits=before | added, previous=first)
    twice = structs.replace(variant, share=share, present=present, plan=plan)
    content = report(structs.replace(measured, variants=(twice,), chosen=None))
    cell = first_screen(content)[variant.name]["Attention removed"]
    assert (cell.text, cell.note) == ("9, 10", f"2 of {present}, {share:.1%}")
    row = next(c for c in charts_of(content) if c.name == "removed").table.rows[0]
    assert [c.text for c in row[2:]] == ["9, 10", "2", f"{share:.1%}"]


def test_the_report_says_what_each_operation_does(measured: Audit, monkeypatch: pytest.MonkeyPatch):
    named = {"remove": Operation("", "removed"), "linear": Operation("", "replaced by a linear map")}
    monkeypatch.setattr("gatenorm.surgery.operation.operation_named", named.__getitem__)
    variant = next(v for v in measured.variants if v.role == CANDIDATE)
    layers = variant.plan.edits.attention
    other = structs.replace(
        variant, name="other", plan=structs.replace(variant.plan, edits=Edits.of("attention", layers, "linear"))
    )
    content = report(structs.replace(measured, variants=(variant, other)))
    rows = first_screen(content)
    assert rows[variant.name]["Attention edited"].note.endswith("%, removed")
    assert rows["other"]["Attention edited"].note.endswith("%, replaced by a linear map")
    chart = next(c for c in charts_of(content) if c.name == "removed")
    assert chart.title == "Attention edited in each variant"
    assert f"other, layer {layers[0]}: replaced by a linear map" in svg(chart.figure(WIDE))


def test_flips_are_those_of_the_items(measured: Audit):
    rows = first_screen(report(measured))
    for variant in (v for v in measured.variants if v.role == CANDIDATE):
        about = [e for e in of_type(variant.evidence, Comparison) if "refusal" in (e.of, e.task)]
        changes = [change for e in about for change in e.changes.values() if change.won is not None]
        cell = rows[variant.name]["Refusal flips"]
        gate = next(gate for gate in variant.gates if gate.gate == "refusal-flips")
        assert cell.text == str(sum(change.lost or 0 for change in changes)) == f"{gate.value:.0f}"
        assert cell.note.endswith(f"{sum(change.won or 0 for change in changes)} turned right")


def test_every_measurement_stands_in_the_evidence(measured: Audit):
    page = html(report(measured))
    rows = page[page.index('id="evidence"') : page.index('id="limits"')].count("<tr><th")
    records = len(measured.baseline) + sum(len(v.evidence) for v in measured.variants)
    assert rows - page[page.index('id="evidence"') : page.index('id="limits"')].count("<thead>") == records


def test_every_chart_has_a_text_and_a_table_of_its_numbers(measured: Audit):
    charts = charts_of(report(measured))
    assert len({chart.name for chart in charts}) == len(charts) >= 9
    for chart in charts:
        assert len(chart.says) > 40
        assert chart.table.rows
        assert all(len(row) == len(chart.table.columns) for row in chart.table.rows)
        chart.figure(WIDE).to_dict(validate=True)
    names = {chart.name for chart in charts}
    assert {"scores-0", "removed", "tradeoff", "perplexity", "selection", "correlation"} <= names
    assert {"retrieval-change", "speed-prefill-0", "speed-decode-0"} <= names


def test_the_long_range_of_an_english_model_is_drawn_as_heat_maps():
    charts = {chart.name: chart for chart in charts_of(report(with_english_tasks(audit("demo"))))}
    maps = [chart for name, chart in charts.items() if re.fullmatch(r"retrieval-\d", name)]
    assert len(maps) == 6  # two forms; unpruned, the chosen variant, the one with the most removed
    assert "positions" in charts


def test_the_marked_layers_are_the_chosen_variants(measured: Audit):
    chart = next(c for c in charts_of(report(measured)) if c.name == "scores-0")
    bars = re.findall(r'<path [^>]*fill="#E69F00"[^>]*><title>layer (\d+):', svg(chart.figure(WIDE)))
    shown = next((v for v in measured.variants if v.name == measured.chosen), None)
    shown = shown or next(v for v in measured.variants if v.role == CANDIDATE)
    assert sorted(map(int, bars)) == list(shown.plan.added.attention)


def test_what_was_recovered_is_marked_apart_everywhere():
    one = audit("demo")
    variants = tuple(structs.replace(v, state=RECOVERED) if n == 1 else v for n, v in enumerate(one.variants))
    content = report(structs.replace(one, variants=variants))
    name = f"{variants[1].name} (recovered)"
    row = next(row for row in content.summary[0].rows if row[0].text == variants[1].name)
    assert "recovered" in row[0].tags
    for chart in charts_of(content):
        cells = [cell for row in chart.table.rows for cell in row] + [Cell(c.title) for c in chart.table.columns]
        bare = [cell for cell in cells if cell.text == variants[1].name and "recovered" not in cell.tags]
        assert not bare, chart.name
        drawn = svg(chart.figure(WIDE))
        assert name in drawn or variants[1].name not in drawn, chart.name
    assert '<span class="tag recovered">recovered</span>' in html(content)
    assert r"**[recovered]**" in markdown(content)


def test_an_audit_with_hardly_anything_in_it():
    one = audit("demo")
    empty = structs.replace(
        one, variants=(), baseline=Measurements(), scores=(), warnings=(), not_examined=(), steps=(), chosen=None
    )
    undecided = structs.replace(one.verdict, outcome=INCONCLUSIVE, about=None)
    empty = structs.replace(empty, config={}, cross_check=None, comparison=None, verdict=undecided)
    content = report(empty)
    page, text = html(content), markdown(content)
    assert content.badge == INCONCLUSIVE
    assert "see what was not examined" in page
    assert "There is no candidate." in text
    bare = tuple(structs.replace(v, evidence=Measurements(), gates=()) for v in one.variants)
    assert "Nothing was timed" in html(report(structs.replace(one, variants=bare, baseline=Measurements())))


def test_cost_and_search_are_shown():
    one = audit("demo")
    money = {"cost_per_million_before": 1.25, "cost_per_million_after": 1.0}
    saved = cost_benefit("transformers", 448, 1, 1.25, **money)
    variants = (structs.replace(one.variants[0], cost_benefit=saved), *one.variants[1:])
    gate = one.variants[0].gates[0]
    probes = tuple(Probe(removed=n, gate=structs.replace(gate, outcome=o)) for n, o in ((4, PASSES), (6, FAILS)))
    search = Search(
        gate=gate.gate, ranking="gate-norm", limit=gate.limit, found=4, assumption="larger costs more", probes=probes
    )
    content = report(structs.replace(one, variants=variants, search=search))
    page = entities.unescape(html(content))
    assert "Pays here." in page
    assert "Search for the largest budget that passes" in page
    rows = first_screen(content)
    cell = rows[variants[0].name]["Cost"]
    assert (cell.text, cell.note) == ("1.25 → 1", "EUR a million tokens, −20.0%")
    assert rows[variants[1].name]["Cost"].text == "–"


def test_the_first_table_speaks_of_the_engine_that_the_verdict_quotes():
    one = audit("demo")
    about = next(v for v in one.variants if v.name == one.verdict.about)
    saved = about.cost_benefit
    assert saved is not None
    slow = structs.replace(saved.quoted, engine="llamacpp", request_speedup=1.03)
    saved = structs.replace(saved, cases=(*saved.cases, slow), quoted=slow)
    beside = [structs.replace(e, protocol=structs.replace(e.protocol, engine="llamacpp")) for e in speeds(about)]
    evidence = Measurements((*about.evidence, *beside))
    changed = structs.replace(about, cost_benefit=saved, evidence=evidence)
    both = structs.replace(one, variants=tuple(changed if v is about else v for v in one.variants))
    assert quoted_case(both, changed) == slow
    speed = quoted_speed(both, changed)
    assert speed is not None
    assert speed.protocol.engine == "llamacpp"
    assert "speed in llamacpp, 448 tokens" in variants_table(both).caption


def test_rankings_stand_beside_each_other_with_what_they_remove(measured: Audit):
    """Every variant with a perplexity has its cell; the candidates' rows are told from those to beat."""
    table = rankings_table(measured)
    assert table is not None
    cells = [cell for row in table.rows for cell in row[1:] if cell.text != NONE]
    pruned = [v for v in measured.variants if v.state == PRUNED and any(e.kind == "perplexity" for e in v.evidence)]
    assert len(cells) == len({(v.criterion, len(v.plan.edits.attention)) for v in pruned})
    assert {row[0].note for row in table.rows} == {"candidate", "for comparison"}
    first = pruned[0]
    assert any(cell.note.endswith(f"; {spans(first.plan.edits.attention)}") for cell in cells)


def test_the_content_is_a_view(measured: Audit):
    again = from_json(Audit, json.loads(json.dumps(to_json(measured))), "an audit")
    one, other = report(measured), report(again)
    assert isinstance(one, Report)
    assert html(one) == html(other)
    assert markdown(one) == markdown(other)


def test_what_to_do_about_a_gap_is_a_sentence_of_its_own(measured: Audit):
    gaps = (
        NotExamined(StepName.REFUSAL_AND_RETRIEVAL, "refusal", "it was hardly taught to refuse", "--refusal packaged"),
        NotExamined(StepName.REFUSAL_AND_RETRIEVAL, "retrieval", "It was left out.", "retrieval: true"),
        NotExamined(StepName.RECOVERY, "recovery", "it was not asked for"),
    )
    lines = markdown(report(structs.replace(measured, not_examined=gaps))).splitlines()
    assert [line for line in lines if line.startswith(("- **refusal", "- **retrieval", "- **recovery"))] == [
        "- **refusal**: it was hardly taught to refuse. To examine it: --refusal packaged",
        "- **retrieval**: It was left out. To examine it: retrieval: true",
        "- **recovery**: it was not asked for",
    ]


def test_own_prompts_have_an_interval_and_their_prompts():
    one = audit("demo")
    variants = tuple(
        structs.replace(v, evidence=Measurements((*v.evidence, own_prompts()))) if n == 1 else v
        for n, v in enumerate(one.variants)
    )
    text = markdown(report(structs.replace(one, variants=variants)))
    assert "95%: 0.55 to 1.17" in text
    assert "± 0.12" not in text
    assert "word word asks for 5" in text
    assert "asks for 6" not in text
    assert "at most 5 of each variant" in text


def test_items_of_several_steps_have_a_part_of_their_own_beside_the_tasks():
    given = audit("demo")

    def of(model: Evidence, right: int) -> Multistep:
        items = tuple(TaskItem(id=n, metrics={"accuracy": float(n < right)}) for n in range(10))
        figure = Figure(value=right / 10, stderr=0.1)
        about = {"model": model.model, "edits": model.edits, "data": Data(name="steps", sha256="a")}
        fields = {"name": "brackets", "metrics": {"accuracy": figure}, "count": 10, "chance": 0.25, "items": items}
        return Multistep(topic=MULTISTEP, **about, **fields)

    before = of(given.baseline[0], 9)
    variants = []
    for variant in given.variants:
        after = of(variant.evidence[0], 6) if variant.evidence else None
        change = compare(before, after) if after else None
        variants.append(structs.replace(variant, evidence=(*variant.evidence, after, change)) if after else variant)
    whole = structs.replace(given, baseline=(*given.baseline, before), variants=tuple(variants))
    text = markdown(report(whole))
    assert "Several steps" in text
    assert "brackets" in text.partition("Several steps")[2]
    assert "Several steps" not in markdown(report(given))


def test_every_command_that_repeats_a_figure_can_be_copied_whole():
    one = audit("demo")
    commands = tuple(
        Command(what=f"text {n}", command=f"gatenorm eval v{n} " + "--data text.txt " * 40) for n in range(3)
    )
    content = report(structs.replace(one, provenance=structs.replace(one.provenance, commands=commands)))
    pages = markdown(content), entities.unescape(html(content))
    for page in pages:
        assert all(entry.command in page for entry in commands)
    facts = [block for section in content.sections for block in section.blocks if isinstance(block, Facts)]
    assert not any(name.startswith("commands") for block in facts for name, _ in block.items)

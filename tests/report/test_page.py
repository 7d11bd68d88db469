"""The audit's report as content: every figure of the record is there, and nothing that a name holds can act."""

from __future__ import annotations

import html as entities
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from gatenorm.errors import OutputError
from gatenorm.records import Evidence, FailureSignature, spans
from gatenorm.records.audit import CANDIDATE, FALLS, NOT_PROVEN, PRUNED, RECOVERED, STANDS, Audit, NotExamined
from gatenorm.report.page import write_report
from gatenorm.report.page.blocks import Cell, Chart, Report, Table
from gatenorm.report.page.content import report
from gatenorm.report.page.html import html, in_script
from gatenorm.report.page.judging import rankings_table
from gatenorm.report.page.markdown import markdown
from gatenorm.report.page.wording import NONE, clean, fixed, number, said

FIXTURES = Path(__file__).parents[1] / "fixtures"
ATTACKS = (
    "</script><script>document.title='hit'</script>",
    "<img src=x onerror=\"document.title='hit'\">",
    "\"><svg onload=document.title='hit'>",
    "<a href='https://example.org/'>here</a>",
    "`</code>`[x](javascript:alert(1))|**b**",
    "]]><!--\u2028\u202egpj.exe",
)


def audit(name: str) -> Audit:
    return Audit.from_json(json.loads((FIXTURES / f"audit_{name}.json").read_text(encoding="utf-8")))


def with_english_tasks(one: Audit) -> Audit:
    """The same audit with records of tasks that the built-in model has none of: made up, to be drawn and no more."""
    lengths, depths = [128, 256], [0.0, 0.5, 1.0]

    def records(removed: tuple[int, ...]) -> tuple[Evidence, ...]:
        share = 0.8 - 0.05 * len(removed)
        cells = {f"choice_{n}_{d:g}": share - 0.1 * d for n in lengths for d in depths}
        figures = {**cells, "choice": share, "choice_stderr": 0.05, "chance": 0.25, "items": 48.0}
        losses = {"nll_1-1": 5.0, "nll_2-3": 4.5, "nll_4-7": 4.25 + 0.05 * len(removed)}
        protocol = {"lengths": lengths, "depths": depths}
        own = [("retrieval", figures, {"task": f"{form} hop", **protocol}, ()) for form in ("one", "two")]
        reply = {"id": "a", "prompt": "May I?", "reply": "Yes", "refused": False, "metrics": {"refused_harmful": 0.0}}
        refusal = {"refused_harmful": 0.0, "refused": 0.0, "items": 1.0}
        flipped = {"refused_harmful_won": 0.0, "refused_harmful_lost": 1.0, "refused_harmful_items": 1.0}
        change = ({"id": "a", "before": {**reply, "refused": True, "reply": "No"}, "after": reply},)
        made = [*own, ("positions", losses, {}, ()), ("refusal", refusal, {}, (reply,))]
        made += [("comparison", flipped, {"of": "refusal"}, change)] if removed else []
        data = {"name": "made up", "sha256": "0" * 64}
        return tuple(Evidence(k, one.model, removed, f, p, data, 0.0, {}, items) for k, f, p, items in made)

    variants = tuple(replace(v, evidence=(*v.evidence, *records(v.plan.drop))) for v in one.variants)
    return replace(one, variants=variants, baseline=(*one.baseline, *records(())))


@pytest.fixture(scope="module", params=sorted(p.stem.removeprefix("audit_") for p in FIXTURES.glob("audit_*.json")))
def measured(request: pytest.FixtureRequest) -> Audit:
    return audit(request.param)


def attacked(attack: str) -> Audit:
    """A real audit in which every name that others choose is an attack."""
    one = with_english_tasks(audit("demo"))
    model = replace(one.model, name=attack, model_type=attack, files={attack: 5})

    def record(e: Evidence) -> Evidence:
        items = [
            json.loads(json.dumps(dict(item)).replace('"prompt": "', f'"prompt": {json.dumps(attack)[:-1]} '))
            for item in e.items
        ]
        protocol = {
            **e.protocol,
            attack: attack,
            **({"task": attack + str(e.protocol["task"])} if "task" in e.protocol else {}),
        }
        return replace(e, model=model, data={**e.data, "name": attack}, protocol=protocol, items=tuple(items))

    variants = tuple(
        replace(
            v,
            name=f"{attack} {n}",
            criterion=f"{attack}{v.criterion}",
            evidence=tuple(map(record, v.evidence)),
            rejected=attack,
            worth={attack: attack},
            gates=tuple(replace(g, gate=attack, detail=attack, reason=attack, unit=attack) for g in v.gates),
        )
        for n, v in enumerate(one.variants)
    )
    return replace(
        one,
        model=model,
        verdict=(attack, attack, attack),
        chosen=variants[0].name,
        variants=variants,
        baseline=tuple(map(record, one.baseline)),
        scores=tuple(replace(s, calibration={"source": attack}) if s.calibration else s for s in one.scores),
        warnings=(FailureSignature(attack, attack, {attack: attack}),),
        not_examined=(NotExamined(attack, attack, attack),),
        config={attack: [attack]},
        provenance={attack: attack, "began": attack},
        search={"tried": [{attack: attack}], attack: attack},
        version=attack,
    )


class _Page(HTMLParser):
    """Elements with their attributes, and the headings, of a page."""

    def __init__(self, page: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[int] = []
        # Elements are wanted, not what stands in the scripts: Plotly alone has 4.8 MB.
        self.feed(re.sub(r"<script>.*?</script>", "<script></script>", page, flags=re.DOTALL))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))


def body(page: str) -> str:
    """The page's text without Plotly's own code."""
    return entities.unescape(re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL))


def first_screen(content: Report) -> dict[str, dict[str, Cell]]:
    """The first table by variant and column."""
    table = content.summary[0]
    assert isinstance(table, Table)
    titles = [column.title for column in table.columns]
    return {row[0].text: dict(zip(titles, row, strict=True)) for row in table.rows}


def test_both_forms_say_the_same(measured: Audit):
    content = report(measured)
    page, text = body(html(content)), markdown(content)
    shown = re.sub(r"\\(.)", r"\1", entities.unescape(text))
    for sentence in measured.verdict:
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
    for chart in content.charts():
        for cell in (cell for row in chart.table.rows for cell in row):
            assert cell.text in page
        assert chart.title in shown


def test_the_first_screen_holds_the_records_figures(measured: Audit):
    rows = first_screen(report(measured))
    candidates = [v for v in measured.variants if v.role == CANDIDATE]
    assert rows.keys() == {v.name for v in candidates}
    for variant in candidates:
        row = rows[variant.name]
        before = next(e for e in measured.baseline if e.kind == "perplexity").figures["perplexity"]
        after = next(e for e in variant.evidence if e.kind == "perplexity").figures["perplexity"]
        assert row["Perplexity"].text == f"{number(before)} → {number(after)}"
        assert f"{100 * (after / before - 1):+.1f}".replace("-", "−") in row["Perplexity"].note
        assert (
            row["Attention removed"].note == f"{len(variant.plan.drop)} of {measured.model.layers}, {variant.share:.1%}"
        )
        assert row["Outcome"].text == variant.outcome
        assert row["Outcome"].badge == {STANDS: "good", FALLS: "bad", NOT_PROVEN: "open"}[variant.outcome]
        speeds = [e for e in variant.evidence if e.kind == "speed" and e.protocol["engine"] == "transformers"]
        longest = max(speeds, key=lambda e: e.protocol["prompt_tokens"]).figures
        assert row["Prefill"].text == f"{longest['prefill_speedup']:.2f}×"
        assert row["Prefill"].note == f"ideal {longest['prefill_ideal']:.2f}×"
        assert row["Decode"].text == f"{longest['decode_speedup']:.2f}×"
        assert row["Cache saved"].text == f"{100 * longest['cache_share_removed']:.0f}%"


def test_flips_are_those_of_the_items(measured: Audit):
    rows = first_screen(report(measured))
    for variant in (v for v in measured.variants if v.role == CANDIDATE):
        about = [
            e
            for e in variant.evidence
            if e.kind == "comparison" and "refusal" in (e.protocol["of"], e.protocol.get("task"))
        ]
        assert rows[variant.name]["Refusals flipped"].text == str(sum(len(e.items) for e in about))


def test_every_measurement_stands_in_the_evidence(measured: Audit):
    page = html(report(measured))
    rows = page[page.index('id="evidence"') : page.index('id="limits"')].count("<tr><th")
    records = len(measured.baseline) + sum(len(v.evidence) for v in measured.variants)
    assert rows - page[page.index('id="evidence"') : page.index('id="limits"')].count("<thead>") == records


def test_every_chart_has_a_text_and_a_table_of_its_numbers(measured: Audit):
    charts = report(measured).charts()
    assert len({chart.name for chart in charts}) == len(charts) >= 9
    for chart in charts:
        assert len(chart.says) > 40
        assert chart.table.rows
        assert all(len(row) == len(chart.table.columns) for row in chart.table.rows)
        assert "template" not in chart.plot["layout"]
    names = {chart.name for chart in charts}
    assert {"scores-0", "removed", "tradeoff", "perplexity", "selection", "correlation"} <= names
    assert {"retrieval-change", "speed-prefill-0", "speed-decode-0"} <= names


def test_the_long_range_of_an_english_model_is_drawn_as_heat_maps():
    charts = {chart.name: chart for chart in report(with_english_tasks(audit("demo"))).charts()}
    maps = [chart for name, chart in charts.items() if re.fullmatch(r"retrieval-\d", name)]
    assert len(maps) == 6  # two forms; unpruned, the chosen variant, the one with the most removed
    assert "positions" in charts


def test_the_marked_layers_are_the_chosen_variants(measured: Audit):
    chart = next(c for c in report(measured).charts() if c.name == "scores-0")
    marked = next(trace for trace in chart.plot["data"] if trace["name"] != "layers")
    shown = next((v for v in measured.variants if v.name == measured.chosen), None)
    shown = shown or next(v for v in measured.variants if v.role == CANDIDATE)
    assert sorted(marked["x"]) == list(shown.plan.drop)


def test_what_was_recovered_is_marked_apart_everywhere():
    one = audit("demo")
    variants = tuple(replace(v, state=RECOVERED) if n == 1 else v for n, v in enumerate(one.variants))
    content = report(replace(one, variants=variants))
    name = f"{variants[1].name} (recovered)"
    row = next(row for row in content.summary[0].rows if row[0].text == variants[1].name)
    assert "recovered" in row[0].tags
    for chart in content.charts():
        cells = [cell for row in chart.table.rows for cell in row] + [Cell(c.title) for c in chart.table.columns]
        bare = [cell for cell in cells if cell.text == variants[1].name and "recovered" not in cell.tags]
        assert not bare, chart.name
        assert name in json.dumps(chart.plot) or variants[1].name not in json.dumps(chart.plot), chart.name
    assert '<span class="tag recovered">recovered</span>' in html(content)
    assert r"**[recovered]**" in markdown(content)


def test_an_audit_with_hardly_anything_in_it():
    one = audit("demo")
    empty = replace(one, variants=(), baseline=(), scores=(), warnings=(), not_examined=(), steps=(), chosen=None)
    empty = replace(empty, config={}, provenance={}, cross_check=None, comparison=None)
    content = report(empty)
    page, text = html(content), markdown(content)
    assert content.badge == "not proven"
    assert "see what was not examined" in page
    assert "No candidate was made." in text
    bare = tuple(replace(v, evidence=(), gates=()) for v in one.variants)
    assert "Nothing was timed" in html(report(replace(one, variants=bare, baseline=())))


def test_cost_and_search_are_shown():
    one = audit("demo")
    case = {"engine": "transformers", "prompt_tokens": 448, "new_tokens": 8, "batch": 1, "request_speedup": 1.25}
    money = {"cost_per_million_before": 1.25, "cost_per_million_after": 1.0}
    worth = {"price_per_hour": 2.0, "currency": "EUR", "sentence": "Pays here.", "cases": [{**case, **money}]}
    variants = (replace(one.variants[0], worth=worth), *one.variants[1:])
    probes = [{"removed": 4, "outcome": STANDS}, {"removed": 6, "outcome": FALLS}]
    content = report(replace(one, variants=variants, search={"gate": "perplexity-rise", "probes": probes}))
    page = body(html(content))
    assert "Pays here." in page
    assert "Search for the largest budget that stands" in page
    rows = first_screen(content)
    cell = rows[variants[0].name]["Cost"]
    assert (cell.text, cell.note) == ("1.25 → 1", "EUR a million tokens, −20.0%")
    assert rows[variants[1].name]["Cost"].text == "–"


@pytest.mark.parametrize("attack", ATTACKS)
def test_names_cannot_act(attack: str):
    content = report(attacked(attack))
    page = html(content)
    harmless = _Page(html(report(with_english_tasks(audit("demo")))))
    found = _Page(page)
    allowed = {tag for tag, _ in harmless.elements}
    assert {tag for tag, _ in found.elements} <= allowed
    assert sum(tag == "script" for tag, _ in found.elements) == sum(tag == "script" for tag, _ in harmless.elements)
    for tag, attributes in found.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        assert (attributes.get("href") or "#").startswith("#")
        assert "src" not in attributes
    for chart in content.charts():
        assert_plotly_shows_it(chart)
    text = markdown(content)
    outside = "\n".join(line for line in text.splitlines() if not line.startswith("    "))
    assert not re.search(r"<(?!/?\w*&)[a-z/!]", outside)
    assert not re.search(r"(?<!\\)\[x", outside)
    assert "\u202e" not in page + text
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in outside.splitlines() if line.startswith("| ")}
    assert max(widths) <= 14  # twelve columns: no name has made another


def assert_plotly_shows_it(chart: Chart) -> None:
    """Plotly reads tags in texts: none may come from a name."""
    drawn = json.dumps([{k: v for k, v in t.items() if not k.endswith("template")} for t in chart.plot["data"]])
    assert "<" not in drawn + json.dumps(chart.plot["layout"])


def test_json_in_a_script_cannot_end_it():
    made = in_script({"a": "</script><!--&\u2028"})
    assert not set("<>&\u2028") & set(made)
    assert json.loads(made) == {"a": "</script><!--&\u2028"}


def test_the_page_asks_for_nothing_and_runs_only_its_own_scripts(measured: Audit):
    page = html(report(measured))
    found = _Page(page)
    (policy,) = [a["content"] or "" for t, a in found.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "script-src 'unsafe-inline'" not in policy
    assert "http" not in policy
    assert not [t for t, _ in found.elements if t in ("link", "iframe", "img", "object", "embed", "form", "base")]
    assert not [a for _, a in found.elements if "src" in a]
    scripts = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    from gatenorm.report.page.html import policy as policy_of

    assert policy == policy_of(scripts)


def test_structure_for_those_who_do_not_see_it(measured: Audit):
    page = html(report(measured))
    found = _Page(page)
    tags = [tag for tag, _ in found.elements]
    assert [tags.count(t) for t in ("main", "nav", "header", "footer", "h1")] == [1, 1, 1, 1, 1]
    assert found.headings[0] == 1
    assert all(after - before <= 1 for before, after in zip(found.headings, found.headings[1:], strict=False))
    assert tags.count("table") == tags.count("caption")
    assert all("scope" in attributes for tag, attributes in found.elements if tag == "th")
    named = [a["id"] for _, a in found.elements if "id" in a]
    assert len(set(named)) == len(named)
    links = [(a["href"] or "")[1:] for t, a in found.elements if t == "a"]
    assert set(links) <= set(named)
    for _, attributes in found.elements:
        if attributes.get("class") == "plot":
            assert attributes["role"] == "img"
            assert attributes["aria-label"]
        if attributes.get("role") == "region":
            assert attributes["tabindex"] == "0"
            assert attributes["aria-label"]


def test_written_whole_or_not_at_all(tmp_path: Path):
    one = audit("demo")
    page = write_report(one, tmp_path / "new")
    assert page == tmp_path / "new" / "report.html"
    assert sorted(p.name for p in page.parent.iterdir()) == ["report.html", "report.md"]
    assert page.stat().st_size < 6_500_000
    again = page.read_bytes(), (page.parent / "report.md").read_bytes()
    write_report(one, page.parent)
    assert again == (page.read_bytes(), (page.parent / "report.md").read_bytes())
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="could not be made"):
        write_report(one, tmp_path / "file")
    (tmp_path / "taken" / "report.md").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"report\.md could not be written"):
        write_report(one, tmp_path / "taken")
    assert [p.name for p in (tmp_path / "taken").iterdir()] == ["report.md"]


def test_numbers_in_words():
    assert number(None) == "–"
    assert number(float("inf")) == "∞"
    assert number(12.3456) == "12.35"
    assert number(12345.6) == "12,346"
    assert number(-0.00123) == "−0.00123"
    assert fixed(-0.04, 1, sign=True) == "0.0"
    assert fixed(1234.5, 1) == "1,234.5"
    assert said({"a_b": [1, 2.5, None], "sha256": "x"}) == "a b 1, 2.5, –, SHA-256 x"
    assert len(said("x" * 1000)) == 400
    assert clean("a\u202eb\x00c\nd") == "a\ufffdb\ufffdc\nd"


def test_the_content_is_a_view(measured: Audit):
    again = Audit.from_json(json.loads(json.dumps(measured.to_json())))
    one, other = report(measured), report(again)
    assert isinstance(one, Report)
    assert html(one) == html(other)
    assert markdown(one) == markdown(other)


def test_rankings_stand_beside_each_other_with_what_they_remove(measured: Audit):
    """Every variant with a perplexity has its cell; the candidates' rows are told from those to beat."""
    table = rankings_table(measured)
    assert table is not None
    (group,) = table.groups
    cells = [cell for row in group.rows for cell in row[1:] if cell.text != NONE]
    pruned = [v for v in measured.variants if v.state == PRUNED and any(e.kind == "perplexity" for e in v.evidence)]
    assert len(cells) == len({(v.criterion, len(v.plan.drop)) for v in pruned})
    assert {row[0].note for row in group.rows} == {"candidate", "for comparison"}
    first = pruned[0]
    assert any(cell.note.endswith(f"; {spans(first.plan.drop)}") for cell in cells)

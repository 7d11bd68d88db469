"""Results as tables: in a line, as HTML, as rows and frames."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

import gatenorm
from gatenorm.records import Edits, Plan, Results, Scores, Table
from gatenorm.records.audit import Audit
from gatenorm.records.evidence import Evidence
from gatenorm.records.serialization import Record, read_record
from tests.errors import refused

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(scope="module")
def audit() -> Audit:
    return read_record(Audit, FIXTURES / "audit_demo.json", "an audit")


def test_scores_have_a_row_for_each_layer():
    scores = gatenorm.score("demo")
    assert repr(scores) == "<Scores of demo by gate-norm: 16 rows>"
    assert [row["layer"] for row in scores.rows()] == [*range(16)]
    weakest = next(row for row in scores.rows() if row["rank"] == 1)
    assert weakest["score"] == min(one.score for one in scores.layers)


def test_frames_hold_the_rows():
    pandas = pytest.importorskip("pandas")
    plan = gatenorm.plan("demo", share="20%")
    frame = plan.to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert frame.to_dict("records") == [
        {"layer": layer, "sublayer": "attention", "operation": "remove"} for layer in plan.edits.attention
    ]


def test_what_was_written_says_what_was_done_and_is_a_path(tmp_path: Path):
    plan = gatenorm.plan("demo", layers=3)
    pruned = gatenorm.prune("demo", tmp_path / "less", plan, context=256)
    assert repr(pruned) == f"<Pruned of {tmp_path / 'less'}: 3 rows>"
    assert [row["layer"] for row in pruned.rows()] == [*plan.edits.attention]
    assert "<table>" in pruned._repr_html_()
    assert pruned.forecast is not None
    assert (pruned.forecast.count, pruned.forecast.context) == (3, 256)
    assert pruned.to_dict()["plan"] == plan.to_dict()
    assert pruned.bytes < pruned.source_bytes
    assert gatenorm.open_model(pruned).edits == plan.edits
    exported = gatenorm.export(pruned, "nemotron-nas", tmp_path / "exported")
    assert (exported.to, exported.path) == ("nemotron-nas", tmp_path / "exported")
    assert "vLLM" in exported.to_dict()["engines"]


def test_a_frame_without_pandas_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with refused("pandas-missing") as error:
        gatenorm.plan("demo", drop=[3]).to_frame()
    assert error.value.text() == "a data frame needs pandas; pip install pandas"


def test_an_audit_has_a_row_for_each_variant_with_the_figure_of_every_gate(audit: Audit):
    rows = list(audit.rows())
    assert [row["variant"] for row in rows] == [variant.name for variant in audit.variants]
    first = audit.variants[0]
    assert {gate.gate: gate.value for gate in first.gates}.items() <= rows[0].items()
    assert len({tuple(row) for row in rows}) == 1


def test_several_results_are_one_table(audit: Audit):
    both = Results(audit.baseline[:2])
    assert list(both.rows()) == [*audit.baseline[0].rows(), *audit.baseline[1].rows()]
    assert both == list(audit.baseline[:2])
    assert repr(both).startswith("<Results of demo: ")
    figures = {row["figure"]: row["value"] for row in both[0].rows()}
    assert figures == both[0].numbers()


def test_names_of_strangers_are_no_markup():
    scores = gatenorm.score("demo")
    shown = msgspec.structs.replace(scores, criterion="<b>")._repr_html_()
    assert "<b>" not in shown
    assert "&lt;b&gt;" in shown


def test_long_tables_are_cut_in_html_only():
    class Long(Table):
        def rows(self):
            return ({"n": n, "half": n / 2, "none": None} for n in range(100))

    shown = Long()._repr_html_()
    assert shown.count("<tr>") == 61
    assert "to_frame()" in shown
    assert shown.count("<th>") == 3


def test_every_kind_of_record_is_a_table():
    waiting, seen = [Record], set()
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        seen.add(kind)
        assert kind.__repr__ is Table.__repr__, kind
    assert {Scores, Plan, Audit, Evidence} <= seen


def test_a_record_without_rows_of_its_own_shows_its_plain_fields():
    rows = {row["field"]: row["value"] for row in gatenorm.inspect("demo").rows()}
    assert rows["layers"] == 16
    assert rows["family"] == "llama"
    assert not any(isinstance(value, Edits) for value in rows.values())

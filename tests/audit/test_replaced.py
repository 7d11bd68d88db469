"""Candidates with fitted operations in the place of attentions, beside those that only lack them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from gatenorm import api
from gatenorm.audit.main import run_audit
from gatenorm.audit.run.job_runner import JobRunner
from gatenorm.audit.run.jobs import FitOperations, Result
from gatenorm.errors import CalibrationError
from gatenorm.records import Edits, to_json
from gatenorm.records.audit import RECOVERED, Audit, AuditedVariant
from gatenorm.records.evidence import Perplexity, of_type
from tests.audit.audits import small

Events = list[dict[str, Any]]
_ONE_BUDGET: dict[str, Any] = {
    "rankings": {"criteria": ["gate-norm"]},
    "evaluation": {"refusal": "none", "retrieval": False},
    "search": {"gate": None},
}


def audited(out: Path, **sections: Any) -> tuple[Audit, list[str]]:
    """An audit with 2 of 16 attentions edited, and the titles of the jobs that it had to do."""
    events: Events = []
    budgets = {"shares": [0.125], "replace": ["remove", "linear"]}
    config = small(**{**_ONE_BUDGET, "budgets": budgets, **sections})
    audit = run_audit("demo", out, config, listener=lambda event: events.append(to_json(event)))
    assert events[-1]["done"] == events[-1]["all"]
    return audit, [e["what"] for e in events if e["event"] == "done" and e["seconds"] is not None]


def candidates(audit: Audit) -> list[AuditedVariant]:
    """Those of the criterion under test; another may be better supported and have its own."""
    return [v for v in audit.variants if v.role == "candidate" and v.criterion == "gate-norm"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Audit]:
    out = tmp_path_factory.mktemp("replaced") / "audit"
    return out, audited(out)[0]


def test_removed_and_replaced_are_judged_side_by_side(finished: tuple[Path, Audit]):
    out, audit = finished
    removed, fitted = candidates(audit)
    assert (removed.name, fitted.name) == ("gate-norm-2", "gate-norm-2-linear")
    assert removed.plan.added == Edits.of("attention", (13, 15))
    assert [(e.layer, e.operation, bool(e.artifact)) for e in fitted.plan.added] == [
        (13, "linear", True),
        (15, "linear", True),
    ]
    assert [g.gate for g in fitted.gates] == [g.gate for g in removed.gates]
    (before,), (after,) = (of_type(v.evidence, Perplexity) for v in (removed, fitted))
    assert after.edits == fitted.plan.edits
    assert after.nll != before.nll
    # How it was fitted, and on what.
    assert fitted.plan.fit is not None
    assert [(source.name, source.tokens > 0) for source in fitted.plan.fit.sources] == [
        ("generic", True),
        ("self", False),  # judged on only
    ]
    assert api.open_model(out / fitted.directory).edits == fitted.plan.edits
    # The baselines stay removals.
    assert not any(v.plan.replaces for v in audit.variants if v.role == "comparison")


def test_reports_and_cards_say_what_is_in_their_place(finished: tuple[Path, Audit]):
    out, _ = finished
    assert "Attention replaced by a linear map in layers 13, 15" in (
        out / "variants" / "gate-norm-2-linear" / "README.md"
    ).read_text(encoding="utf-8")
    assert "Attention removed in layers 13, 15" in (out / "variants" / "gate-norm-2" / "README.md").read_text()
    for report in ("report.md", "report.html"):
        assert "replaced by a linear map" in (out / report).read_text(encoding="utf-8")


def test_nothing_is_fitted_twice(finished: tuple[Path, Audit]):
    out, audit = finished
    assert audited(out)[1] == []
    shutil.rmtree(out / "variants" / "gate-norm-2-linear")
    again, done = audited(out)
    assert done == ["fitting gate-norm-2-linear"]  # and gives the same tensors: nothing is measured anew
    assert [v.plan.edits for v in again.variants] == [v.plan.edits for v in audit.variants]


def test_tokens_of_another_source_are_another_fit(finished: tuple[Path, Audit]):
    out, _ = finished
    budgets = {"shares": [0.125], "replace": ["linear"], "fit": ["random"]}
    audit, done = audited(out, budgets=budgets)
    assert done[:1] == ["fitting gate-norm-2-linear"]
    assert [v.name for v in candidates(audit)] == ["gate-norm-2-linear"]
    prune = next(step.command for step in audit.steps if " prune " in step.command)
    assert prune == "gatenorm prune demo --drop 13,15 -o VARIANT --replace linear --fit random"


def test_a_map_stays_in_place_when_the_rest_is_trained(finished: tuple[Path, Audit]):
    out, _ = finished
    audit, _ = audited(out, recovery={"enabled": True, "steps": 2, "from_share": 0.1})
    trained = {v.name: v.plan.edits for v in candidates(audit) if v.state == RECOVERED}
    assert list(trained) == ["gate-norm-2-recovered", "gate-norm-2-linear-recovered"]
    for name, edits in trained.items():
        assert api.open_model(out / "recovered" / name).edits == edits


@pytest.mark.parametrize("fails", [True, False])
def test_what_could_not_be_fitted_or_is_only_a_removal_is_no_candidate(
    fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fit(_: JobRunner, job: FitOperations) -> Result:
        if fails:
            raise CalibrationError("fit-tokens-too-few", "gives too few tokens", field="fit")
        api.prune(job.model, job.out, api.plan(job.model, drop=job.plan.added.attention))
        return Result()

    monkeypatch.setattr(JobRunner, "_fit", fit)
    audit, done = audited(tmp_path / "audit")
    assert [v.name for v in candidates(audit)] == ["gate-norm-2"]
    gap = next(gap for gap in audit.not_examined if gap.what == "gate-norm-2-linear")
    assert ("could not be fitted" if fails else "removal did less damage") in gap.why
    assert not [what for what in done if what.endswith(": gate-norm-2-linear")]

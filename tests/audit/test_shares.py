"""Of how many sublayers a share is, in models where not every layer has attention that can go."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import structs

import gatenorm
from gatenorm.audit.judge.verdict import verdict
from gatenorm.audit.output.audited_variant import audited
from gatenorm.audit.plan.budgets import Budget, budgets
from gatenorm.audit.plan.config import Budgets
from gatenorm.audit.run.variant import planned_variant
from gatenorm.cli.tables.audit import _picture
from gatenorm.cli.tables.exports import show_verification
from gatenorm.records import read_record
from gatenorm.records.audit import CANDIDATE, Audit, BestSupported
from gatenorm.records.evidence import Verification, VerificationProtocol
from gatenorm.records.numbers import Share
from gatenorm.report.page.verdict import removed
from tests.conftest import TinyModels
from tests.report.audits import FIXTURES

# Four layers of five with attention; eight with attention, of which two make keys and values for others.
PRESENT = {"lfm2": 4, "gemma4_text-e": 6}


@pytest.mark.parametrize("name", PRESENT)
@pytest.mark.parametrize("share", [0.2, 0.4, 0.65])
def test_a_share_is_the_same_number_of_sublayers_to_plan_and_to_audit(name: str, share: float, tiny_models: TinyModels):
    layout = gatenorm.open_model(tiny_models(name))
    (budget,), left_out = budgets(layout, Budgets(shares=(Share(share),)), ())
    assert not left_out
    assert budget.count == len(gatenorm.plan(layout, share=share).added.attention)


def test_what_is_said_of_a_hybrid_counts_the_layers_with_attention(
    tiny_models: TinyModels, capsys: pytest.CaptureFixture[str]
):
    layout, audit = gatenorm.open_model(tiny_models("lfm2")), read_record(Audit, FIXTURES / "audit_demo.json", "it")
    scores = gatenorm.score(layout, "depth")
    made = audited(layout, planned_variant(layout, scores, Budget(1, "asked"), (), CANDIDATE), [], {}, None)
    assert (made.present, made.share) == (4, 0.25)
    answer, _ = verdict([made], BestSupported(ranking="depth", why="", count=1, losses={}, rule=""), "depth")
    assert "remove 1 of 4 attention sublayers" in answer.reason
    audit = structs.replace(audit, model=layout.identity(), scores=(scores,))
    assert removed(audit, made).note == "1 of 4, 25.0%"
    assert _picture(audit, made).startswith("###-. (# kept, - removed, . without attention that could be")
    protocol = VerificationProtocol(
        engine="e", exported="x", form="x", reference="y", prompts="z", new_tokens=1,
        judged_by="mean_kl", tolerance=1.0, near_tie=0.1,
    )  # fmt: skip
    found = Verification(
        model=layout.identity(), protocol=protocol, largest_difference=0.0, mean_kl=0.0, tokens=1, other_choices=0,
        near_ties=0, cached_layers=4,
    )  # fmt: skip
    show_verification(found, layout.checkpoint.directory, layout)
    assert "keys and values for 4 layers; 4 of 4 layers kept their attention" in " ".join(
        capsys.readouterr().out.split()
    )


def test_of_a_model_that_was_pruned_before_only_the_audits_own_edits_are_shown(tiny_models: TinyModels, tmp_path: Path):
    source = tiny_models("llama-gqa")
    layout = gatenorm.open_model(gatenorm.prune(source, tmp_path / "out", gatenorm.plan(source, drop=[0])).path)
    scores = gatenorm.score(layout, "depth")
    made = audited(layout, planned_variant(layout, scores, Budget(1, "asked"), (), CANDIDATE), [], {}, None)
    audit = read_record(Audit, FIXTURES / "audit_demo.json", "it")
    audit = structs.replace(audit, model=layout.identity(), scores=(scores,), variants=(made,))
    assert _picture(audit, made).startswith(".##- (# kept")
    (row,) = audit.rows()
    assert row["edits"] == "attention 3"

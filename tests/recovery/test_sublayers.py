"""Recovering models that lost MLPs or whole blocks: what is trained, and what the records and the card say is gone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import gatenorm
from gatenorm.errors import RecoveryError
from gatenorm.records import read_json
from gatenorm.records.evidence import evidence_from_json
from gatenorm.records.recovery_settings import Settings
from gatenorm.recovery.student import adapted_modules
from tests.errors import refused
from tests.recovery.conftest import SETTINGS, Place

BOTH = replace(SETTINGS, steps=2, targets=("attention", "mlp"))


def pruned(place: Place, out: Path, kind: str, drop: list[int]) -> Path:
    return gatenorm.prune(place.dense, out, gatenorm.plan(place.dense, kind=kind, drop=drop)).path


@pytest.mark.parametrize(
    ("kind", "attention", "settings", "words"),
    [
        ("block", (2,), BOTH, "without the attention of layers 2 (1 of 4) and the MLP of layers 2 (1 of 4)"),
        ("mlp", (), replace(BOTH, checkpointing=True), "without the MLP of layers 2 (1 of 4)"),
    ],
)
def test_what_lost_mlps_is_recovered_and_says_so(
    kind: str, attention: tuple[int, ...], settings: Settings, words: str, place: Place, tmp_path: Path
):
    source = pruned(place, tmp_path / "pruned", kind, [2])
    out = tmp_path / "out"
    found = gatenorm.recover(source, out, str(place.text), settings=settings, parent=place.dense)
    assert found.evidence.nll_merged < found.evidence.nll_before
    evidence = evidence_from_json(read_json(out / "recovery.json", "a recovery")["evidence"])
    assert (evidence.edits.attention, evidence.edits.mlp) == (attention, (2,))
    layout = gatenorm.open_model(out)
    assert layout.recovered
    assert layout.edits == gatenorm.open_model(source).edits
    card = (out / "README.md").read_text()
    assert f"a checkpoint called `dense` (llama) {words}" in card
    assert "- mlp-removed" in card
    assert ("- attention-removed" in card) == bool(attention)


def test_only_what_is_there_gets_an_adapter(place: Place, tmp_path: Path):
    source = pruned(place, tmp_path / "blocks", "block", [2])
    source = gatenorm.prune(source, tmp_path / "pruned", gatenorm.plan(source, kind="mlp", drop=[0])).path
    model, layout = gatenorm.load(source), gatenorm.open_model(source)
    modules = adapted_modules(model, layout, ("attention", "mlp"))
    places = {tuple(name.split(".")[2:4]) for name in modules}
    assert places == {("0", "self_attn"), *((n, part) for n in "13" for part in ("self_attn", "mlp"))}
    assert all(hasattr(model.get_submodule(name), "weight") for name in modules)


def test_a_parent_that_lost_as_much_is_no_parent(place: Place, tmp_path: Path):
    source = pruned(place, tmp_path / "pruned", "mlp", [2])
    with refused("parent-pruned", "parent", RecoveryError):
        gatenorm.recover(source, tmp_path / "out", str(place.text), settings=BOTH, parent=source)
    with refused("model-pruned", "model", RecoveryError):
        gatenorm.recovery_study(source, tmp_path / "study", str(place.text), [0.5])

"""Rankings by the tokens that they look at: what one is called, what another run's scores are worth to it."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from gatenorm.analysis.agreement import label
from gatenorm.audit.judge.ranking import best_supported
from gatenorm.audit.plan.config import config_from
from gatenorm.audit.plan.rankings import PlannedRanking, in_file_names, planned_rankings, source_key
from gatenorm.records import LayerScore, ModelIdentity, Scores
from gatenorm.records.evidence import Data, Item, Perplexity
from tests.calibrations import calibration

NOBODY = ModelIdentity("nobody", "llama", 4, "0", {})


def asked_for(*criteria: str, text: Path | None = None) -> list[PlannedRanking]:
    rankings = {"criteria": list(criteria), "calibration": None if text is None else str(text)}
    return [
        w for w in planned_rankings(config_from({"rankings": rankings | {"random_draws": 0}}), runs=True) if w.source
    ]


def scores_of(source: str) -> Scores:
    told = calibration(source, data=Data(name=Path(source).name, sha256="1"))
    return Scores(NOBODY, "cosine", (LayerScore(0, 1.0),), 0.0, 0, calibration=told)


def test_tokens_are_told_apart_by_content_and_form_not_by_the_files_name(tmp_path: Path):
    one, copy, rows = tmp_path / "one.txt", tmp_path / "copy.txt", tmp_path / "one.jsonl"
    for path in (one, copy, rows):
        path.write_text('{"text": "Ida"}\n')
    assert source_key(str(one)) == source_key(str(copy))
    keys = [source_key(source) for source in (str(one), str(rows), f"wikitext2={one}", "self", "hub:some/text")]
    assert len({tuple(sorted(key.items())) for key in keys}) == 5


def test_a_file_called_self_is_not_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "self").write_text("Ida")
    monkeypatch.chdir(tmp_path)
    assert source_key("self") == {"source": "self"}


def test_two_files_of_one_name_are_two_rankings(tmp_path: Path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.txt").write_text(folder)
    one, other = tmp_path / "a" / "x.txt", tmp_path / "b" / "x.txt"
    found = asked_for(f"cosine@{one}", text=other)
    assert [w.name for w in found if w.source in (str(one), str(other))] == [f"cosine@{one}", f"cosine@{other}"]
    # The record calls them what the audit does, so that reports find them again.
    assert [label(w.relabelled(scores_of(str(w.source)))) for w in found] == [w.name for w in found]


def test_two_forms_of_one_file_are_two_rankings(tmp_path: Path):
    (tmp_path / "x.txt").write_text("Ida\n\nTom")
    forms = (str(tmp_path / "x.txt"), f"wikitext2={tmp_path / 'x.txt'}")
    found = [w.name for w in asked_for(*(f"cosine@{form}" for form in forms))]
    assert found[:2] == [f"cosine@{form}" for form in forms]


def test_names_that_would_share_a_directory_are_told_apart(tmp_path: Path):
    for name in ("x y.txt", "x-y.txt"):
        (tmp_path / name).write_text(name)
    found = asked_for(*(f"cosine@{tmp_path / name}" for name in ("x y.txt", "x-y.txt")))
    assert len({in_file_names(w.name) for w in found}) == len(found) == 4


def test_a_file_alone_keeps_its_short_name_and_its_copy_is_the_same_ranking(tmp_path: Path):
    for name in ("one.txt", "copy.txt"):
        (tmp_path / name).write_text("Ida")
    names = [w.name for w in asked_for(f"cosine@{tmp_path / 'one.txt'}", text=tmp_path / "copy.txt")]
    assert names == ["cosine@one.txt", "cosine@random", "cosine@self"]


def test_scores_of_a_file_that_was_renamed_are_those_of_its_new_name(tmp_path: Path):
    path = tmp_path / "new.txt"
    path.write_text("Ida")
    (one,) = [w for w in asked_for(f"cosine@{path}") if w.source == str(path)]
    own = one.relabelled(scores_of(str(tmp_path / "old.txt")))
    assert own.calibration is not None
    assert (label(own), own.calibration.source) == (one.name, str(path))
    assert own.calibration.data == Data(name="new.txt", sha256="1")


def test_the_comparison_that_chooses_a_ranking_has_its_interval():
    def losing(*losses: float) -> Perplexity:
        items = tuple(Item(id=n, metrics={"nll": loss}, weight=10) for n, loss in enumerate(losses))
        nll = sum(losses) / len(losses)
        data = Data(name="some", sha256="1")
        return Perplexity(model=NOBODY, data=data, perplexity=math.exp(nll), nll=nll, tokens=30, items=items)

    scores = [
        Scores(NOBODY, name, (LayerScore(0, 1.0), LayerScore(1, 2.0)), 0.0, 0)
        for name in ("gate-norm", "ov-norm", "depth", "gate-ov")
    ]
    measured = {
        "gate-norm": losing(1.0, 2.0, 3.0),
        "ov-norm": losing(1.5, 2.5, 3.51),  # worse on every window by about as much
        "depth": losing(0.0, 2.0, 4.5),
        "gate-ov": losing(1.0, 2.0, 3.0),
    }
    best = best_supported(scores, [], 1, measured)
    assert best.ranking == "gate-norm"
    low = best.margins["ov-norm"].low
    assert low is not None
    assert low > 0
    assert best.margins["depth"].difference == pytest.approx(0.5 / 3)
    assert best.why.startswith("with 1 removed its loss is 2.0000 nats a token; by ov-norm 0.5033 more (")
    assert re.search(r"; by depth [0-9.]+ more \([^;]*: not proven\)", best.why)
    assert best.why.endswith("; by gate-ov the same")


def test_without_a_text_only_the_cosines_cast_doubt():
    def ranked(criterion: str, *layers: int, source: str = "") -> Scores:
        told = calibration(source) if source else None
        scored = tuple(LayerScore(layer, float(place)) for place, layer in enumerate(layers))
        return Scores(NOBODY, criterion, tuple(sorted(scored, key=lambda one: one.layer)), 0.0, 0, calibration=told)

    first = ranked("gate-norm", 0, 1, 2, 3)
    alike, others = (
        [ranked(name, *layers, source=source) for name, source in (("norm-ratio", "generic"), ("weight-magnitude", ""))]
        for layers in ((0, 1, 2, 3), (3, 2, 1, 0))
    )
    assert (
        best_supported([first], [ranked("cosine", 3, 2, 1, 0, source="self"), *alike], 1, {}).ranking == "cosine@self"
    )
    assert best_supported([first], [ranked("cosine", 0, 1, 2, 3, source="self"), *others], 1, {}).ranking == "gate-norm"
    assert best_supported([first], others, 1, {}).ranking == "gate-norm"

"""A study of a tiny model: every variant measured before and after, kept, drawn."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

import gatenorm
from gatenorm.cli.tables.recovery import study_lines, study_tables
from gatenorm.errors import OutputError, RecoveryError
from gatenorm.evaluation.core.job import Job
from gatenorm.evaluation.core.text import read_text
from gatenorm.records import ModelIdentity, from_json, to_json
from gatenorm.records.evidence import Data, Figure, Harness
from gatenorm.recovery.study import _Measure
from gatenorm.recovery.study_record import Figures, Outcome, Study, StudyProtocol, StudyTexts, Variant
from gatenorm.report.figures.recovery import plot_study
from tests.errors import refused
from tests.recovery.conftest import SETTINGS, Place
from tests.results.test_fingerprint import swap_two_tokens


def made(other: float = 45.0, **after: float) -> Study:
    """A study as it could be: 10 at first, and what recovery gives by name ``criterion_removed``."""
    dense = Figures(held_out=10.0, other=12.0, tasks={"a": 0.9, "b": 0.8})
    variants = []
    for name, value in after.items():
        criterion, removed = name.rsplit("_", 1)
        outcome = Outcome(
            before=Figures(held_out=40.0, other=50.0, tasks={"a": 0.5, "b": 0.25}),
            after=Figures(held_out=value, other=other, tasks={"a": 0.75, "b": 0.5}),
            steps=100,
            minutes=1.5,
        )
        variants.append(Variant.of(criterion, int(removed) / 10, tuple(range(int(removed))), outcome, dense))
    model = ModelIdentity("a-model", "llama", 12, "", {})
    protocol = StudyProtocol(settings=SETTINGS, window=32, windows=4)
    texts = StudyTexts(train=Data(), held_out=Data())
    return Study.of_variants(variants, model=model, present=10, dense=dense, protocol=protocol, data=texts)


def test_the_boundary_is_the_last_budget_before_the_first_that_fails():
    study = made(x_2=10.5, x_6=10.9, x_4=11.5, y_2=11.0, y_3=10.0, z_2=12.0)
    assert study.boundary == {"x": 2, "y": 3, "z": None}
    assert study.variants[0].won_back == pytest.approx(1 - 0.0488 / 1.3863, abs=1e-3)
    assert not study.variants[0].over_fits
    worse = made(x_2=10.5, other=60.0).variants[0]
    assert worse.over_fits
    study = msgspec.structs.replace(study, variants=(worse, *study.variants[1:]))
    said = " ".join(study_lines(study))
    for part in ("x: recovers", "up to 2 of 10 layers (20%: 0, 1)", "z: no budget", "x-2 over-fits", "from 50 to 60"):
        assert part in said
    assert [table.row_count for table in study_tables(study)] == [7, 2, 2, 2]


def test_each_task_has_its_own_boundary():
    study = made(x_2=10.5, x_4=10.5, x_6=10.5, x_8=10.5)

    def with_tasks(variant: Variant, a: float, b: float) -> Variant:
        after = msgspec.structs.replace(variant.after, tasks={"a": a, "b": b})
        return msgspec.structs.replace(variant, after=after)

    # Of 0.9 and 0.8 unpruned, at most two points may be missing.
    accuracies = ((0.91, 0.7), (0.88, 0.8), (0.87, 0.8), (0.9, 0.8))
    variants = tuple(with_tasks(one, *own) for one, own in zip(study.variants, accuracies, strict=True))
    study = msgspec.structs.replace(study, variants=variants)
    assert study.task_boundary("x", "a") == 4
    assert study.task_boundary("x", "b") is None


def test_a_study_is_drawn(tmp_path: Path):
    study = made(x_2=10.5, x_4=11.5, y_2=11.0)
    for ending in ("png", "svg", "html"):
        plot_study(study, tmp_path / f"s.{ending}")
        assert (tmp_path / f"s.{ending}").stat().st_size > 5000
        if ending != "png":
            drawn = (tmp_path / f"s.{ending}").read_text()
            for shown in ("x, pruned", "y, recovered", "mean accuracy of 2 tasks", "within 10%"):
                assert shown in drawn


def test_a_study_measures_goes_on_and_refuses_another(place: Place, tmp_path: Path):
    how = {"settings": replace(SETTINGS, steps=2), "limit": 2, "other": str(place.text)}

    class Stopped(Exception):  # noqa: N818 - stands for a signal
        pass

    def stop(done: int, total: int) -> None:
        if done == 1:
            raise Stopped

    arguments = (place.dense, tmp_path / "s", str(place.text), [0.25, 0.5], ["depth"])
    with pytest.raises(Stopped):
        gatenorm.recovery_study(*arguments, progress=stop, **how)
    kept = {path: path.read_bytes() for path in (tmp_path / "s/study-state").iterdir()}
    assert len(kept) == 4  # the claim, the dense model, the first variant before and after
    seen: list[tuple[int, int]] = []
    study = gatenorm.recovery_study(*arguments, progress=lambda *a: seen.append(a), **how)
    assert seen == [(0, 2), (1, 2), (2, 2)]
    assert [len(v.removed) for v in study.of("depth")] == [1, 2]
    first = study.variants[0]
    assert all(path.read_bytes() == content for path, content in kept.items())
    assert first.before != first.after
    assert len(study.tasks) >= 5
    data = to_json(study)
    assert data["schema"] == "gatenorm/recovery-study/1"
    assert from_json(Study, json.loads(json.dumps(data)), "a study") == study
    assert {"before", "after", "won_back", "works", "over_fits"} <= set(data["variants"][0])
    assert sorted(p.name for p in (tmp_path / "s").iterdir()) == ["depth-1", "depth-2", "study-state"]
    assert gatenorm.open_model(tmp_path / "s/depth-2").recovered
    with refused("results-differ", "out", OutputError) as caught:
        gatenorm.recovery_study(*arguments, **{**how, "settings": replace(SETTINGS, steps=2, rank=5)})
    assert "(settings.rank 4," in caught.value.problem
    changed = shutil.copytree(place.dense, tmp_path / "changed")
    swap_two_tokens(changed)
    with refused("results-differ", "out", OutputError) as caught:
        gatenorm.recovery_study(changed, *arguments[1:], **how)
    assert "(model " in caught.value.problem
    with refused("model-pruned", "model", RecoveryError):
        gatenorm.recovery_study(place.pruned, tmp_path / "t", str(place.text), [0.5])
    with refused("out-taken", "out", OutputError):
        gatenorm.recovery_study(place.dense, place.pruned, str(place.text), [0.5], **how)


@pytest.mark.parametrize(("metrics", "value"), [({"acc": 0.4, "acc_norm": 0.6}, 0.6), ({"exact_match": 0.3}, 0.3)])
def test_a_study_judges_tasks_by_the_share_that_speaks_for_them(metrics: dict[str, float], value: float, place: Place):
    figures = {name: Figure(value=share) for name, share in metrics.items()}
    job = Job("harness", "a", "items", {}, lambda model, progress: Harness(name="a", metrics=figures, count=4))
    text = read_text(str(place.text))
    assert _Measure(text, None, [job], SETTINGS)(place.layout).tasks == {"a": value}


def test_a_study_notes_where_nothing_was_learned_and_goes_on(place: Place, tmp_path: Path):
    wild = replace(SETTINGS, steps=1, learning_rate=1e30, watch_windows=2)
    study = gatenorm.recovery_study(
        place.dense, tmp_path / "s", str(place.text), [0.25, 0.5], ["depth"], settings=wild, limit=1
    )
    assert [v.after == v.before for v in study.variants] == [True, True]
    assert all("not finite" in (v.diverged or "") and v.steps == 1 for v in study.variants)
    assert [p.name for p in (tmp_path / "s").iterdir()] == ["study-state"]

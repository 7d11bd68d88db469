"""Recipes of models that need the hub and a GPU, carried out in small on tiny models of the same family."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatenorm.study.recipe import Recipe, recipe, recipes
from gatenorm.study.run import Options, reproduce
from tests.study.stand_ins import data, stand_in


def takes_long(asked: Recipe) -> bool:
    """Whether it starts processes, trains, or measures many models, which takes minutes: make test-long."""
    return bool(asked.speed or asked.recovery or (asked.removal and len(asked.removal.counts) > 3))


LARGE = [
    pytest.param(name, marks=[pytest.mark.long] if takes_long(recipe(name)) else [])
    for name in recipes()
    if "gpu" in recipe(name).needs
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def options(folder: Path) -> dict[int, Options]:
    """By the number of layers: 32 with grouped key heads, 40 without."""
    given = data(folder)
    models = {32: stand_in(folder / "32", 32, kv_heads=1), 40: stand_in(folder / "40", 40)}
    return {n: Options(model=str(path), state=folder / "state", trial=1, **given) for n, path in models.items()}


@pytest.mark.parametrize("name", LARGE)
def test_a_recipe_of_the_paper_s_models_runs_end_to_end_on_a_stand_in(name: str, options: dict[int, Options]):
    asked = recipe(name)
    assert asked.shape is not None
    found = reproduce(name, options[asked.shape.layers])
    assert found.stand_in == asked.model
    assert found.claims
    assert not [claim for claim in found.claims if claim.verdict == "not measured"]
    near = [claim for claim, own in zip(found.claims, asked.claims, strict=True) if own.near is not None]
    assert {claim.verdict for claim in near} == {"not comparable"}

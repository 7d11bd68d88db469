"""Recipes of models that need the hub and a GPU, carried out in small on tiny models of the same family."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from gatenorm.study.recipe import Recipe, recipe, recipes
from gatenorm.study.run import Options, reproduce
from tests.study.stand_ins import data, stand_in


def takes_long(asked: Recipe) -> bool:
    """Whether it starts processes, trains, or measures many models, which takes minutes: make test-long."""
    return bool(asked.speed or asked.recovery or (asked.removal and len(asked.removal.counts) > 3))


FAMILIES = {"mistralai": "mistral", "Qwen": "qwen2", "google": "gemma2"}
LARGE = [
    pytest.param(name, marks=[pytest.mark.long] if takes_long(recipe(name)) else [])
    for name in recipes()
    if "gpu" in recipe(name).needs
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def options(folder: Path) -> Callable[[Recipe], Options]:
    """For a recipe: a stand-in of its model's family and depth; those of 40 layers have a key head a query head."""
    given = data(folder)

    @cache
    def model(family: str, layers: int) -> str:
        return str(stand_in(folder / f"{family}-{layers}", layers, 2 if layers == 40 else 1, family))

    def options_of(asked: Recipe) -> Options:
        assert asked.shape is not None
        own = model(FAMILIES.get(asked.model.partition("/")[0], "llama"), asked.shape.layers)
        return Options(model=own, state=folder / "state", trial=1, **given)

    return options_of


@pytest.mark.parametrize("name", LARGE)
def test_a_recipe_of_a_large_model_runs_end_to_end_on_a_stand_in(name: str, options: Callable[[Recipe], Options]):
    asked = recipe(name)
    found = reproduce(name, options(asked))
    assert found.stand_in == asked.model
    assert found.claims
    assert not [claim for claim in found.claims if claim.verdict == "not measured"]
    near = [claim for claim, own in zip(found.claims, asked.claims, strict=True) if own.near is not None]
    assert {claim.verdict for claim in near} <= {"not comparable"}

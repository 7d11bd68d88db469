"""Recipes: the packaged ones are whole, and others are read strictly."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatenorm.analysis.agreement import BUDGETS
from gatenorm.criteria.registry import criterion
from gatenorm.evaluation.core.multistep_items import KINDS
from gatenorm.evaluation.tasks.zeroshot import tasks
from gatenorm.study.recipe import Recipe, recipe, recipes
from gatenorm.surgery.planning import count_for_share
from tests.errors import refused

LEAST = """
title: a table
model: demo
rankings: {criteria: [gate-norm]}
"""
TWICE = "evaluations: [{data: a.txt}, {data: b.txt}]"


def written(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text)
    return str(path)


def known_figures(asked: Recipe) -> set[str]:
    """The names that its measurements give, as far as claims may use them."""
    names: set[str] = set()
    assert asked.shape is not None
    layers = range(asked.shape.layers)
    if asked.rankings:
        yardstick = asked.rankings.yardstick or ""
        criteria = (*asked.rankings.criteria, *([yardstick] if yardstick else []))
        counts = [count_for_share(share, len(layers)) for share in BUDGETS]
        names |= {f"score/{name}/{layer}" for name in criteria for layer in (*layers, "last")}
        names |= {f"fall/{name}/late over early" for name in criteria}
        names |= {f"spearman/{name}/{yardstick}" for name in asked.rankings.criteria}
        names |= {f"shared/{a}+{b}/{count}" for a in criteria for b in criteria for count in counts}
        names |= {f"share/{a}+{b}/{share:.0%}" for a in criteria for b in criteria for share in BUDGETS}
        names |= {f"first/{name}/{count}" for name in criteria for count in counts}
        names |= {"vacuous/share of heads/all"} if asked.rankings.bound else set()
    if asked.removal:
        kinds = {
            "perplexity": ("perplexity", "rise"),
            "zeroshot": ("zeroshot-average",),
            "multistep": ("multistep", "multistep nats"),
        }
        whats = [what for one in asked.removal.evaluations for what in kinds[one.task]]
        whats += ["beats"] if asked.removal.random_draws else []
        criteria = (*asked.removal.criteria, *(["random"] if asked.removal.random_draws else []))
        names |= {f"{what}/{c}/{n}" for what in whats for c in criteria for n in asked.removal.counts}
        names |= {f"{what}/unpruned/0" for what in whats}
    if asked.speed:
        at = [f"{count} at {length}" for count in asked.speed.counts for length in asked.speed.lengths]
        whats = ["prefill", "decode", "prefill ideal", "decode ideal"]
        names |= {f"{what}/{asked.speed.criterion}/{one}" for what in whats for one in at}
    if asked.recovery:
        runs = [f"{name}/{count}" for name in asked.recovery.criteria for count in asked.recovery.counts]
        names |= {f"{what}/{run}" for what in ("pruned", "recovered", "won back") for run in runs}
        kinds = {"multistep": [f"multistep, {kind.name}" for kind in KINDS], "zeroshot": list(tasks())}
        recovering = ["perplexity", *(one for task in asked.recovery.tasks for one in kinds[task])]
        names |= {f"boundary/{name}/{one}" for name in asked.recovery.criteria for one in recovering}
        names |= {f"{task} {what}/{run}" for task in recovering for what in ("pruned", "recovered") for run in runs}
        names |= {f"{task} recovered/unpruned/0" for task in recovering}
    return names


@pytest.mark.parametrize("name", recipes())
def test_every_packaged_recipe_is_whole(name: str):
    asked = recipe(name)
    assert asked.source.startswith("arXiv ")
    assert asked.claims
    for section in (asked.rankings, asked.removal, asked.recovery):
        for one in section.criteria if section else ():
            criterion(one.partition("@")[0])
    for claim in asked.claims:
        others = [one for one in (claim.below, claim.above) if isinstance(one, str)]
        assert {claim.figure, *others} <= known_figures(asked), claim.says
        assert claim.paper or claim.near is None


def test_every_kind_of_model_and_measurement_has_a_recipe():
    named = {name: recipe(name) for name in recipes()}
    models = {one.model for one in named.values()}
    assert {"huggyllama/llama-13b", "meta-llama/Llama-2-13b-hf", "meta-llama/Llama-3.1-8B"} < models
    small = {name: one for name, one in named.items() if one.model.startswith("work/real/")}
    for section in ("rankings", "removal", "speed", "recovery"):
        assert any(getattr(one, section) for one in small.values())
    assert all(one.needs == (() if name in small else ("hub", "gpu")) for name, one in named.items())


@pytest.mark.parametrize("name", recipes())
def test_packaged_text_holds_what_criteria_take_of_it(name: str):
    asked = recipe(name)
    named = [one for section in (asked.rankings, asked.removal) if section for one in section.criteria]
    for one in (asked.calibration.of(name) for name in named if name.endswith("@generic")):
        # A document has 6,500 characters at most, and a window lies in one.
        assert max(one.samples, one.length) <= 256


def test_the_least_recipe(tmp_path: Path):
    assert recipe(written(tmp_path, LEAST)).calibration.source == "generic"


@pytest.mark.parametrize(
    ("text", "code", "field"),
    [
        (LEAST + "modle: x\n", "field-unknown", "modle"),
        (LEAST.replace("criteria:", "criterion:"), "field-unknown", "rankings.criterion"),
        (LEAST.replace("[gate-norm]", "[]"), "field-wrong", "rankings.criteria"),
        (LEAST + "removal: {criteria: [depth], counts: [0]}\n", "field-wrong", "removal.counts[0]"),
        ("title: a\nmodel: demo\n", "field-wrong", "the recipe"),
        ("- a\n", "recipe-no-mapping", "name"),
        ("a: *b\n", "yaml-unreadable", "name"),
        (LEAST + "claims: [{says: x, figure: a/b/c}]\n", "field-wrong", "claims[0]"),
        (LEAST + "plot: curve\n", "field-wrong", "the recipe"),
        (LEAST + f"removal: {{criteria: [depth], counts: [2], {TWICE}}}\n", "field-wrong", "removal"),
        (LEAST + "claims: [{says: x, figure: a, below: 1}]\n", "field-wrong", "claims[0]"),
    ],
)
def test_what_is_wrong_with_a_recipe_is_named(tmp_path: Path, text: str, code: str, field: str):
    with refused(code, field) as error:
        recipe(written(tmp_path, text))
    assert "mine.yaml" in error.value.text()


def test_a_name_that_is_nearly_right_is_suggested():
    with refused("recipe-unknown", "name") as error:
        recipe("smollm2-perplexty")
    assert "'smollm2-perplexity'" in error.value.hint
    with refused("file-missing", "name"):
        recipe("nowhere.yaml")


def test_a_recipe_like_another_states_what_differs():
    own, base = recipe("mistral-7b-proxy"), recipe("llama-2-7b-proxy")
    assert (own.model, own.shape) == ("mistralai/Mistral-7B-v0.1", base.shape)
    assert (own.claims, own.rankings, own.calibration) == (base.claims, base.rankings, base.calibration)
    assert recipe("gemma-2-9b-proxy").shape != base.shape


@pytest.mark.parametrize("like", ["smollm2-nothing", "[a]"])
def test_a_recipe_like_none_is_refused(like: str, tmp_path: Path):
    with refused("recipe-unknown", "like"):
        recipe(written(tmp_path, LEAST + f"like: {like}\n"))


def test_in_small_everything_has_at_most_so_many():
    asked = recipe("llama-13b-perplexity").in_small(2)
    assert asked.removal is not None
    assert (asked.calibration.samples, asked.removal.evaluations[0].limit) == (2, 2)
    assert asked.calibration.length == 2048
    timed = recipe("smollm2-speed").in_small(1).speed
    assert timed is not None
    assert (timed.rounds, timed.new_tokens, timed.counts) == (1, 1, (3, 6, 12, 15))

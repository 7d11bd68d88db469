"""Packages that extend gatenorm and are broken, or lie: in the way of nobody who does not ask for what they add."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gatenorm.api.extending import GROUPS
from tests.plugin.installed import CRITERION, MODEL, PACKAGE, Installed, points, with_config

# How the import of everything that the package adds ends.
IMPORTS = {
    "ImportError": "raise ImportError('no such\\nlibrary \\x1b[31mred')",
    "SyntaxError": "def (",
    "SystemExit": "raise SystemExit(3)",
    "many lines": "raise RuntimeError('first \\x1b]0;owned\\x07\\nsecond\\n' + 'x' * 5000)",
    "no message": "raise ZeroDivisionError",
    "no attribute": "",
    "wrong type": "THING = 7",
}


@pytest.mark.parametrize("how", IMPORTS)
def test_commands_that_do_not_need_it(how: str, installed: Installed):
    installed.add(IMPORTS[how], points(*GROUPS))
    pruned = installed.place / "pruned"
    installed.works("score", "demo", warned=False)
    installed.works("prune", "demo", "--drop", 1, "-o", pruned, warned=False)
    for command in (
        ["score", "--help"],
        ["eval", "--help"],
        ["inspect", "demo"],
        ["export", "--list", pruned],
        ["export", pruned, "--to", "nemotron-nas", "-o", installed.place / "nas"],
        ["eval", pruned, "--limit", 1],
    ):
        installed.works(*command)
    assert PACKAGE in installed.works("doctor").out
    shown = installed.doctor()
    assert sorted(shown["adds"]) == sorted(f"{group}: evil" for group in GROUPS)
    assert shown["problems"]


@pytest.mark.parametrize("how", IMPORTS)
def test_commands_that_need_it(how: str, installed: Installed, tiny_models: Callable[..., Path]):
    installed.add(IMPORTS[how], points(*GROUPS))
    place, tiny = installed.place, tiny_models("llama-gqa")
    made = place / "made"
    (place / "model.evil").touch()
    installed.refused("score", "demo", "--criterion", "evil")
    installed.refused("eval", "demo", "--tasks", "evil")
    installed.refused("eval", "demo", "--engine", "evil")
    installed.refused("bench", "demo", "--engine", "evil")
    installed.refused("export", "demo", "--to", "evil", "-o", made)
    installed.refused("score", "evil")
    installed.refused("prune", "demo", "--drop", 1, "--replace", "evil", "-o", made)
    family = with_config(tiny, place / "family", model_type="evil")
    installed.refused("score", family)
    installed.refused("score", tiny, "--family", "evil")
    # Nobody can know that it would have been theirs.
    quantised = with_config(tiny, place / "quantised", quantization_config={"quant_method": "evil"})
    installed.refused("score", quantised, lines=2)
    installed.refused("score", place / "model.evil", lines=2)


def test_entry_points_that_cannot_be_read(installed: Installed):
    installed.add("", "[gatenorm.criteria]\nno equals sign\n")
    installed.works("score", "demo")
    assert "cannot be read" in installed.doctor()["problems"][0]


@pytest.mark.parametrize("value", ["no colon ( here", ":", "evil.thing:THING.what", "..evil:x", ""])
def test_entry_points_that_lead_nowhere(value: str, installed: Installed):
    installed.add("THING = 1", f"[gatenorm.criteria]\nevil = {value}\n")
    installed.works("score", "demo", warned=False)
    installed.works("score", "--help")
    installed.refused("score", "demo", "--criterion", "evil")


# ---- names


@pytest.mark.parametrize(
    "name", ["\x1b[31mred", "[red]x[/red]", "<img src=x>", "../../x", "a,b", "a@b", "a:b", "-x", "x" * 5000 + "!"]
)
def test_names_that_are_none(name: str, installed: Installed):
    installed.add(CRITERION.format("return 1.0"), points("criteria", "evaluations", "exports", "families", name=name))
    found = installed.works("score", "demo")
    assert "proper name" in found.err
    assert all("proper name" in problem for problem in installed.doctor()["problems"])


def test_a_built_in_name_stays_what_it_is(installed: Installed):
    before = installed.run("score", "demo", "--json", "-").out
    installed.add(CRITERION.format("return 1.0"), points("criteria", name="gate-norm"))
    found = installed.works("score", "demo", "--json", "-")
    assert "has the name of gate-norm of the package gatenorm" in found.err
    assert json.loads(found.out)["layers"] == json.loads(before)["layers"]


def test_a_built_in_family_and_model_stay_what_they_are(installed: Installed, tiny_models: Callable[..., Path]):
    source = f"{MODEL.format('None')}\nFAMILY = {{'model_type': 'llama', 'like': 'gpt2'}}"
    installed.add(source, points("models", name="demo") + "[gatenorm.families]\nllama = evil.thing:FAMILY\n")
    installed.works("score", "demo")
    installed.works("score", tiny_models("llama-gqa"))


def test_a_name_that_two_packages_claim_is_neither_s(installed: Installed):
    source = CRITERION.format("return 1.0")
    installed.add(source, points("criteria")).add(source, points("criteria"), "evil-twin")
    found = installed.run("score", "demo")
    assert found.status == 0
    assert found.err.count("warning: ") == 1
    said = installed.refused("score", "demo", "--criterion", "evil", lines=2)
    assert PACKAGE in said
    assert "evil-twin" in said

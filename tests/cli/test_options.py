"""Options are declared once: their keys exist, their help is complete, and no name in it is broken."""

from __future__ import annotations

import re
import shlex

import pytest
import typer

from gatenorm.audit.plan.config import Config
from gatenorm.cli import app
from gatenorm.cli.audit_options import SETTINGS, overlay
from gatenorm.cli.declaration import Option
from gatenorm.criteria.registry import known
from gatenorm.engines import engines
from tests.command_line import answer

COMMANDS = {command.name: command.callback for command in app.registered_commands}


def options(command: str | None) -> dict[str, Option]:
    return COMMANDS[command].options  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_a_help_text_and_a_heading(command: str):
    for name, option in options(command).items():
        assert option.text()[0].isupper() or option.text().startswith("With"), name
        assert not option.text().rstrip("]").endswith("."), name
        assert option.panel, name


def test_every_key_of_an_option_is_one_of_the_configuration():
    for hint in SETTINGS.values():
        for key in next(part for part in hint.__metadata__ if isinstance(part, Option)).keys:
            section, _, name = key.partition(".")
            assert hasattr(Config(), section), key
            assert section == "gates" or hasattr(getattr(Config(), section), name), key


def test_options_are_laid_over_the_configuration_by_their_keys():
    given = {"share": ("20%",), "threads": 2, "gate": [("speed-up", None)], "max_perplexity_rise": "2%", "data": ["a"]}
    assert overlay({**given, "window": 64, "engine": ("none",), "recover_data": "t"}) == {
        "budgets": {"shares": ("20%",)},
        "run": {"threads": 2},
        "gates": {"speed-up": None, "perplexity-rise": "2%"},
        "search": {"gate": "perplexity-rise"},
        "evaluation": {"texts": [{"data": "a", "window": 64}]},
        "speed": {"engines": []},
        "recovery": {"data": "t", "enabled": True},
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_the_usage_line_is_plain(command: str, capsys: pytest.CaptureFixture[str]):
    usage = answer(capsys, command, "--help").out.splitlines()[0]
    assert re.fullmatch(rf"Usage: gatenorm {command} \[OPTIONS\]( \[?[A-Z]+(\.\.\.)?\]?)?", usage), usage


@pytest.mark.parametrize(
    ("command", "abilities"),
    [("bench", ["times"]), ("audit", ["times"]), ("eval", ["predicts", "generates", "answers"]), ("verify", [])],
)
def test_help_names_the_engines_that_can_do_it(command: str, abilities: list[str], capsys: pytest.CaptureFixture[str]):
    said = answer(capsys, command, "--help").out.partition(" --engine ")[2].partition(" --")[0]
    kinds = {name: engine.load() for name, engine in engines().items()}
    able = {name for name, kind in kinds.items() if not abilities or any(map(kind.can, abilities))}
    assert {name for name in kinds if name in said} == able


@pytest.mark.parametrize("columns", ["80", "140"])
def test_names_are_not_broken_in_help(
    columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", columns)
    said = answer(capsys, "score", "--help").out
    words = said.replace(",", " ").replace(".", " ").split()
    assert set(known()) <= set(words)
    *_, example = said.splitlines()
    assert max(map(len, said.splitlines()[:-1])) <= min(int(columns), 112)
    group = typer.main.get_command(app)
    _, name, *arguments = shlex.split(example.removeprefix("Example: "))
    group.commands[name].make_context(name, arguments)

"""What the documents tell people to type exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from gatenorm.cli import app

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")])


def commands() -> list[tuple[str, str]]:
    found = []
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        for line in re.findall(r"^(?:    |\$ )?(gatenorm [a-z].*)$", text, re.MULTILINE) + re.findall(
            r"`(gatenorm [a-z][^`]*)`", text
        ):
            found.append((path.name, " ".join(line.partition("#")[0].split())))
    return found


@pytest.mark.parametrize(("document", "line"), commands())
def test_every_command_in_the_documents_parses(document: str, line: str):
    group = typer.main.get_command(app)
    _, name, *arguments = shlex.split(line)
    assert name in group.commands, f"{document}: {line}"
    group.commands[name].make_context(name, arguments)


def test_there_are_commands_to_check():
    assert len(commands()) >= 5


def test_every_relative_link_leads_somewhere():
    for path in DOCUMENTS:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)[^)]*\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_every_make_target_in_the_documents_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in DOCUMENTS:
        named = re.findall(r"(?:^|`)make ([a-z-]+)", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert set(named) <= targets, path.name


def test_every_test_that_a_page_names_is_there():
    page = (ROOT / "docs/security.md").read_text()
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", page)
    assert len(named) > 60
    for file, function in named:
        assert f"def {function}(" in (ROOT / "tests" / file).read_text(), (file, function)

"""Pages of the site that are made from the code, as a hook of mkdocs: commands, the Python API, and files of the root.

A page per command comes from what its ``--help`` says, one per module of the API from its docstrings. What lies outside
docs/ and is linked from there (CONTRIBUTING.md, CHANGELOG.md, ...) becomes a page too, and links to it lead there.
"""

from __future__ import annotations

import inspect
import posixpath
import re
from pathlib import Path
from typing import Any

import typer

import gatenorm.api
from gatenorm.cli import app
from gatenorm.cli.command import Command

ROOT = Path(__file__).resolve().parents[1]
# Files outside docs/ that are pages of the site, and where they appear.
OUTSIDE = {
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "SECURITY.md": "project/security-policy.md",
    "benchmarks/README.md": "measured/benchmarks.md",
    "src/gatenorm/evaluation/data/generic.md": "reference/generic-text.md",
    "src/gatenorm/demo/model/demo/README.md": "reference/built-in-model.md",
}
API_PAGE = "reference/python.md"


def command_page(name: str) -> str:
    """What ``gatenorm NAME --help`` says, as a page."""
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    assert isinstance(command, Command)
    context = typer.Context(command, info_name=f"gatenorm {name}")
    lines = [f"# gatenorm {name}", "", _prose(" ".join((command.help or "").split())), ""]
    lines += ["```", (command.epilog or "").removeprefix("Example: "), "```", ""]
    for heading, rows in command.panels(context).items():
        lines += [f"## {heading}", ""]
        for typed, meaning in rows:
            lines += [f"`{typed}`", f":   {_prose(meaning)}", ""]
    return "\n".join(lines)


def command_pages() -> dict[str, str]:
    """The page of every command by its place in the site."""
    names = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    return {f"commands/{name}.md": command_page(name) for name in names}


def api_page() -> str:
    """The functions of ``gatenorm``, then the types that they take and give; mkdocstrings fills in the docstrings."""
    public = {name: found for name, found in vars(gatenorm.api).items() if hasattr(found, "__module__")}
    lines = ["# Python", "", "Every command is a function of `gatenorm`, with the same names for the same things.", ""]
    for heading, belongs in (("Functions", inspect.isfunction), ("Types", inspect.isclass)):
        lines += [f"## {heading}", ""]
        for name, found in sorted(public.items()):
            if belongs(found):
                lines += [f"::: {found.__module__}.{found.__qualname__}", "    options:"]
                lines += [f"      heading: gatenorm.{name}", ""]
    return "\n".join(lines)


def relinked(markdown: str, source: str, page: str) -> str:
    """Markdown of the file ``source`` with its relative links as they lead from ``page``; both relative to their roots.

    Links to files of docs/ and to those of ``OUTSIDE`` stay links; of others, which the site does not have, the words.
    """

    def link(match: re.Match[str]) -> str:
        words, target, anchor = match.groups()
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        place = path.removeprefix("docs/") if path.startswith("docs/") else OUTSIDE.get(path)
        if place is None:
            return words.removeprefix("!")[1:-1]
        return f"{words}({posixpath.relpath(place, posixpath.dirname(page) or '.')}{anchor or ''})"

    return re.sub(r"(!?\[[^\]]*\])\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)", link, markdown)


def on_config(config: Any) -> Any:
    """Put a line per command into the navigation, under ``Commands``."""
    for entry in config.nav:
        if "Commands" in entry:
            entry["Commands"] = list(command_pages())
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made here."""
    from mkdocs.structure.files import File

    made = {**command_pages(), API_PAGE: api_page()}
    for source, place in OUTSIDE.items():
        text = re.sub(r"\A---\n.*?\n---\n", "", (ROOT / source).read_text(encoding="utf-8"), flags=re.DOTALL)
        made[place] = relinked(text, source, place)
    for place, content in made.items():
        files.append(File.generated(config, place, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links of docs/ that lead out of it lead to the pages above."""
    place = page.file.src_uri
    made = place in (API_PAGE, *OUTSIDE.values()) or place.startswith("commands/")
    return markdown if made else relinked(markdown, f"docs/{place}", place)


def on_page_content(html: str, **_: Any) -> str:
    """Leave out the Sphinx roles of docstrings, such as ``:func:``, which would be shown as they are."""
    return re.sub(r":(?:func|class|meth|mod|data):(?=<code>)", "", html)


def _prose(text: str) -> str:
    """Text of the command line as markdown: what it says in capitals or brackets is no markup."""
    return re.sub(r"([\[\]<>*_|])", r"\\\1", text)

"""What every error has, and what none says: a code, and no option of the command line."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import gatenorm
from gatenorm import errors
from gatenorm.cli import app

ROOT = Path(gatenorm.__file__).parent
KINDS = {
    name
    for name, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.GatenormError) and kind is not errors.MissingExtraError
}
CODE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
# They write the commands that repeat a measurement.
WRITE_COMMANDS = {"audit/output/repro_commands.py", "surgery/card.py"}


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(ROOT.rglob("*.py")):
        yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def docstrings(tree: ast.Module) -> set[int]:
    bodies = (n.body for n in ast.walk(tree) if isinstance(n, (ast.Module, ast.ClassDef, ast.FunctionDef)))
    return {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}


def test_every_error_has_a_code():
    for name, tree in modules():
        for call in (n for n in ast.walk(tree) if isinstance(n, ast.Call)):
            if isinstance(call.func, ast.Name) and call.func.id in KINDS and call.args:
                code = call.args[0]
                assert not isinstance(code, ast.Constant) or CODE.fullmatch(code.value), f"{name}:{call.lineno}"
                assert len(call.args) == 2, f"{name}:{call.lineno}: a code and what is wrong"


def test_no_message_below_the_command_line_names_an_option():
    commands = {flag for command in app.registered_commands for flag in flags(command.callback)}
    assert "--share" in commands
    named = re.compile(rf"(?<![\w-])({'|'.join(sorted(commands))})(?![\w-])")
    for name, tree in modules():
        if name.startswith("cli/") or name in WRITE_COMMANDS:
            continue
        documented = docstrings(tree)
        for text in (n for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)):
            assert id(text) in documented or not named.search(text.value), f"{name}:{text.lineno}: {text.value[:80]}"


def flags(command: object) -> set[str]:
    options = command.options.values()  # type: ignore[attr-defined]
    return {part for option in options for flag in option.flags for part in flag.split("/") if part.startswith("--")}

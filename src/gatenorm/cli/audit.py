"""``gatenorm audit``: the whole workflow, and a verdict that a decision can rest on."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from gatenorm.cli import console
from gatenorm.cli.audit_options import SETTINGS, namer, overlay
from gatenorm.cli.checks import warn_of_conversion
from gatenorm.cli.options import audit as options, common
from gatenorm.errors import fields_named, printable

if TYPE_CHECKING:
    from gatenorm.audit.run.progress import Event, Listener, Planned

__all__ = ["EXAMPLE", "NAME", "SETTINGS", "command"]

NAME = "audit"
EXAMPLE = "Example: gatenorm audit ./llama -o ./llama-audit --data wikitext2=wiki.test.raw --zeroshot ./zeroshot"
# What a shell takes for "no": the gate of --fail-on does not pass.
FAILED = 1
# Seconds for which nobody needs to wait who only wants to look.
_LONG = 600
# Seconds without a line after which one is due where no bar shows that work goes on.
_SILENT = 30.0


def command(
    *,
    model: common.OptionalModel,
    config: options.ConfigFile,
    out: options.Out,
    json: common.Json,
    quick: options.Quick,
    write_config: options.WriteConfig,
    json_lines: options.JsonLines,
    fail_on: options.FailOn,
    **given: Any,
) -> None:
    """Run the whole workflow on MODEL and say which budget passes, and why. DIR keeps the evidence."""
    from gatenorm.audit.judge.selection import failed
    from gatenorm.audit.main import default_directory, run_audit
    from gatenorm.audit.plan.config import config_from, quick as first_impression, read_config, write_yaml
    from gatenorm.cli.tables.audit import show
    from gatenorm.models.named import default_model

    console.quiet_transformers()
    model = model or default_model()
    directory = out or default_directory(model)
    names = namer(given, config)
    with fields_named(names), _listener(json_lines, quick, names) as listener:
        laid_over = overlay(given)
        preset = first_impression() if quick else {}
        settings = config_from(preset, laid_over) if config is None else read_config(config, laid_over, below=preset)
        if write_config is not None:
            write_yaml(settings, write_config)
            console.say_whole(f"gatenorm {shlex.join(('audit', model, '--config', str(write_config)))}")
            return
        warn_of_conversion(settings.run.device, settings.run.dtype)
        with console.kept_in(directory):
            audit = run_audit(model, directory, settings, fail_on=fail_on, listener=listener)
    console.deliver(json, audit, lambda: None if json_lines else show(audit, directory, names))
    lines = failed(audit, fail_on) if fail_on else []
    for line in lines:
        sys.stderr.write(printable(f"--fail-on {fail_on}: {line}") + "\n")
    if lines:
        raise typer.Exit(FAILED)


class _Now:
    """The latest event as it reads at this moment: a bar asks for it whenever it is redrawn."""

    event: Event | None = None

    def __str__(self) -> str:
        return "preparing" if self.event is None else printable(self.event.words(time.time() - self.event.time))


def _plan(event: Planned, named: Callable[[str], str], quick: bool) -> None:
    """The plan of the work, with the name of an option in the place of a key."""
    lines = event.words_of_plan(named)
    if not quick and (event.seconds_left or 0) > _LONG:
        lines.append("a first impression takes less: --quick")
    for line in lines:
        console.note(f"plan: {line}")


@contextmanager
def _listener(json_lines: bool, quick: bool, named: Callable[[str], str]) -> Iterator[Listener | None]:
    """Where events go: to stdout as JSON, to a line on the terminal that is redrawn; elsewhere a line for each step,
    and in a long one now and then.
    """
    from gatenorm.audit.run import progress

    if json_lines:
        yield progress.json_lines
        return
    if console.is_quiet():
        yield None
        return
    now, said = _Now(), time.monotonic()
    with console.bar("audit", "elapsed", "now", width=0, now=now) as update:

        def listen(event: Event) -> None:
            nonlocal said
            if isinstance(event, progress.Planned):
                _plan(event, named, quick)
                return
            now.event = event
            update(completed=event.done, total=event.all)
            news = isinstance(event, progress.StepBegan) or time.monotonic() - said > _SILENT
            if news and not console.shows_progress():
                console.note(event.words())
                said = time.monotonic()

        yield listen

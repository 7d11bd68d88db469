"""How the command line speaks: tables on stdout, progress on stderr, data as JSON."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gatenorm.cli import table_layout
from gatenorm.cli.estimate import Estimate
from gatenorm.errors import OutputError, printable
from gatenorm.records.numbers import bytes_for_people as bytes_for_people
from gatenorm.records.serialization import to_json

if TYPE_CHECKING:
    from rich.table import Table

T = TypeVar("T")


@contextmanager
def progress_bar(what: str, unit: str = "layers") -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr while the block runs, driven by ``(done, total)``, and once how long it will take.

    Without a terminal there is no bar, but what takes minutes still says so.
    """
    estimate = Estimate(what)
    with bar(what, "download" if unit == "bytes" else "count", "left") as update:

        def progress(done: int, total: int) -> None:
            update(completed=done, total=total)
            tell(estimate.line(done, total))

        yield progress


def tell(estimate: str) -> None:
    """How long something takes, on stderr, unless nothing is to be said."""
    if estimate and not is_quiet():
        note(estimate)


@contextmanager
def bar(what: str, *columns: str, width: int = 40, **fields: Any) -> Iterator[Callable[..., None]]:
    """A bar on stderr while the block runs, driven by keywords; nothing where stderr is no terminal.

    Args:
        columns: ``count``, ``download``, ``left`` and ``elapsed`` (the time), or the name of a field of text.
        width: of the bar itself; none where it is 0.
        fields: the texts at first.
    """
    if not shows_progress():
        yield lambda **_: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    known = {"count": MofNCompleteColumn, "download": DownloadColumn, "left": TimeRemainingColumn}
    known["elapsed"] = TimeElapsedColumn
    shown = (
        known[name]() if name in known else TextColumn(f"{{task.fields[{name}]}}", markup=False) for name in columns
    )
    drawn = [TextColumn("{task.description}", markup=False), BarColumn(bar_width=width)] if width else []
    with Progress(*drawn, *shown, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(what, total=None, **fields)

        def update(**changes: Any) -> None:
            clean: dict[str, Any] = {k: printable(v) if isinstance(v, str) else v for k, v in changes.items()}
            bars.update(task, **clean)

        yield update


# Of ``quiet`` and ``verbose``, those that were asked for.
_MANNER: ContextVar[frozenset[str]] = ContextVar("manner", default=frozenset())


@contextmanager
def manner(asked: Iterable[str]) -> Iterator[None]:
    """Of the block: ``quiet`` shows no progress on a terminal, ``verbose`` lets the hub and transformers speak."""
    token = _MANNER.set(frozenset(asked))
    try:
        yield
    finally:
        _MANNER.reset(token)


def shows_progress() -> bool:
    """Whether stderr is a terminal, and progress was not switched off."""
    return sys.stderr.isatty() and not is_quiet()


def is_quiet() -> bool:
    """Whether progress was switched off."""
    return "quiet" in _MANNER.get()


def quiet_hub() -> None:
    """Keep the hub's bars off a stderr that is no terminal; must come before huggingface_hub is imported.

    The variables stay set: the process is the command's, and so are its children, which time and train.
    """
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # What went wrong is said once, by us.
    os.environ.setdefault("HF_HUB_VERBOSITY", "info" if "verbose" in _MANNER.get() else "error")


def quiet_transformers() -> None:
    """Keep transformers' bars and remarks out of the output: what matters is said by gatenorm itself."""
    try:
        from transformers.utils import logging
    except ImportError:
        return
    if "verbose" in _MANNER.get():
        logging.set_verbosity_info()
        return
    logging.disable_progress_bar()
    logging.set_verbosity_error()


def check_sink(target: str, field: str) -> None:
    """Raise OutputError for a place that output cannot be written to, before the work is done: an empty name, a
    directory, or a folder that is not there or not writable.
    """
    from gatenorm.files import can_be_written

    if target != "-" and not can_be_written(Path(target)):
        expected = "a file name, or - for stdout"
        raise OutputError("not-writable", "cannot be written", field=field, given=target, expected=expected)


def check_plot(file: Path, field: str) -> None:
    """Refuse a file that no plot can be written to, before the work is done."""
    from gatenorm.report.figures.drawing import check_format
    from gatenorm.report.figures.rendering import check_memory

    check_format(file, field)
    check_memory()


def deliver(
    json_target: str | None,
    data: object,
    show: Callable[[], None],
    csv_target: str | None = None,
    rows: Iterable[Mapping[str, object]] = (),
) -> None:
    """Write ``data`` for ``--json`` and ``rows`` for ``--csv``, and show them to people unless stdout has either."""
    if json_target:
        write_json(json_target, data)
    if csv_target:
        write_csv(csv_target, rows)
    if "-" not in (json_target, csv_target):
        show()


def write_csv(target: str, rows: Iterable[Mapping[str, object]]) -> None:
    """Write rows of the same columns to a file, whole or not at all, or to stdout for ``-``.

    Raises:
        OutputError: the file cannot be written.
    """
    import csv
    import io

    text, listed = io.StringIO(newline=""), list(rows)
    writer = csv.DictWriter(text, listed[0] if listed else (), lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: printable(v) if isinstance(v, str) else v for k, v in row.items()} for row in listed)
    if target == "-":
        sys.stdout.write(text.getvalue())
        return
    from gatenorm.files import write_text

    write_text(Path(target), text.getvalue())


def write_json(target: str, data: object) -> None:
    """Write records, or plain data with records in it, to a file, whole or not at all, or to stdout for ``-``.

    Raises:
        OutputError: the file cannot be written.
    """
    if target == "-":
        # A terminal obeys some characters that JSON may hold, and not every stream can express all of them.
        sys.stdout.write(json.dumps(to_json(data), indent=2, ensure_ascii=True) + "\n")
        return
    from gatenorm.files import write_json

    write_json(Path(target), to_json(data))


def print_table(table: Table, *expendable: str) -> None:
    """A rich table on stdout, as wide as the terminal, or as wide as it needs where stdout is a file.

    One that is too wide is :func:`table_layout.narrowed`.
    """
    from rich.segment import Segment

    table_layout.narrowed(table, expendable)

    class Printable:
        def __rich_console__(self, console: Any, options: Any) -> Iterator[Segment]:
            for segment in console.render(table, options):
                text = "\n".join(map(printable, segment.text.split("\n")))
                yield segment if segment.control else Segment(text, segment.style)

    table_layout.stdout_console().print(Printable())


def print_parts(drawn: Callable[[Sequence[T]], Table], columns: Sequence[T]) -> None:
    """The table that ``drawn`` makes of the columns, or as few tables as have room for them all."""
    for parts in range(1, len(columns) + 1):
        size = -(-len(columns) // parts)
        tables = [table_layout.narrowed(drawn(columns[n : n + size])) for n in range(0, len(columns), size)]
        if size == 1 or all(map(table_layout.fits, tables)):
            for table in tables:
                print_table(table)
            return


@contextmanager
def kept_in(place: Path | None) -> Iterator[None]:
    """Whoever stops the block is told that what it has finished is kept; nothing is said where there is no place."""
    try:
        yield
    except KeyboardInterrupt:
        if place is not None and place.exists():
            sys.stderr.write(f"what was finished is kept in {place}: repeat the command to continue\n")
        raise


def say(text: str, indent: int = 0) -> None:
    """A sentence for people on stdout; on a terminal it breaks between words, and further lines are indented."""
    lines = [printable(text)]
    if sys.stdout.isatty():
        width = max(20, shutil.get_terminal_size().columns)
        how: Any = {"break_on_hyphens": False, "break_long_words": False}
        lines = textwrap.wrap(lines[0], width, subsequent_indent=" " * indent, **how) or [""]
    for line in lines:
        say_whole(line)


def say_whole(text: str) -> None:
    """A line on stdout as it is, such as a command to copy."""
    sys.stdout.write(printable(text) + "\n")


def say_each(label: str, texts: Iterable[str]) -> None:
    """A line for each of them: ``note: ...``."""
    for text in texts:
        say(f"{label}: {text}", indent=2)


def note(text: str) -> None:
    """A line about the work on stderr; on a terminal it breaks between words."""
    lines = [printable(text)]
    if sys.stderr.isatty():
        lines = textwrap.wrap(lines[0], max(20, shutil.get_terminal_size().columns), subsequent_indent="  ")
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    sys.stderr.flush()


def warn(text: str) -> None:
    """A line on stderr that does not stop anything."""
    sys.stderr.write(f"warning: {printable(text)}\n")

"""The ``gatenorm`` command: thin subcommands over the API, which are imported when it runs."""

import os
import sys
from pathlib import Path
from typing import Any

from gatenorm.cli.stopping import INTERRUPTED, Stopped


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, 2 for bad input, 128 and its number for a signal."""
    _prepare_streams()
    try:
        # Imported here, so that Ctrl-C while that lasts (a tenth of a second) ends as it does afterwards.
        from gatenorm.cli.application import run

        return run(arguments)
    except KeyboardInterrupt as error:
        sys.stderr.write("interrupted; nothing half-written was left behind\n")
        return error.status if isinstance(error, Stopped) else INTERRUPTED


def _prepare_streams() -> None:
    """Have all output go somewhere: nowhere where a stream is closed, and ``?`` for what it cannot express."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - for as long as the process lives
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module 'gatenorm.cli' has no attribute {name!r}")
    from gatenorm.cli.application import app

    return app

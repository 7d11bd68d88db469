"""The application of all subcommands; one line and status 2 for what the user can mend."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated

import typer

from gatenorm import __version__
from gatenorm.cli import (
    INTERRUPTED,
    audit,
    bench,
    compare,
    console,
    curve,
    demo,
    evaluate,
    export,
    inspect,
    profile,
    prune,
    recover,
    score,
    verify,
)
from gatenorm.errors import GatenormError

app = typer.Typer(
    name="gatenorm",
    help="Find the attention sublayers of an open LLM that have gone to sleep, and remove them.",
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog="Example: gatenorm score ./llama",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (
    inspect,
    score,
    compare,
    prune,
    export,
    verify,
    curve,
    evaluate,
    bench,
    profile,
    recover,
    audit,
    demo,
):
    app.command(name=module.NAME, epilog=module.EXAMPLE)(module.command)


def _version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"gatenorm {__version__}\n")
        raise typer.Exit


# EX_SOFTWARE of sysexits.h.
_FAULT = 70
# The base class of all usage errors. typer shows only its subclasses, and newer releases carry a click of their own.
_UsageError: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")


def run(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status.

    Raises:
        KeyboardInterrupt: Ctrl-C, or a polite request to stop, after every clean-up.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    # Wherever it stands: people add it at the end of the line that failed.
    arguments = [a for a in arguments if a != "--debug"]
    console.quiet_hub()
    previous = signal.signal(signal.SIGTERM, _terminated)
    try:
        status = app(arguments, prog_name="gatenorm", standalone_mode=False)
        if status == INTERRUPTED:
            raise KeyboardInterrupt
        return status if isinstance(status, int) else 0
    except GatenormError as error:
        return _complain(str(error), error, debug)
    except _UsageError as error:
        # Of the subcommand, where it is known which one was meant.
        where = getattr(error, "ctx", None)
        seen = f"(see {where.command_path if where else 'gatenorm'} --help)"
        return _complain(f"{error.format_message()} {seen}", error, debug)  # type: ignore[attr-defined]
    except typer.Abort:
        raise KeyboardInterrupt from None
    except BrokenPipeError:
        # Whoever read the output has seen enough. Python would complain once more when it flushes on leaving.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError as error:
        return _complain("not enough memory for this model on this machine", error, debug)
    except UnicodeEncodeError as error:
        what = f"the output cannot be written in {error.encoding}: set PYTHONIOENCODING=utf-8"
        return _complain(what, error, debug)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _complain(f"{where}{error.strerror or error}", error, debug)
    except Exception as error:
        # A fault of ours: shown whole, and with a status of its own, since 1 is what `verify` says of a difference.
        import traceback

        traceback.print_exception(error)
        return _FAULT
    finally:
        signal.signal(signal.SIGTERM, previous)


def _terminated(number: int, frame: object) -> None:
    """A polite request to stop runs every clean-up, as Ctrl-C does."""
    raise KeyboardInterrupt


def _complain(message: str, error: BaseException, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exception(error)
    # Names out of a checkpoint may hold anything, terminal commands among it.
    line = "".join(c if c.isprintable() else "?" for c in " ".join(message.split()))
    sys.stderr.write(f"error: {line}\n")
    return 2

"""The application of all subcommands; one line and status 2 for what the user can mend."""

import os
import signal
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Annotated

import typer

from gatenorm import __version__
from gatenorm.cli import console
from gatenorm.cli.command import Command, Group
from gatenorm.cli.declaration import command
from gatenorm.cli.stopping import INTERRUPTED, Stopped
from gatenorm.errors import CheckpointError, FamilyError, GatenormError, first_line, printable
from gatenorm.extensions import Extension, describing, installed

app = typer.Typer(
    name="gatenorm",
    help="Find the attention sublayers of an LLM that contribute least, and remove or replace them.",
    invoke_without_command=True,
    cls=Group,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog="Example: gatenorm score ./llama",
    context_settings={"help_option_names": ["-h", "--help"]},
)
_ON_FILES = ("inspect", "score", "compare", "prune", "export", "convert", "verify")
_AT_WORK = ("curve", "evaluate", "bench", "profile", "recover", "audit", "demo", "reproduce", "doctor")
for module in (import_module(f"gatenorm.cli.{name}") for name in (*_ON_FILES, *_AT_WORK)):
    run_command = command(module.command, getattr(module, "SETTINGS", None))
    app.command(name=module.NAME, epilog=module.EXAMPLE, cls=Command)(run_command)


def _version(shown: bool) -> None:
    if shown:
        sys.stdout.write(f"gatenorm {__version__}\n")
        raise typer.Exit


# Of kill and of a terminal that is closed, unless someone has asked to ignore them (nohup).
_POLITE = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
# EX_SOFTWARE of sysexits.h.
_FAULT = 70
# The base class of all usage errors. typer shows only its subclasses, and newer releases carry a click of their own.
_UsageError: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Also show messages of transformers and the hub.")] = False,
) -> None:
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")


def run(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status.

    Raises:
        KeyboardInterrupt: Ctrl-C, or a polite request to stop, after every clean-up.
    """
    with describing() as described:
        return _run(list(sys.argv[1:] if arguments is None else arguments), described)


def _run(arguments: list[str], described: Mapping[str, Extension]) -> int:
    # Accepted anywhere: people add it at the end of the line that failed.
    debug = "--debug" in arguments
    try:
        with console.manner(flag for flag in ("quiet", "verbose") if f"--{flag}" in arguments):
            try:
                status = invoke([a for a in arguments if a not in ("--debug", "--quiet", "--verbose")])
            finally:
                _warn_of_broken_packages(sys.exception())
        sys.stdout.flush()  # here, where it can still be said what went wrong
        return status
    except GatenormError as error:
        return _complain(error.text() + _described_by(error, described), error, debug)
    except BrokenPipeError:
        # The reader of the output has seen enough. Python would complain once more when it flushes on exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except BaseException as error:
        if type(error).__name__ == "PanicException":  # of Rust: tokenizers met what they did not expect
            return _complain(f"a tokenizer failed: {first_line(error)}", error, debug)
        said = f"{type(error).__name__}: {first_line(error)}"
        package = "" if isinstance(error, KeyboardInterrupt) else installed().raised_in(error)
        if package:
            return _complain(f"the package {package}, which extends gatenorm, failed: {said}", error, debug)
        if not isinstance(error, Exception):
            raise
        if blamed := _described_by(error, described):
            return _complain(said + blamed, error, debug)
        # A bug: shown in full, with an exit status of its own, since `verify` uses 1 for a difference.
        import traceback

        traceback.print_exception(error)
        return _FAULT


def _warn_of_broken_packages(error: BaseException | None) -> None:
    """One line for each package whose extensions were passed over, unless that is what the command ends with."""
    said = str(error) if isinstance(error, GatenormError) else installed().raised_in(error) if error else ""
    for package, problems in installed().broken.items():
        if package not in said:
            more = f" (and {len(problems) - 1} more: gatenorm doctor)" if len(problems) > 1 else ""
            console.warn(f"the package {package} is broken, and this was left out: {problems[0]:.400}{more}")


def invoke(arguments: list[str]) -> int:
    """Run the command line; returns the exit status of a command that ran.

    Raises:
        GatenormError: anything that the user can mend, usage errors and full disks included.
        KeyboardInterrupt: as :func:`run`.
    """
    console.quiet_hub()
    stopped: list[int] = []

    def stop(number: int, frame: object) -> None:
        """A polite request to stop runs every clean-up, as Ctrl-C does."""
        stopped.append(number)
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, stop) for number in _POLITE if signal.getsignal(number) == signal.SIG_DFL}
    try:
        status = app(arguments, prog_name="gatenorm", standalone_mode=False)
        if status == INTERRUPTED:
            raise KeyboardInterrupt
        return status if isinstance(status, int) else 0
    except _UsageError as error:
        context = getattr(error, "ctx", None)  # of the subcommand, where it is known which one was meant
        command = context.command_path if context else "gatenorm"
        message = error.format_message()  # type: ignore[attr-defined]
        raise GatenormError("usage", f"{message} (see {command} --help)") from error
    except (typer.Abort, KeyboardInterrupt):
        raise (Stopped(stopped[0]) if stopped else KeyboardInterrupt) from None
    except (BrokenPipeError, SystemExit) as error:
        # typer makes the former into the latter.
        raise BrokenPipeError if isinstance(error.__context__, BrokenPipeError) else error from None
    except MemoryError as error:
        raise GatenormError("out-of-memory", "not enough memory for this model on this machine") from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise GatenormError("system", f"{where}{error.strerror or first_line(error)}") from error
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


def _described_by(error: Exception, described: Mapping[str, Extension]) -> str:
    """Who described the models of this command, where that was another package and the error may come of it."""
    about_the_model = (
        not isinstance(error, GatenormError)
        or isinstance(error, (CheckpointError, FamilyError))
        or error.field == "model"
        or error.code == "not-exportable"
    )
    others = [str(added) for added in described.values() if added.package not in str(error)]
    if not (about_the_model and others):
        return ""
    return f"; the model is described by {' and '.join(others)}"


def _complain(message: str, error: BaseException, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exception(error)
    try:
        sys.stderr.write(f"error: {printable(' '.join(message.split()))}\n")
    except OSError:  # a full disk; Python would try once more on exit, and give it a status of its own
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    return 2

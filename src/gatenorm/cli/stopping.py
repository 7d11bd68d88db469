"""How the command line ends where it is asked to stop."""

# What a shell expects of a command that Ctrl-C ended, and what typer makes of it.
INTERRUPTED = 130


class Stopped(KeyboardInterrupt):
    """A polite request to stop, by a signal such as SIGTERM."""

    def __init__(self, number: int):
        self.status = 128 + number

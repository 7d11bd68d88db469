"""A process that answers lines by lines; what it writes to stderr is kept, for the reason should it end."""

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO


class LineProcess:
    """Python in a process of its own, which starts at once."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str] | None = None):
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self.process: subprocess.Popen[bytes] = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
        )

    def ask(self, question: str) -> str:
        """Its line of answer to a line; empty where it has ended."""
        with suppress(BrokenPipeError):
            self._stdin.write(question.encode() + b"\n")
            self._stdin.flush()
        return self.answer()

    def answer(self) -> str:
        """Its next line, without the question; empty where it has ended."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode().strip()

    def logged(self) -> list[str]:
        """The lines that it wrote to stderr."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace").splitlines()

    def close(self, grace: float = 0.0) -> None:
        """Tell it to end by closing its input, and kill it if it has not within so many seconds."""
        with suppress(BrokenPipeError):  # a question that a dead process never read is still in the buffer
            self._stdin.close()
        try:
            self.process.wait(grace)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._log.close()

    @property
    def _stdin(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin

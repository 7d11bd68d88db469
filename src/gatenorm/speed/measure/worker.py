"""One variant in a process of its own: peak memory is its own, and what dies there dies alone.

The parent writes one JSON object a line and reads one back. Whatever engines print goes to stderr, which the parent
keeps for the reason should the process end: the answers have a channel of their own.

    python -m gatenorm.speed.measure.worker ENGINE PATH SETTING
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from gatenorm.engines import Case, Sample, Setting, Shares, SkippedError, engine_named
from gatenorm.errors import EvaluationError, GatenormError
from gatenorm.records.serialization import from_json, to_json

_GRACE_SECONDS = 10.0


class Worker:
    """A `Session` whose model lives in another process. The process starts at once; :meth:`opened` waits for it."""

    def __init__(self, engine: str, path: Path, setting: Setting):
        self.path = path
        self._command = [sys.executable, "-m", __name__, engine, str(path), json.dumps(to_json(setting))]
        self._said: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._versions: Mapping[str, str] = {}
        self._dtype: str | None = None
        self._waiting = False
        self._start()

    @property
    def versions(self) -> Mapping[str, str]:
        return self._versions

    @property
    def dtype(self) -> str | None:
        """The type in which the engine says that it computes."""
        return self._dtype

    def opened(self) -> Worker:
        """Wait until the model is loaded.

        Raises:
            EvaluationError: the engine refuses it, with its reason.
        """
        if self._waiting:
            self._waiting = False
            answer = self._hear()
            if "error" in answer:
                raise EvaluationError(answer["error"])
            self._versions, self._dtype = answer["versions"], answer["dtype"]
        return self

    def run(self, case: Case) -> Sample:
        """Time one case once; see :meth:`Session.run`."""
        return from_json(Sample, self._ask("run", case), "a sample")

    def profile(self, case: Case) -> Shares | None:
        """See :meth:`Session.profile`."""
        answer = self._ask("profile", case)
        return from_json(Shares, answer["shares"], "shares") if answer["shares"] else None

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(BrokenPipeError):  # a question that a dead process never read is still in the buffer
                if process.stdin:
                    process.stdin.close()
            try:
                process.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout:
                process.stdout.close()
        if self._said is not None:
            self._said.close()
            self._said = None

    def _start(self) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said
        )
        self._waiting = True

    def _ask(self, what: str, case: Case) -> dict[str, Any]:
        if self._process is None:  # it died of an earlier case
            self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self.opened()
            self._process.stdin.write(json.dumps({"do": what, "case": to_json(case)}).encode() + b"\n")
            self._process.stdin.flush()
            answer = self._hear()
        except (BrokenPipeError, EvaluationError) as error:
            self.close()
            raise SkippedError(str(error)) from None
        if "skipped" in answer:
            raise SkippedError(answer["skipped"])
        if "error" in answer:
            raise EvaluationError(answer["error"])
        return answer

    def _hear(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        status = self._process.wait()
        killed = " (killed, most likely for lack of memory)" if status == -9 else ""
        raise EvaluationError(f"the process of {self.path.name} ended with status {status}{killed}{self._last_words()}")

    def _last_words(self) -> str:
        assert self._said is not None
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1]:.200}" if lines else ""


def main() -> None:
    """The other side: open the model, then answer until the parent closes the pipe."""
    engine, path, setting = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(answer: Mapping[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    try:
        session = engine_named(engine).open_timed(Path(path), from_json(Setting, json.loads(setting), "a setting"))
    except GatenormError as error:
        say({"error": str(error)})
        return
    say({"versions": dict(session.versions), "dtype": session.dtype})
    for line in sys.stdin:
        asked = json.loads(line)
        case = from_json(Case, asked["case"], "a case")
        try:
            if asked["do"] == "run":
                say(to_json(session.run(case)))
            else:
                say({"shares": to_json(session.profile(case))})
        except SkippedError as reason:
            say({"skipped": str(reason)})
        except GatenormError as error:
            say({"error": str(error)})
    session.close()


if __name__ == "__main__":
    main()

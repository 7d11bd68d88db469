"""A model in a process of its own: peak memory is its own, and what dies there dies alone.

The parent writes a line of JSON for every case, and the process answers each by a line. Whatever engines print goes to
stderr, which the parent keeps for the reason should the process end.

    python -m gatenorm.speed.measure.worker ENGINE PATH SETTING
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from gatenorm.engines import Case, Sample, Setting, Shares, SkippedError, check_opened, engine_named
from gatenorm.errors import EvaluationError, GatenormError
from gatenorm.models.line_process import LineProcess
from gatenorm.records.serialization import from_json, to_json

_GRACE_SECONDS = 10.0


class Worker:
    """A ``TimedSession`` in another process, which starts at once; :meth:`opened` waits until it has loaded the model.

    ``versions`` and ``dtype`` are known from then on.
    """

    versions: dict[str, str]
    dtype: str | None
    _loading: bool

    def __init__(self, engine: str, path: Path, setting: Setting):
        self.path = path
        self._arguments = ["-m", __name__, engine, str(path), json.dumps(to_json(setting))]
        self._process: LineProcess | None = None
        self._start()

    def opened(self) -> Worker:
        """Wait until the model is loaded.

        Raises:
            EvaluationError: the engine refuses it, with its reason.
        """
        if self._loading:
            self._loading = False
            assert self._process is not None
            content = _content(*self._read(self._process.answer()))
            self.versions, self.dtype = content["versions"], content["dtype"]
        return self

    def run(self, case: Case) -> Sample:
        """Time one case once; see :meth:`TimedSession.run`."""
        return from_json(Sample, self._ask("run", case), "a sample")

    def profile(self, case: Case) -> Shares | None:
        """See :meth:`TimedSession.profile`."""
        answer = self._ask("profile", case)
        return None if answer is None else from_json(Shares, answer, "shares")

    def close(self) -> None:
        """End the process; calling it again is harmless."""
        process, self._process = self._process, None
        if process is not None:
            process.close(_GRACE_SECONDS)

    def _start(self) -> LineProcess:
        self._process, self._loading = LineProcess(self._arguments), True
        return self._process

    def _ask(self, method: str, case: Case) -> Any:
        process = self._process or self._start()  # it may have died of an earlier case
        try:
            self.opened()
            answer = self._read(process.ask(json.dumps([method, to_json(case)])))
        except EvaluationError as error:
            self.close()
            raise SkippedError(str(error)) from None
        return _content(*answer)

    def _read(self, line: str) -> tuple[str, Any]:
        """What kind of answer a line is, and its content."""
        if line:
            kind, content = json.loads(line)
            return kind, content
        assert self._process is not None
        status = self._process.process.wait()
        killed = " (killed, most likely for lack of memory)" if status == -9 else ""
        lines = [line for line in self._process.logged() if line.strip()]
        said = f": {lines[-1]:.200}" if lines else ""
        raise EvaluationError(
            "process-ended", f"the process of {self.path.name} ended with status {status}{killed}{said}"
        )


def _content(kind: str, content: Any) -> Any:
    if kind == "skipped":
        raise SkippedError(content)
    if kind == "error":
        raise EvaluationError("engine-fails", content)
    return content


def main() -> None:
    """The process: open the model, then answer until the parent closes the pipe."""
    engine, path, setting = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(kind: str, content: object) -> None:
        print(json.dumps([kind, content]), file=answers, flush=True)

    try:
        kind = engine_named(engine)
        session = kind.open_timed(Path(path), from_json(Setting, json.loads(setting), "a setting"))
        check_opened(kind, session, "run")
    except GatenormError as error:
        say("error", str(error))
        return
    say("opened", {"versions": dict(session.versions), "dtype": session.dtype})
    for line in sys.stdin:
        method, case = json.loads(line)
        try:
            say("done", to_json(getattr(session, method)(from_json(Case, case, "a case"))))
        except SkippedError as reason:
            say("skipped", str(reason))
        except GatenormError as error:
            say("error", str(error))
    session.close()


if __name__ == "__main__":
    main()

"""The other end of ``child.py``: starts it, asks its server, and says in one line what became of it."""

import http.client
import json
import os
import re
import secrets
import signal
import subprocess
from pathlib import Path
from typing import Any

from gatenorm.engines import refuses
from gatenorm.errors import EvaluationError
from gatenorm.models.line_process import LineProcess

_CHILD = Path(__file__).with_name("child.py")
LONGEST_WAIT = 600.0
# What llama.cpp says of a failure, the most telling first; function names come before it.
_TELLING = (
    re.compile(r"(GGML_ASSERT\(.*)"),
    re.compile(r"error loading model(?: \w+)?: (.*)"),
    re.compile(r"(?:gguf_init\w*|error|terminate\w*|what\(\)|xllamacpp): +(.*)", re.IGNORECASE),
)


class LlamaCppProcess:
    """llama.cpp's server on ``model`` in a process of its own.

    Raises:
        EvaluationError: it does not load the model, or its process ends, with the reason that it logged.
    """

    def __init__(self, model: Path, context: int, threads: int, states: Path):
        self._model, self._key = model, secrets.token_hex(16)
        # Without -P the engines beside the child's file would pass for packages of the same names.
        self._child = LineProcess(["-P", str(_CHILD)], {**os.environ, "GGML_NO_BACKTRACE": "1"})
        asked = {"path": str(model), "context": context, "threads": threads, "key": self._key, "states": str(states)}
        try:
            address = self._child.ask(json.dumps(asked))
            if not address:
                raise self._ended("its process ended")
        except BaseException:
            self.close()
            raise
        self._address = address.removeprefix("http://")

    def post(self, path: str, body: dict[str, Any], seconds: float = LONGEST_WAIT) -> dict[str, Any]:
        """What the server on the loopback interface answers.

        Raises:
            TimeoutError: it does not within ``seconds``, where that is less than the longest wait.
            EvaluationError: it answers with an error, or not at all.
        """
        connection = http.client.HTTPConnection(self._address, timeout=seconds)
        try:
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"}
            connection.request("POST", path, json.dumps(body), headers)
            answer = connection.getresponse()
            data = json.loads(answer.read())
        except TimeoutError:
            if seconds < LONGEST_WAIT:
                raise
            raise _failed(f"llama.cpp does not answer {path} within {seconds:.0f} s") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._ended(f"llama.cpp does not answer {path}: {error!s:.200}") from None
        finally:
            connection.close()
        if answer.status != http.HTTPStatus.OK or not isinstance(data, dict):
            raise _failed(f"llama.cpp answers {path} with {answer.status}: {data!s:.200}")
        return data

    def close(self) -> None:
        self._child.close()

    def _ended(self, otherwise: str) -> EvaluationError:
        try:
            status = self._child.process.wait(1)
        except subprocess.TimeoutExpired:
            return _failed(otherwise)
        reason = self._reason() or otherwise
        if status < 0:
            name = signal.Signals(-status).name
            return _failed(f"llama.cpp was ended by {name} on {self._model}: {reason}")
        return refuses("llama.cpp", self._model, reason)

    def _reason(self) -> str:
        lines = self._child.logged()
        for telling in _TELLING:
            for line in lines:
                match = telling.search(line)
                if match and match[1].strip():
                    return " ".join(match[1].split())[:300]
        return " ".join(lines[-1].split())[:300] if lines else ""


def _failed(problem: str) -> EvaluationError:
    return EvaluationError("engine-fails", problem)

"""Chat templates are programs of strangers: they run in a process of their own, within limits, for every message."""

import json
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from threading import Lock, Timer
from typing import Any
from weakref import finalize

from gatenorm.errors import EvaluationError
from gatenorm.models.line_process import LineProcess

_CHILD = Path(__file__).with_name("chat_child.py")
# Of one rendering: seconds, bytes of memory, and characters besides ten for each of the messages.
_SECONDS, _BYTES, _CHARACTERS, _REPEATED = 10.0, 1 << 30, 1 << 20, 10
# Seconds that each rendering may take in the long run: thousands of them may not take ten seconds each.
_USUAL = 0.1


def render(tokenizer: Any, messages: Sequence[Mapping[str, str]], **options: bool) -> str:
    """The messages as a tokenizer's chat template writes them; ``options`` are variables for it.

    Raises:
        EvaluationError: ``chat-template-broken`` where there is none or it fails, and ``chat-template-unbounded`` where
            a rendering takes more than 10 seconds, or all of them more of the processor than these and a tenth of a
            second each; or a gigabyte, or a million characters and ten times the messages'.
    """
    found = getattr(tokenizer, "chat_template", None)
    template = found.get("default") if isinstance(found, dict) else found
    if not isinstance(template, str):
        raise EvaluationError("chat-template-broken", "the tokenizer has no chat template, or none called 'default'")
    asked = {
        "template": template,
        "messages": messages,
        "variables": {**getattr(tokenizer, "special_tokens_map", {}), **options},
        "characters": _CHARACTERS + _REPEATED * sum(len(text) for message in messages for text in message.values()),
    }
    try:
        answer = _renderer(os.getpid()).ask(template, json.dumps(asked, default=str))
    except BaseException:
        _renderer.cache_clear()  # which may still answer what it was asked before
        raise
    if "text" in answer:
        return str(answer["text"])
    if "error" in answer:
        problem = f"the chat template fails: {answer['error']}"
        raise EvaluationError("chat-template-broken", problem, hint="mend the template beside the tokenizer")
    problem = "the chat template does not end, or fills memory: it was stopped"
    hint = "mend the template beside the tokenizer, or remove it"
    raise EvaluationError("chat-template-unbounded", problem, hint=hint)


class _Renderer:
    """The process, which lives until nobody needs it, and is asked about one message after the other."""

    def __init__(self) -> None:
        # What a pool of threads reserves is no memory of a template's.
        self._child = LineProcess(["-P", str(_CHILD), str(_BYTES)], {**os.environ, "OPENBLAS_NUM_THREADS": "1"})
        finalize(self, self._child.close)
        self._lock, self._template, self._left = Lock(), "", _SECONDS
        if not self._child.answer():
            said = (self._child.logged() or ["its process ended"])[-1]
            raise EvaluationError("chat-template-broken", f"chat templates cannot be rendered here: {said:.200}")

    def ask(self, template: str, question: str) -> dict[str, Any]:
        """Its answer, which is empty where the process had to be ended."""
        with self._lock:
            if template != self._template:
                self._template, self._left = template, _SECONDS
            stopped = Timer(_SECONDS, self._child.process.kill)
            stopped.start()
            try:
                line = self._child.ask(question)
            finally:
                stopped.cancel()
            if not line:
                _renderer.cache_clear()
                return {}
            answer: dict[str, Any] = json.loads(line)
            # Of the processor, which others may keep busy.
            self._left = min(_SECONDS, self._left + _USUAL - answer["seconds"])
            return answer if self._left > 0 else {}


@lru_cache(maxsize=1)
def _renderer(parent: int) -> _Renderer:
    """The renderer of the process with that number: one that was forked has none yet."""
    return _Renderer()

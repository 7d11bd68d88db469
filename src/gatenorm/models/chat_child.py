"""The process that renders chat templates, so that one without an end, or that fills memory, ends it and nobody else.

Run by its path, with the bytes of memory that it may take. It writes a line once it can render, and answers each line
of JSON on stdin with another: ``template``, ``messages``, ``variables`` and the most ``characters`` that may come of it
with ``text``, or ``error``, or ``unbounded``, and the ``seconds`` that it took. Needs transformers and
nothing else, not even gatenorm.
"""

import json
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any


def limit_memory(most: int) -> None:
    """Have this process get at most so many bytes more than it has."""
    with suppress(ImportError, OSError, ValueError):  # not every system limits that
        import resource

        there = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (there + most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def rendered(asked: dict[str, Any]) -> dict[str, Any]:
    """What a template makes of messages, through the code that transformers would use."""
    from transformers.utils.chat_template_utils import render_jinja_template

    given = {"conversations": [asked["messages"]], "chat_template": asked["template"], **asked["variables"]}
    try:
        (text,), _ = render_jinja_template(**given)
    except MemoryError:
        return {"unbounded": True}
    except Exception as error:  # a program of strangers fails in any way
        return {"error": f"{type(error).__name__}: {error!s:.200}"}
    return {"text": text} if len(text) <= asked["characters"] else {"unbounded": True}


def main() -> None:
    """Render until stdin ends."""
    from transformers.utils import chat_template_utils  # noqa: F401 - takes a second, which is no template's fault

    limit_memory(int(sys.argv[1]))
    print("ready", flush=True)
    for line in sys.stdin:
        began = time.process_time()
        answer = rendered(json.loads(line))
        print(json.dumps({**answer, "seconds": time.process_time() - began}), flush=True)


if __name__ == "__main__":
    main()

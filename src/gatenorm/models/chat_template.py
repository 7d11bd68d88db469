"""Chat templates are programs of strangers: each is tried in a process of its own, within limits, before it is used."""

import json
import re
import subprocess
import sys
from functools import lru_cache
from typing import Any

from gatenorm.errors import EvaluationError

# Of time, of memory, and of the text that two sentences become.
_SECONDS, _BYTES, _CHARACTERS = 10, 1 << 30, 1 << 20
_TAG_OF_TRANSFORMERS = re.compile(r"{%-?\s*(end)?generation\s*-?%}")
_TOO_MUCH = 3
# jinja2's sandbox, as transformers sets it up. What a template says about these messages is its own affair.
_TRY = """
import json, sys
import jinja2, jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment
asked = json.load(sys.stdin)
try:
    import resource
    for limit, most in ((resource.RLIMIT_AS, asked["bytes"]), (resource.RLIMIT_CPU, asked["seconds"])):
        resource.setrlimit(limit, (most, most))
except ImportError:
    pass
def refuse(message): raise jinja2.TemplateError(message)
said = [{"role": "user", "content": "One."}, {"role": "assistant", "content": "Two."}, {"role": "user", "content": "3"}]
try:
    there = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols])
    there.globals.update(raise_exception=refuse, strftime_now=lambda form: "")
    there.filters["tojson"] = lambda value, **how: json.dumps(value)
    made = there.from_string(asked["template"])
    for messages in (said[:1], said):
        if len(made.render(messages=messages, tools=None, add_generation_prompt=True)) > asked["characters"]:
            sys.exit(3)
except MemoryError:
    sys.exit(3)
except Exception:
    pass
"""


def check_template(tokenizer: Any) -> None:
    """Raise EvaluationError for a tokenizer whose chat template takes more than 10 seconds, a gigabyte or a million
    characters; each text is tried once.
    """
    found = getattr(tokenizer, "chat_template", None)
    for template in found.values() if isinstance(found, dict) else [found]:
        if isinstance(template, str) and not _ends(template):
            problem = "the chat template does not end, or fills memory: it was stopped"
            hint = "mend the template beside the tokenizer, or remove it"
            raise EvaluationError("chat-template-unbounded", problem, hint=hint)


@lru_cache(maxsize=16)
def _ends(template: str) -> bool:
    asked = {"template": _TAG_OF_TRANSFORMERS.sub("", template), "bytes": _BYTES, "seconds": _SECONDS}
    given = json.dumps({**asked, "characters": _CHARACTERS})
    command = [sys.executable, "-I", "-c", _TRY]
    try:
        tried = subprocess.run(command, input=given, text=True, capture_output=True, check=False, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return tried.returncode >= 0 and tried.returncode != _TOO_MUCH

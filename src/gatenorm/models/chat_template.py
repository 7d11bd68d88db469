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
import datetime, json, sys
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
system = [{"role": "system", "content": "Be brief."}, said[0]]
given = {"tools": None, "documents": None, **asked["special"]}
reply, turns = {"add_generation_prompt": True, "enable_thinking": False}, {"add_generation_prompt": False}
def now(form): return datetime.datetime.now().strftime(form)
def attempt(template, messages, options):
    try:
        if len(template.render(messages=messages, **{**given, **options})) > asked["characters"]:
            sys.exit(3)
    except MemoryError:
        sys.exit(3)
    except Exception:
        pass
try:
    there = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols])
    there.globals.update(raise_exception=refuse, strftime_now=now)
    there.filters["tojson"] = lambda value, **how: json.dumps(value)
except Exception:
    sys.exit(0)
for text in asked["templates"]:
    try:
        made = there.from_string(text)
    except MemoryError:
        sys.exit(3)
    except Exception:
        continue
    for messages, options in ((said[:1], reply), (system, reply), (said, reply), (said, turns)):
        attempt(made, messages, options)
"""


def check_template(tokenizer: Any) -> None:
    """Raise EvaluationError for a tokenizer whose chat templates together take more than 10 seconds, or one of them a
    gigabyte or a million characters; they are tried once, with the variables of a real rendering.
    """
    found = getattr(tokenizer, "chat_template", None)
    named = found.values() if isinstance(found, dict) else [found]
    templates = tuple(template for template in named if isinstance(template, str))
    special = getattr(tokenizer, "special_tokens_map", {})
    if templates and not _end(templates, json.dumps(special, default=str)):
        problem = "the chat template does not end, or fills memory: it was stopped"
        hint = "mend the template beside the tokenizer, or remove it"
        raise EvaluationError("chat-template-unbounded", problem, hint=hint)


@lru_cache(maxsize=16)
def _end(templates: tuple[str, ...], special: str) -> bool:
    plain = [_TAG_OF_TRANSFORMERS.sub("", template) for template in templates]
    asked = {"templates": plain, "special": json.loads(special), "bytes": _BYTES, "seconds": _SECONDS}
    given = json.dumps({**asked, "characters": _CHARACTERS})
    command = [sys.executable, "-I", "-c", _TRY]
    try:
        tried = subprocess.run(command, input=given, text=True, capture_output=True, check=False, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return tried.returncode >= 0 and tried.returncode != _TOO_MUCH

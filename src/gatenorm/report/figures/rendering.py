"""vl-convert, which draws: in this process, or in a child where memory is limited, since it aborts without any."""

import json
import subprocess
import sys
from contextlib import suppress
from typing import Any

from gatenorm.errors import OutputError

# Most of these addresses are never used.
_HINT = "lift the limit (ulimit -v), since it reserves some 64 GB of addresses, or ask for no figure"
_CHILD = """
import json, sys
import vl_convert
asked = json.load(sys.stdin)
made = getattr(vl_convert, asked["what"])(asked["given"], **asked["how"])
sys.stdout.buffer.write(made if isinstance(made, bytes) else made.encode())
"""


def svg_of(specification: dict[str, Any], config: dict[str, Any]) -> str:
    """A Vega-Lite specification as SVG; nothing is fetched for it.

    Raises:
        OutputError: memory is limited, and to too little.
    """
    return _drawn("vegalite_to_svg", specification, config=config, allowed_base_urls=[]).decode()


def png_of(drawing: str) -> bytes:
    """An SVG drawing as PNG, of twice its size in pixels.

    Raises:
        OutputError: memory is limited, and to too little.
    """
    return _drawn("svg_to_png", drawing, scale=2)


def check_memory() -> None:
    """Raise OutputError where nothing could be drawn, before any work is done."""
    if _memory_is_limited():
        svg_of({"mark": "point", "data": {"values": [{}]}}, {})


def _drawn(what: str, given: Any, **how: Any) -> bytes:
    if not _memory_is_limited():
        import vl_convert

        made = getattr(vl_convert, what)(given, **how)
        return made if isinstance(made, bytes) else made.encode()
    asked = json.dumps({"what": what, "given": given, "how": how}).encode()
    with suppress(OSError, MemoryError, subprocess.CalledProcessError):
        return subprocess.run([sys.executable, "-c", _CHILD], input=asked, capture_output=True, check=True).stdout
    problem = "a figure cannot be drawn: the memory of this process is limited, to too little for vl-convert"
    raise OutputError("figure-memory", problem, hint=_HINT)


def _memory_is_limited() -> bool:
    """Whether this process may have only so much address space, of which V8 reserves many gigabytes."""
    try:
        import resource
    except ImportError:  # not on Windows
        return False
    kinds = (resource.RLIMIT_AS, resource.RLIMIT_DATA)
    return any(resource.getrlimit(kind)[0] != resource.RLIM_INFINITY for kind in kinds)

"""Where results are kept between runs."""

import os
import sys
from pathlib import Path

VARIABLE = "GATENORM_CACHE"


def cache_directory() -> Path:
    """``$GATENORM_CACHE``, else the platform's directory for caches."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / "gatenorm/cache"
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/gatenorm"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gatenorm"

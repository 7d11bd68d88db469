"""What is installed here: extras, engines, the machine. Read from metadata; only an installed torch is imported."""

import os
import platform
import re
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution, version
from importlib.util import find_spec

from gatenorm.engines import ABLE, engine_named, engines
from gatenorm.extensions import passing_over
from gatenorm.models.processor import processor_features
from gatenorm.records.installation import Extra, Installation, InstalledEngine

# For those who develop gatenorm, and what the others add up to.
_LEFT_OUT = ("dev", "all")
_FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8", "bf16", "sve", "asimd")
_EXTRA = re.compile(r"extra == ['\"]([\w-]+)['\"]")


def installation() -> Installation:
    """What is installed, and what this machine can do."""
    return Installation(
        version=version("gatenorm"),
        extras=tuple(_extras()),
        engines=tuple(_engines()),
        platform=platform.platform(),
        processor=platform.machine(),
        processors=os.cpu_count(),
        memory_bytes=_memory(),
        features=tuple(name for name in _FEATURES if name in processor_features()),
        accelerators=tuple(_accelerators()),
    )


def _extras() -> list[Extra]:
    by_extra: dict[str, dict[str, str | None]] = {}
    for requirement in distribution("gatenorm").requires or ():
        name = re.split(r"[\s\[<>=!~;(]", requirement, maxsplit=1)[0]
        extra = _EXTRA.search(requirement)
        if extra and name != "gatenorm" and extra.group(1) not in _LEFT_OUT:
            by_extra.setdefault(extra.group(1), {})[name] = _version(name)
    return [Extra(name, packages) for name, packages in by_extra.items()]


def _version(package: str) -> str | None:
    with suppress(PackageNotFoundError):
        return version(package)
    return None


def _engines() -> Iterator[InstalledEngine]:
    for name, added in engines().items():
        with passing_over(added):
            engine = engine_named(name)
            can = [ability.command for able, ability in ABLE.items() if engine.can(able)]
            yield InstalledEngine(name, engine.installed, ("verify", *can))


def _memory() -> int | None:
    with suppress(ValueError, OSError, AttributeError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def _accelerators() -> Iterator[str]:
    if find_spec("torch") is None:
        return
    import torch

    for n in range(torch.cuda.device_count()):
        yield f"cuda:{n} ({torch.cuda.get_device_name(n)})"
    if torch.backends.mps.is_available():
        yield "mps"

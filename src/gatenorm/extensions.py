"""What other packages can add, and how ours is found in the same way.

A built-in extension is a module (or subpackage) of the package that lists it: its file name, with ``-`` for ``_``, is
its name, and one attribute of it is the extension. Another distribution adds one by an entry point::

    [project.entry-points."gatenorm.criteria"]
    my-norm = "my_package.my_norm:CRITERION"

Nothing is imported before it is asked for, so that listing names stays quick.
"""

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from gatenorm.errors import GatenormError, first_line

GROUPS = (
    "criteria",
    "evaluations",
    "engines",
    "exports",
    "formats",
    "quantisations",
    "families",
    "models",
    "operations",
)


@dataclass(frozen=True)
class Extension:
    """Something that can be loaded by name; ``origin`` says where it comes from, as ``module:attribute``."""

    name: str
    origin: str
    find: Callable[[], Any]

    def load(self) -> Any:
        """The object itself.

        Raises:
            GatenormError: its package cannot be imported.
        """
        try:
            return self.find()
        except (ImportError, AttributeError) as error:
            raise GatenormError(
                "extension-broken", f"the extension {self.name} ({self.origin}) cannot be loaded: {first_line(error)}"
            ) from error


@cache
def extensions(group: str, packages: tuple[str, ...] = (), attribute: str = "") -> Mapping[str, Extension]:
    """All extensions of one group by name: the built-in ones, then those of other distributions.

    Args:
        group: one of ``GROUPS``; entry points are looked for under ``gatenorm.<group>``.
        packages: the packages whose public modules are built-in extensions.
        attribute: what each of these modules calls its extension.

    Raises:
        GatenormError: two extensions of one name.
    """
    found: dict[str, Extension] = {}

    def add(extension: Extension) -> None:
        if extension.name in found:
            raise GatenormError(
                "extension-twice",
                f"{group}: the name {extension.name} is taken twice, by {found[extension.name].origin} and by "
                f"{extension.origin}: uninstall one of them",
            )
        found[extension.name] = extension

    for package in packages:
        for module in pkgutil.iter_modules(import_module(package).__path__):
            if not module.name.startswith("_"):
                path = f"{package}.{module.name}"
                add(Extension(module.name.replace("_", "-"), f"{path}:{attribute}", _attribute(path, attribute)))
    for point in sorted(entry_points(group=f"gatenorm.{group}"), key=lambda point: point.name):
        add(Extension(point.name, point.value, point.load))
    return found


def extension(name: str, known: Mapping[str, Extension], error: type[GatenormError], field: str) -> Any:
    """The extension of that name, loaded.

    Raises:
        GatenormError: of the given type: there is none; it names the nearest one and all of them.
    """
    if name not in known:
        raise error.unknown(field, name, known)
    return known[name].load()


def _attribute(module: str, attribute: str) -> Callable[[], Any]:
    return lambda: getattr(import_module(module), attribute)

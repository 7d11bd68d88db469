"""What other packages can add, and how ours is found in the same way.

A built-in extension is a module (or subpackage) of the package that lists it: its file name, with ``-`` for ``_``, is
its name, and one attribute of it is the extension. Another distribution adds one by an entry point::

    [project.entry-points."gatenorm.criteria"]
    my-norm = "my_package.my_norm:CRITERION"

Nothing is imported before it is asked for, so that listing names stays quick. What another package adds may be broken:
whoever asked for it is told so, and where it was not asked for it is passed over.
"""

import pkgutil
import re
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, distributions
from typing import Any, NoReturn

from gatenorm.errors import GatenormError, first_line

_PREFIX, _OURS = "gatenorm.", "gatenorm"
# What no command line, path or page takes for more than a name.
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)


@dataclass(frozen=True)
class Extension:
    """Something that can be loaded by name.

    Attributes:
        origin: where it comes from, as ``module:attribute``.
        kind: what it must be; a subclass of that where it is one of ``classes``.
        package: the distribution that adds it; empty for ours.
    """

    name: str
    origin: str
    find: Callable[[], Any]
    kind: type = object
    classes: bool = False
    package: str = ""

    def load(self) -> Any:
        """The object itself.

        Raises:
            GatenormError: its package cannot be imported, or adds something else.
        """
        try:
            found = self.find()
        except GatenormError:
            raise
        except (Exception, SystemExit) as error:
            if not self.package and not isinstance(error, (ImportError, AttributeError)):
                raise
            raise GatenormError("extension-broken", f"{self} cannot be loaded: {_said(error)}") from error
        if self.classes:
            if not (isinstance(found, type) and issubclass(found, self.kind)):
                raise wrong_kind(str(self), found, f"a subclass of {self.kind.__name__}")
        else:
            check_kind(str(self), found, self.kind)
        return found

    def __str__(self) -> str:
        return f"{self.name:.80} of the package {self.package or _OURS} ({self.origin})"


class Installed:
    """What the installed packages add, as it was when it was looked for.

    Attributes:
        broken: the packages whose extensions were passed over, each with what is wrong with them.
    """

    def __init__(self) -> None:
        self.broken: dict[str, list[str]] = {}
        self.group = cache(self._group)

    @cached_property
    def points(self) -> tuple[tuple[EntryPoint, str], ...]:
        """Their entry points, ours first, each with the distribution that it is of where that is not ours.

        Of a distribution that is installed twice the first on the path counts.
        """
        found: dict[str, list[EntryPoint]] = {_OURS: []}  # ours first
        for one in distributions():
            try:
                if _PREFIX in (one.read_text("entry_points.txt") or "") and not found.get(one.name):
                    found[one.name] = [point for point in one.entry_points if point.group.startswith(_PREFIX)]
            except Exception as error:
                self.note(one.name, f"its entry_points.txt cannot be read: {_said(error)}")
        return tuple(
            (point, "" if name == _OURS else name)
            for name, points in found.items()
            for point in sorted(points, key=lambda point: point.name)
        )

    def note(self, package: str, problem: str) -> None:
        """Remember what was passed over, once."""
        problems = self.broken.setdefault(package, [])
        if problem not in problems:
            problems.append(problem)

    def added(self) -> dict[str, list[str]]:
        """What other packages add, by package: groups with names."""
        found: dict[str, list[str]] = {package: [] for package in self.broken}
        for point, package in self.points:
            if package:
                found.setdefault(package, []).append(f"{point.group.removeprefix(_PREFIX)}: {point.name}")
        return found

    def raised_in(self, error: BaseException) -> str:
        """The package, not ours, in whose extension an error was raised; empty where it was raised elsewhere."""
        owners = {point.value.partition(":")[0].partition(".")[0]: package for point, package in self.points if package}
        modules = [str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__)]
        return next((owners[top] for name in reversed(modules) if (top := name.partition(".")[0]) in owners), "")

    def versions(self) -> dict[str, str]:
        """The versions of the distributions that add something, ours included."""
        return {point.dist.name: point.dist.version for point, _ in self.points if point.dist is not None}

    def _group(
        self, group: str, packages: tuple[str, ...], attribute: str, kind: type, classes: bool
    ) -> Mapping[str, Extension]:
        found: dict[str, Extension] = {}
        for package in packages:
            for module in pkgutil.iter_modules(import_module(package).__path__):
                if not module.name.startswith("_"):
                    name, path = module.name.replace("_", "-"), f"{package}.{module.name}"
                    found[name] = Extension(name, f"{path}:{attribute}", _attribute(path, attribute), kind, classes)
        for point, package in self.points:
            if point.group != _PREFIX + group:
                continue
            added = Extension(point.name, point.value, point.load, kind, classes, package)
            with passing_over(added):
                if not _NAME.fullmatch(added.name):
                    problem = f"{added} has no proper name"
                    raise GatenormError("extension-name", problem, expected="letters, digits, . _ -")
                known = found.setdefault(added.name, added)
                if known is not added:
                    problem = f"{group}: {added} has the name of {known}"
                    error = GatenormError("extension-twice", problem, hint="uninstall one of them")
                    if known.package:
                        found[added.name] = replace(known, find=_raising(error))
                    raise error
        return found


# What :func:`describing` gathers in the block that runs.
_DESCRIBED: ContextVar[dict[str, Extension] | None] = ContextVar("described", default=None)


@contextmanager
def describing() -> Iterator[Mapping[str, Extension]]:
    """Gathers the extensions that describe the models of a block, by name: where they are wrong, ours fails."""
    found: dict[str, Extension] = {}
    before = _DESCRIBED.set(found)
    try:
        yield found
    finally:
        _DESCRIBED.reset(before)


def describes(added: Extension) -> None:
    """Tell the block of :func:`describing`, if there is one, that this extension describes a model."""
    found = _DESCRIBED.get()
    if found is not None:
        found[added.name] = added


@cache
def installed() -> Installed:
    """What is installed, looked for once in a process; ``installed.cache_clear()`` has it looked for anew."""
    return Installed()


def extensions(
    group: str, packages: tuple[str, ...] = (), attribute: str = "", kind: type = object, classes: bool = False
) -> Mapping[str, Extension]:
    """All extensions of one group by name: the built-in ones, then those of other distributions.

    A name that two other distributions claim is neither's. One that is built in stays what it is.

    Args:
        group: entry points are looked for under ``gatenorm.<group>``.
        packages: the packages whose public modules are built-in extensions.
        attribute: what each of these modules calls its extension.
        kind: what they are; with ``classes``, of what they are subclasses.
    """
    return installed().group(group, packages, attribute, kind, classes)


def extension(name: str, known: Mapping[str, Extension], error: type[GatenormError], field: str) -> Any:
    """The extension of that name, loaded.

    Raises:
        GatenormError: of the given type: there is none; it names the nearest one and all of them. As :meth:`load`.
    """
    if name not in known:
        raise error.unknown(field, name, known)
    return known[name].load()


def working(known: Mapping[str, Extension]) -> dict[str, Any]:
    """All that can be loaded, by name."""
    found = {}
    for name, added in known.items():
        with passing_over(added):
            found[name] = added.load()
    return found


@contextmanager
def passing_over(added: Extension) -> Iterator[None]:
    """A block about an extension that nobody asked for: where another package's fails, it is noted and left."""
    try:
        yield
    except (Exception, SystemExit) as error:
        if not added.package:
            raise
        problem = str(error) if isinstance(error, GatenormError) else f"{added} fails: {_said(error)}"
        installed().note(added.package, problem)


def check_kind(what: str, found: object, kind: type) -> None:
    """Raise GatenormError for what an extension is, or gives, if it is of another type."""
    if not isinstance(found, kind):
        raise wrong_kind(what, found, f"a {kind.__name__}")


def wrong_kind(what: str, found: object, expected: str) -> GatenormError:
    """The error for an extension that is, or gives, something else."""
    return GatenormError("extension-wrong", f"{what} is a {type(found).__name__}", expected=expected)


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {first_line(error)}"


def _raising(error: GatenormError) -> Callable[[], NoReturn]:
    def find() -> NoReturn:
        raise error

    return find


def _attribute(module: str, attribute: str) -> Callable[[], Any]:
    return lambda: getattr(import_module(module), attribute)

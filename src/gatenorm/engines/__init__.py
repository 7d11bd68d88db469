"""Engines that run models. Each is a module or subpackage here with a subclass of :class:`Engine` as ``ENGINE``.

Another package adds one with an entry point of the group ``gatenorm.engines``.
"""

from collections.abc import Mapping

from gatenorm.engines._engine import (
    ABLE as ABLE,
    Continuation as Continuation,
    Engine as Engine,
    GreedySession as GreedySession,
    LikelyContinuation as LikelyContinuation,
    later as later,
    refuses as refuses,
)
from gatenorm.engines._timing import (
    Case as Case,
    Setting as Setting,
    SkippedError as SkippedError,
    TimedSession as TimedSession,
    threads_at_hand as threads_at_hand,
)
from gatenorm.errors import EvaluationError, MissingExtraError
from gatenorm.extensions import Extension, extension, extensions, passing_over, wrong_kind
from gatenorm.records.evidence import Sample as Sample, Shares as Shares


def engines() -> Mapping[str, Extension]:
    """All engines by name; none is imported by that."""
    return extensions("engines", (__name__,), "ENGINE", Engine, classes=True)


def engine_named(name: str, able: str = "") -> Engine:
    """The engine of that name.

    Args:
        able: what it must be able to do, one of ``ABLE``.

    Raises:
        EvaluationError: there is none, or it cannot do that.
    """
    kind: type[Engine] = extension(name, engines(), EvaluationError, "engine")
    if able and not kind.can(able):
        raise _unable(name, f"cannot {ABLE[able].verb}", engines_that(able))
    return kind(name)


def engines_that(able: str) -> list[Engine]:
    """The engines that can do something, one of ``ABLE``."""
    found = []
    for name, added in engines().items():
        with passing_over(added):
            one = engine_named(name)
            if one.can(able):
                found.append(one)
    return found


def engine_for(form: str, name: str | None = None, able: str = "") -> Engine:
    """The engine of that name, or the preferred one of those installed that read ``form``.

    Args:
        able: what it must be able to do, one of ``ABLE``.

    Raises:
        EvaluationError: no such engine, or one that does not read this form; or none reads it.
        MissingExtraError: it, or every engine that reads this form, is not installed.
    """
    readers = []
    for other, added in engines().items():
        with passing_over(added):
            one = engine_named(other)
            if form in one.reads and (not able or one.can(able)):
                readers.append((-one.preference, one, one.installed))
    readers.sort(key=lambda found: found[0])
    if name is not None:
        chosen = engine_named(name, able)
        if form not in chosen.reads:
            raise _unable(name, f"does not read {form}", [one for _, one, _ in readers])
        chosen.check_installed()
        return chosen
    if not readers:
        raise EvaluationError("form-unread", f"no engine that {able or 'opens models'} reads {form}", field="engine")
    for _, one, installed in readers:
        if installed:
            return one
    raise MissingExtraError(f"running {form}", " or ".join(one.package for _, one, _ in readers), readers[0][1].extra)


def check_opened(engine: Engine, session: object, method: str) -> None:
    """Raise GatenormError for what an engine opened, if it has no such method; properties compute, so none is read."""
    if not callable(getattr(session, method, None)):
        raise wrong_kind(f"what the engine {engine.name} opens", session, f"a session with {method}")


def _unable(name: str, problem: str, able: list[Engine]) -> EvaluationError:
    expected = " or ".join(one.name for one in able)
    return EvaluationError("engine-unable", problem, field="engine", given=name, expected=expected)

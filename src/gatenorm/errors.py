"""What can go wrong, by kind: every message says what was given, what was expected and what to do, in one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GatenormError(Exception):
    """Something the user can mend; the command line prints it as one line and exits with status 2."""


class CheckpointError(GatenormError):
    """A checkpoint that cannot be read, or whose files contradict each other."""


class FamilyError(GatenormError):
    """A model whose architecture is not known, or is known not to be supported."""


class CriterionError(GatenormError):
    """A criterion that does not exist, or cannot be computed on this model."""


class PlanError(GatenormError):
    """A plan that cannot be carried out on this model."""


class OutputError(GatenormError):
    """An output that cannot be written where it was asked for."""


class EvaluationError(GatenormError):
    """An evaluation whose data or model does not allow it."""


class CalibrationError(GatenormError):
    """Tokens to look at that cannot be had, or say nothing."""


class RecoveryError(GatenormError):
    """A training after pruning that cannot be done, or cannot be gone on with."""


class AuditError(GatenormError):
    """An audit that cannot be carried out as it was asked for."""


class MissingExtraError(GatenormError):
    """A feature whose optional dependencies are not installed."""

    def __init__(self, feature: str, package: str, extra: str):
        super().__init__(f"{feature} needs {package}, which is not installed: pip install 'gatenorm[{extra}]'")


def first_line(error: BaseException) -> str:
    """What an error of other software says in its first line; the name of its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """A hint such as ``did you mean 'gate-norm'? known: depth, gate-norm`` for a name that is not in ``known``."""
    names = sorted(known)
    close = difflib.get_close_matches(given, names, n=1, cutoff=0.6)
    return (f"did you mean {close[0]!r}? " if close else "") + "known: " + ", ".join(names)

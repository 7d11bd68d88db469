"""What can go wrong, by kind. An error is data: a code, a field, what was given, what was expected, what to do.

The words are put together in one place, and each caller gives fields its own names: the command line says
``--share``, a configuration file ``budgets.shares``, the Python API ``share``. Nothing below them names an option.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Self, TypeVar

E = TypeVar("E", bound="GatenormError")
# Private characters around a field's name inside a sentence; no message holds them otherwise.
_MARK = re.compile("\ue000([^\ue001]*)\ue001")

# Characters of a line; some errors list many reasons, and others quote files that hold megabytes.
_LONGEST = 1500


def named(field: str) -> str:
    """A field inside a sentence, shown under the caller's name for it: ``f"give {named('data')} too"``."""
    return f"\ue000{field}\ue001"


def printable(text: str) -> str:
    """The text in one line, without what a terminal would obey: names out of a checkpoint may hold anything."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text)


class GatenormError(Exception):
    """Something that the user can mend; the command line prints it as one line and exits with status 2.

    The line reads ``FIELD GIVEN PROBLEM: expected EXPECTED; HINT``, each part where there is one.

    Args:
        code: what went wrong, for programs and tests: ``share-out-of-range``. Stable; the words may change.
        problem: what is wrong with it, for people.
        field: the parameter of the Python API that it is about, such as ``share``.
        given: its value.
        expected: what would have been right.
        hint: what to do.
    """

    def __init__(
        self, code: str, problem: str, *, field: str = "", given: object = None, expected: str = "", hint: str = ""
    ):
        super().__init__(code, problem)
        self.code, self.problem, self.field, self.given = code, problem, field, given
        self.expected, self.hint = expected, hint
        self._renames: list[Mapping[str, str] | Callable[[str], str]] = []

    @classmethod
    def unknown(cls, field: str, given: object, known: Iterable[str], code: str = "", problem: str = "") -> Self:
        """A name that is not in ``known``, with the nearest that is; ``field-unknown`` where no code is given."""
        code, problem = code or f"{_dashed(field)}-unknown", problem or "is not known"
        return cls(code, problem, field=field, given=given, hint=did_you_mean(str(given), known))

    @classmethod
    def out_of_range(cls, field: str, given: object, expected: str, code: str = "", hint: str = "") -> Self:
        """A number that is too large or too small; ``field-out-of-range`` where no code is given."""
        code = code or f"{_dashed(field)}-out-of-range"
        return cls(code, "is out of range", field=field, given=given, expected=expected, hint=hint)

    def rename(self, names: Mapping[str, str] | Callable[[str], str]) -> None:
        """Call fields as the caller calls them: ``data`` a configuration's ``evaluation.texts``, and that ``--data``.

        Every layer that an error passes on its way up renames what the layer below it calls a field.
        """
        self._renames.append(names)

    def replace(self, words: str, others: str) -> None:
        """Say ``others`` wherever it says ``words``: a path that is gone by now becomes the one that was asked for."""
        for part in ("problem", "given", "expected", "hint"):
            said = getattr(self, part)
            if words in str(said):
                setattr(self, part, str(said).replace(words, others))

    def text(self) -> str:
        """The error in one line, fields by the names of the outermost caller that renamed them."""
        subject = [self._named(self.field)] if self.field else []
        if self.given is not None:
            subject.append("''" if self.given == "" else f"{self.given!s:.200}")
        line = " ".join([*subject, *([self.problem] if self.problem else [])])
        line += f": expected {self.expected}" if self.expected else ""
        line += f"; {self.hint}" if self.hint else ""
        line = printable(_MARK.sub(lambda match: self._named(match[1]), line))
        return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ..."

    def _named(self, field: str) -> str:
        for names in self._renames:
            field = names.get(field, field) if isinstance(names, Mapping) else names(field)
        return field

    def as_kind(self, kind: type[E]) -> E:
        """The same error as the kind that a caller promises to raise."""
        same = kind(self.code, self.problem, field=self.field, given=self.given, expected=self.expected, hint=self.hint)
        same._renames = [*self._renames]
        return same

    def __str__(self) -> str:
        return self.text()


def _dashed(field: str) -> str:
    return field.replace("_", "-")


@contextmanager
def fields_named(names: Mapping[str, str] | Callable[[str], str]) -> Iterator[None]:
    """Errors of the block call fields by these names; see :meth:`GatenormError.rename`."""
    try:
        yield
    except GatenormError as error:
        error.rename(names)
        raise


class CheckpointError(GatenormError):
    """A checkpoint that cannot be read, or whose files contradict each other."""


class FamilyError(GatenormError):
    """A model whose architecture is not known, or is known not to be supported."""


class CriterionError(GatenormError):
    """A criterion that does not exist, or cannot be computed on this model."""


class PlanError(GatenormError):
    """A plan that cannot be carried out on this model."""


class RecordError(GatenormError):
    """A file of ours that cannot be read: another schema, a missing, unknown or ill-typed field."""


class OutputError(GatenormError):
    """An output that cannot be written where it was asked for."""


class EvaluationError(GatenormError):
    """An evaluation whose data or model does not allow it."""


class CalibrationError(GatenormError):
    """Tokens to look at that cannot be had, or say nothing."""


class RecoveryError(GatenormError):
    """A training after pruning that cannot be done, or cannot be resumed."""


class AuditError(GatenormError):
    """An audit that cannot be carried out as it was asked for."""


class StudyError(GatenormError):
    """A recipe that does not exist, or cannot be carried out as it was asked for."""


class MissingExtraError(GatenormError):
    """A feature whose optional dependencies are not installed."""

    def __init__(self, feature: str, package: str, extra: str):
        super().__init__(
            "missing-extra",
            f"{feature} needs {package}, which is not installed: pip install 'gatenorm[{extra}]'",
        )
        self.args = feature, package, extra  # what pickle hands to __init__
        self.extra = extra


@contextmanager
def needing(feature: str, package: str, extra: str) -> Iterator[None]:
    """What is imported in the block comes with the optional dependencies ``extra``; raises MissingExtraError."""
    try:
        yield
    except ImportError:
        raise MissingExtraError(feature, package, extra) from None


def first_line(error: BaseException) -> str:
    """What an error of other software says in its first line; the name of its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """A hint such as ``did you mean 'gate-norm'? known: depth, gate-norm`` for a name that is not in ``known``."""
    names = sorted(known)
    close = difflib.get_close_matches(given, names, n=1, cutoff=0.6)
    return (f"did you mean {close[0]!r}? " if close else "") + "known: " + ", ".join(names)

"""A model that was written: where it lies, and what is to be known of it; of a pruned one see ``api/pruned.py``."""

from pathlib import Path

from gatenorm.records.serialization import Record


class Written(Record, frozen=True, kw_only=True, tag="gatenorm/written/1"):
    """A directory or a file that holds a model; whatever takes a path takes this.

    Attributes:
        out: where it lies.
        to: the form: ``transformers``, or one that models are exported in.
        dtype: the type of its weights that was asked for; ``auto``: as they were stored.
        bytes: of weights, or of the one file.
        notes: what whoever serves it should know, one line each.
        left_out: what of the source is not in it, one line each.
        proved: whether transformers was asked, and loads all of it; it is where torch is installed.
        engines: those that serve it.
    """

    out: str
    to: str = "transformers"
    dtype: str = "auto"
    bytes: int
    notes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    engines: tuple[str, ...] = ()
    proved: bool = False

    @property
    def path(self) -> Path:
        return Path(self.out)

    def subject(self) -> str:
        return self.out

    def __fspath__(self) -> str:
        return self.out

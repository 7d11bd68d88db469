"""What is installed on a machine, and what it can do."""

from gatenorm.records.serialization import Record, Value


class Extra(Value, frozen=True):
    """An optional group of packages: each with its version, ``None`` where it is missing."""

    name: str
    packages: dict[str, str | None]


class InstalledEngine(Value, frozen=True):
    """An engine, whether it can be imported, and what it can do."""

    name: str
    installed: bool
    can: tuple[str, ...]


class ExtendingPackage(Value, frozen=True):
    """Another package that adds to gatenorm: each addition as its group and its name, and what is wrong with any."""

    name: str
    adds: tuple[str, ...]
    problems: tuple[str, ...]


class Installation(Record, frozen=True, kw_only=True, tag="gatenorm/installation/1"):
    """Versions of the extras' packages, the engines, the machine; ``features`` are instructions that inference uses."""

    version: str
    extras: tuple[Extra, ...]
    engines: tuple[InstalledEngine, ...]
    platform: str
    processor: str
    processors: int | None
    memory_bytes: int | None
    features: tuple[str, ...]
    accelerators: tuple[str, ...]
    packages: tuple[ExtendingPackage, ...] = ()

"""Where the figures of an audit come from, and the commands that repeat them."""

from gatenorm.records.evidence import Data
from gatenorm.records.serialization import Value


class Command(Value, frozen=True, kw_only=True):
    """A command for a shell, and what it does."""

    what: str
    command: str


class Machine(Value, frozen=True, kw_only=True):
    """What an audit ran on."""

    platform: str
    processor: str
    processors: int | None
    threads: int


class Provenance(Value, frozen=True, kw_only=True):
    """Where an audit's figures come from: model, software, machine, seeds, data, and the commands that repeat them."""

    versions: dict[str, str]
    code_sha256: str
    model: str
    content_sha256: str
    machine: Machine
    device: str
    dtype: str
    executor: str
    seed: int
    random_seeds: tuple[int, ...]
    data: tuple[Data, ...]
    began: str
    ended: str
    command: str
    commands: tuple[Command, ...] = ()

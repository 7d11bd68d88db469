"""YAML that others wrote: plain data out of a small regular file, without aliases and of bounded depth."""

from pathlib import Path
from typing import Any

from gatenorm.files.reading import read_small

# Bytes of a configuration, and mappings and lists within each other.
_LONGEST, _DEEPEST = 1 << 18, 20


def read_yaml(path: Path) -> Any:
    """The plain data in a YAML (or JSON) file; ``None`` for an empty one.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it cannot be read, or is no such YAML; the text says why in one line.
    """
    import yaml

    try:
        text = read_small(path, _LONGEST).decode("utf-8")
        _check_plain(text)
        return yaml.safe_load(text)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, yaml.YAMLError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ValueError(" ".join(str(why).split())[:200]) from None


def _check_plain(text: str) -> None:
    """Raise ValueError for YAML with aliases, by which a few lines grow without end, or too deep for what reads it."""
    import yaml

    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it uses an alias (*), which is not read: write the value out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.ScalarEvent) and any("\ud800" <= letter <= "\udfff" for letter in event.value):
            raise ValueError("it holds half a surrogate pair, which is no text")
        if depth > _DEEPEST:
            raise ValueError("it is nested too deeply")

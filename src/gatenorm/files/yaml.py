"""YAML that others wrote: plain data out of a small regular file, without aliases and of bounded depth."""

import re
from pathlib import Path
from typing import Any

from gatenorm.files.reading import read_small

# Bytes of a configuration, and mappings and lists within each other.
_LONGEST, _DEEPEST = 1 << 18, 20
# A number in any base of YAML's, with more digits than float64 or any error message could hold.
_NUMBER = re.compile(r"[-+.:_xa-fA-F0-9]{300,}")


def read_yaml(path: Path) -> Any:
    """The plain data in a YAML (or JSON) file; ``None`` for an empty one.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it cannot be read, or is no such YAML; the text says why in one line.
    """
    try:
        content = read_small(path, _LONGEST)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(" ".join(str(error.strerror).split())[:200]) from None
    return parse_yaml(content)


def parse_yaml(content: bytes) -> Any:
    """Plain data out of YAML in UTF-8 of at most 256 KB, without aliases and at most 20 deep.

    Raises:
        ValueError: it is no such YAML; the text says why in one line.
    """
    import yaml

    try:
        if len(content) > _LONGEST:
            raise ValueError(f"it is larger than {_LONGEST:,} bytes")
        text = content.decode("utf-8")
        _check_plain(text)
        return yaml.safe_load(text)
    except (AttributeError, LookupError):  # from constructors that trust a tag
        raise ValueError("a value is not what its tag says") from None
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(" ".join(str(error).split())[:200]) from None


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
        if isinstance(event, yaml.ScalarEvent) and _NUMBER.fullmatch(event.value):
            raise ValueError("it holds a number that is too long")
        if depth > _DEEPEST:
            raise ValueError("it is nested too deeply")

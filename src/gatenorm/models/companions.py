"""What transformers parses beside the weights, looked at before it does: it has no limits and follows every link."""

import json
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from gatenorm.checkpoint.companions import is_companion
from gatenorm.checkpoint.formats.safetensors.local import LocalFiles
from gatenorm.errors import CheckpointError
from gatenorm.files import LARGE, SMALL, parse_json
from gatenorm.models.tokenizer_growth import check_growth

_SETTINGS = "tokenizer_config.json"
# Of any tokenizer: settings and templates, and vocabularies, under the names that transformers' classes give them.
_SMALL = ("config.json", _SETTINGS, "special_tokens_map.json", "added_tokens.json", "*.jinja")
_LARGE = (
    *("*tokenizer*.json", "*vocab*.json", "tekken.json", "*vocab*.txt", "merges.txt", "dict.txt"),
    *("*.model", "*.model.*", "*.tiktoken", "*.spm", "*.bpe", "bpe.codes", "*.vocab"),
)


def check_companions(directory: Path, names: Sequence[str] = (*_SMALL, *_LARGE)) -> None:
    """Look at the files of a tokenizer, or at those whose names fit ``names``.

    Raises:
        CheckpointError: one is a link that leads elsewhere, no regular file, too large, or no JSON within the limits;
            or a tokenizer can make a text much longer.
    """
    files = LocalFiles(directory)
    for name in files.names():
        if not any(fnmatchcase(name, wanted) for wanted in names):
            continue
        large = name not in _SMALL and any(fnmatchcase(name, wanted) for wanted in _LARGE)
        most = LARGE if large else SMALL
        content = files.content(name, most)
        if not name.endswith(".json"):
            continue
        try:
            data = parse_json(content, most)
        except ValueError as error:
            raise CheckpointError("json-unreadable", f"{directory / name} is not readable JSON ({error})") from None
        if name == _SETTINGS:
            _check_versions(data)
        if large:
            check_growth(data)


def _check_versions(settings: object) -> None:
    """Refuse names of tokenizer files, one for each release of transformers, that lead out of the directory."""
    named = settings.get("fast_tokenizer_files") if isinstance(settings, dict) else None
    if named is None:
        return
    wrong = [name for name in named if not _lies_beside(name)] if isinstance(named, list) else [named]
    if wrong:
        problem = f"{_SETTINGS} names {json.dumps(wrong[0]):.80} as a tokenizer"
        raise CheckpointError("file-elsewhere", problem, expected="a list of files in the directory itself")


def _lies_beside(name: object) -> bool:
    return isinstance(name, str) and "/" not in name and "\\" not in name and is_companion(name)

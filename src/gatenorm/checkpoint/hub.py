"""From what a user typed to a directory: a local path, or a model id on the hub."""

from __future__ import annotations

import re
from pathlib import Path

from gatenorm.errors import CheckpointError

# organisation/name as the hub allows it; anything else is taken for a path.
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
# Weights in other formats and copies of them stay where they are.
_WANTED = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.txt", "*.model", "*.jinja", "*.md", "LICENSE*")
_UNWANTED = ("original/*", "onnx/*", "*.bin", "*.pth", "*.gguf")


def locate(model: str) -> Path:
    """The directory of ``model``: itself where it is one, else the hub's snapshot of that id, fetched if need be.

    Raises:
        CheckpointError: neither a directory nor a model id, or the hub could not be asked.
    """
    path = Path(model).expanduser()
    if path.exists() or not _HUB_ID.fullmatch(model):
        return path
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, allow_patterns=list(_WANTED), ignore_patterns=list(_UNWANTED)))
    except LocalEntryNotFoundError:
        why = "it is neither a directory here nor in the hub's cache, and the hub could not be reached"
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        why = f"the hub answers {status}: no such model, or one that asks for a login (hf auth login)"
    except OSError as error:
        why = f"the hub could not be reached ({type(error).__name__})"
    raise CheckpointError(f"{model}: {why}; give a directory, or a model id that can be fetched")

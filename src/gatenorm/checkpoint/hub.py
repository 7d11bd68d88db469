"""From what a user typed to a directory: a local path, or a model id on the hub."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gatenorm.errors import CheckpointError

# organisation/name as the hub allows it; anything else is taken for a path.
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
# The weights under the names that transformers reads, and small files; second copies of the weights stay there.
_WANTED = [
    "model.safetensors",
    "model-*-of-*.safetensors",
    *("*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja", "*.md"),
    *("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*"),
]
_UNWANTED = ["*/*"]
_SNAPSHOT = re.compile(r"models--(?P<owner>[^/]+?)--(?P<name>[^/]+)/snapshots/[^/]+$")


def locate(model: str) -> Path:
    """The directory of ``model``: itself where it is one, else the hub's snapshot of that id, fetched if need be.

    Raises:
        CheckpointError: neither a directory nor a model id, or the hub could not be asked.
    """
    path = local_path(model)
    if path is not None:
        return path
    from huggingface_hub import snapshot_download

    with hub_errors(model):
        return Path(snapshot_download(model, allow_patterns=_WANTED, ignore_patterns=_UNWANTED))


def local_path(model: str) -> Path | None:
    """What was typed as a path, or ``None`` where it is a model id and no such path exists.

    Raises:
        CheckpointError: it is no possible path.
    """
    try:
        path = Path(model).expanduser()
        exists = path.exists()
    except (RuntimeError, OSError, ValueError) as error:
        raise CheckpointError(
            "model-no-path", f"{model:.80}: that is no path ({error})", expected="a directory, or a model id"
        ) from None
    return path if exists or not HUB_ID.fullmatch(model) else None


def cached(model: str) -> Path | None:
    """The snapshot of a model id that the hub's cache already holds, whole or in part."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, allow_patterns=_WANTED, ignore_patterns=_UNWANTED, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError):
        return None


@contextmanager
def hub_errors(model: str) -> Iterator[None]:
    """Whatever goes wrong between here and the hub, as one line.

    Raises:
        CheckpointError: the hub does not answer, has no such model, or wants a login.
    """
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        yield
        return
    except HFValidationError:
        why = "it is neither a directory here nor a possible model id"
    except LocalEntryNotFoundError:
        why = "it is neither a directory here nor in the hub's cache, and the hub could not be reached"
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        why = f"the hub answers {status}: no such model, or one that asks for a login (hf auth login)"
    except OSError as error:
        why = f"the hub could not be reached ({type(error).__name__})"
    except Exception as error:
        # The HTTP client's own errors, whose package huggingface_hub changes from release to release.
        if type(error).__module__.partition(".")[0] not in ("httpx", "httpx2", "httpcore", "httpcore2", "requests"):
            raise
        why = f"the hub could not be reached ({type(error).__name__})"
    raise CheckpointError(
        "model-unavailable", f"{model}: {why}", expected="a directory, or a model id that can be downloaded"
    )


def hub_id(directory: Path) -> str | None:
    """The model id of which ``directory`` is a snapshot in the hub's cache, or ``None``."""
    found = _SNAPSHOT.search(directory.absolute().as_posix())
    return f"{found['owner']}/{found['name']}" if found else None

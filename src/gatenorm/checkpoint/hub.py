"""From what a user typed to a directory: a local path, or a model id on the hub."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from gatenorm.checkpoint.companions import INDEX, SINGLE, is_companion
from gatenorm.checkpoint.hub_answers import AT_MOST, check_answers
from gatenorm.checkpoint.hub_transfer import TRANSFERS
from gatenorm.errors import CheckpointError, GatenormError, RecordError
from gatenorm.files import LARGE
from gatenorm.records.serialization import read_json

# organisation/name as the hub allows it, or the name alone of the few that have no organisation, such as gpt2; anything
# else is taken for a path, and so is a name with an ending of files.
HUB_ID = re.compile(
    r"[A-Za-z0-9][\w.-]*/[\w.-]+|(?!.*\.(gguf|safetensors|bin|json|pt|pth)$)[A-Za-z0-9][\w.-]*", re.IGNORECASE
)
_SNAPSHOT = re.compile(r"models--(?P<owner>[^/]+?)--(?P<name>[^/]+)/snapshots/(?P<commit>[^/]+)$")
# Headers of requests for small files, and for weights, which are as large as they are.
_SMALL = {AT_MOST: str(LARGE)}
_WEIGHTS = {AT_MOST: str(sys.maxsize)}
# What the hub means by the statuses that it answers with.
_STATUSES = {
    416: "it has not the bytes that were asked for: the file was changed meanwhile, run it again",
    429: "too many requests: wait a while, or log in (hf auth login)",
    **dict.fromkeys((500, 502, 503, 504), "it is out of order: try again later"),
}


def locate(model: str) -> Path:
    """The directory of ``model``: itself where it is one, else the hub's snapshot of that id, fetched if need be.

    Raises:
        CheckpointError: neither a directory nor a model id, or the hub could not be asked.
    """
    path = local_path(model)
    if path is not None:
        return path
    from huggingface_hub import snapshot_download

    snapshot, weights = fetch_companions(model)
    missing = [name for name in weights if not (snapshot / name).exists()]
    if missing:
        with hub_errors(model):
            wanted = [escape(name) for name in missing]
            snapshot_download(model, revision=snapshot.name, allow_patterns=wanted, headers=_WEIGHTS)
    return snapshot


def fetch_companions(model: str) -> tuple[Path, list[str]]:
    """A snapshot with the files of a model id that go with its weights, and the names of these.

    Where the hub cannot be asked, that is what its cache holds, and no names.
    """
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.hf_api import RepoFile

    with hub_errors(model):
        try:
            # Asked once whether it is there: the listing tries again for half a minute where it cannot be reached.
            with suppress(HfHubHTTPError):
                HfApi().model_info(model, timeout=constants.HF_HUB_ETAG_TIMEOUT)
            listed = HfApi(headers=_SMALL).list_repo_tree(model, recursive=True)
            sizes = {file.path: file.size for file in listed if isinstance(file, RepoFile)}
        except GatenormError:
            raise
        except Exception:
            found = cached(model)
            if found is None:
                raise
            return found, []
        # What is larger could not be read, and would only fill the disk.
        small = (name for name, size in sizes.items() if size <= LARGE)
        wanted = [escape(name) for name in small if is_companion(name) or name == INDEX]
        snapshot = Path(snapshot_download(model, allow_patterns=wanted, headers=_SMALL))
    if SINGLE in sizes or not (snapshot / INDEX).exists():
        return snapshot, [SINGLE]
    try:
        shards = read_json(snapshot / INDEX, "the index of the weights").get("weight_map")
    except RecordError:  # which is said where the checkpoint is opened
        shards = None
    named = {*map(str, shards.values())} if isinstance(shards, dict) else set()
    return snapshot, [name for name in sizes if name in named]


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
        return Path(snapshot_download(model, allow_patterns=["config.json"], local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError):
        return None


@contextmanager
def hub_errors(model: str) -> Iterator[None]:
    """Whatever goes wrong between here and the hub, as one line.

    Raises:
        CheckpointError: the hub does not answer, has no such model, or wants a login.
    """
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    check_answers()
    code = "model-unavailable"
    try:
        with TRANSFERS.one():
            yield
        return
    except (GatenormError, MemoryError):
        raise
    except HFValidationError:
        why = "it is neither a directory here nor a possible model id"
    except LocalEntryNotFoundError:
        code = "hub-unreachable"
        why = "there is no such directory, it is not in the hub's cache, and the hub could not be reached"
    except GatedRepoError:
        problem = f"{model}: the hub asks for a login, and that the model's terms are accepted"
        hint = f"accept them at https://huggingface.co/{model}, then run hf auth login, or set HF_TOKEN"
        raise CheckpointError("model-gated", problem, hint=hint) from None
    except HfHubHTTPError as error:
        status = int(getattr(error.response, "status_code", 0))
        said = _STATUSES.get(status, "no such model, or one that asks for a login (hf auth login)")
        why = f"{'' if status in _STATUSES else 'there is no such directory, and '}the hub answers {status}: {said}"
    except OSError as error:
        code = "hub-unreachable"
        why = f"there is no such directory, and the hub could not be reached ({type(error).__name__})"
    except Exception as error:
        # The HTTP client's own errors, whose package huggingface_hub changes from release to release; and whatever an
        # answer of another shape than it expects makes that library raise.
        client = type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore", "httpcore2")
        why = "there is no such directory, and the hub could not be reached"
        why = f"{why if client else 'the hub gives an answer that cannot be understood'} ({type(error).__name__})"
        code = "hub-unreachable" if client else code
        if isinstance(error, ValueError) and "too large" in str(error):
            code = "file-too-large"
            why = f"a file of it is larger than what is fetched over HTTP: fetch it first (hf download {model})"
    raise CheckpointError(code, f"{model}: {why}", expected="a directory, or a model id that can be downloaded")


def hub_id(directory: Path) -> str | None:
    """The model id of which ``directory`` is a snapshot in the hub's cache, or ``None``."""
    found = _SNAPSHOT.search(directory.absolute().as_posix())
    return f"{found['owner']}/{found['name']}" if found else None


def hub_commit(directory: Path) -> str:
    """The commit of which ``directory`` is a snapshot in the hub's cache; empty where it is none."""
    found = _SNAPSHOT.search(directory.absolute().as_posix())
    return found["commit"] if found else ""

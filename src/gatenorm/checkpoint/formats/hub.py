"""Weights that stay on the hub: of large files only the ranges that are asked for are fetched."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from gatenorm.checkpoint.formats.safetensors.local import LocalFiles
from gatenorm.checkpoint.formats.safetensors.store import SafetensorsStore
from gatenorm.checkpoint.hub import HUB_ID, fetch_companions, hub_errors
from gatenorm.checkpoint.store import Format
from gatenorm.errors import CheckpointError
from gatenorm.progress import Progress

# Seconds that the server may be silent; huggingface_hub tries again a few times.
_TIMEOUT = 60


class HubFiles(LocalFiles):
    """Files of a model on the hub: small ones are kept in its cache, of weights only the ranges asked for are fetched.

    Raises:
        CheckpointError: the hub does not answer, has no such model, or does not answer range requests.
    """

    remote: ClassVar[bool] = True

    def __init__(self, model: str):
        from huggingface_hub.utils import build_hf_headers

        super().__init__(fetch_companions(model)[0])
        self.model, self.commit = model, self.directory.name
        self._headers = build_hf_headers()
        self._sizes: dict[str, int | None] = {}

    def has(self, name: str) -> bool:
        return self._size(name) is not None

    def size(self, name: str) -> int:
        size = self._size(name)
        if size is None:
            raise CheckpointError("file-missing", f"{self.model} has no file {name}")
        return size

    def read(self, name: str, begin: int, length: int) -> bytes:
        from huggingface_hub.utils import hf_raise_for_status, http_backoff

        headers = {**self._headers, "Range": f"bytes={begin}-{begin + length - 1}"}
        with hub_errors(self.model):
            answer = http_backoff("GET", self._url(name), headers=headers, timeout=_TIMEOUT, follow_redirects=True)
            hf_raise_for_status(answer)
        content = bytes(answer.content)
        if len(content) != length:
            problem = f"{self.model}: the server sent {len(content):,} bytes of {name} where {length:,} were asked for"
            raise CheckpointError("ranges-ignored", problem, expected="a server that answers range requests")
        return content

    def view(self, name: str, begin: int, length: int) -> memoryview:
        return memoryview(self.read(name, begin, length))

    def loaded(self, name: str, begin: int, length: int) -> npt.NDArray[np.uint8]:
        return np.frombuffer(bytearray(self.read(name, begin, length)), np.uint8)

    def sha256(self, name: str, progress: Progress | None, most: int | None = None) -> str:
        """The commit, which stands for the content of all its files."""
        return self.commit

    def sample_sha256(self, names: list[str]) -> str:
        """Nothing: hundreds of requests would be too high a price."""
        return ""

    def _url(self, name: str) -> str:
        from huggingface_hub import hf_hub_url

        return hf_hub_url(self.model, name, revision=self.commit)

    def _size(self, name: str) -> int | None:
        from huggingface_hub import get_hf_file_metadata
        from huggingface_hub.errors import EntryNotFoundError

        if name not in self._sizes:
            with hub_errors(self.model):
                try:
                    self._sizes[name] = get_hf_file_metadata(self._url(name)).size
                except EntryNotFoundError:
                    self._sizes[name] = None
        return self._sizes[name]


FORMAT = Format(
    recognises=lambda place: HUB_ID.fullmatch(place) is not None and not Path(place).exists(),
    open=lambda place: SafetensorsStore(HubFiles(place)),
)

"""Model ids of the hub, against an HTTP server on loopback that serves the hub's paths."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gatenorm import api
from gatenorm.cli.console import bytes_for_people

TinyModels = Callable[..., Path]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def hub(repositories: dict[str, dict[str, bytes]], ranges: bool = True) -> Iterator[tuple[str, list[str]]]:
    """The address of a hub that has these repositories, and the list of what was asked for: ``path bytes-sent``."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def answer(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            wanted = self.headers.get("Range") if ranges else None
            for name, files in repositories.items():
                if path.startswith(f"/api/models/{name}/tree/"):
                    tree = [{"type": "file", "path": f, "size": len(c), "oid": "0" * 40} for f, c in files.items()]
                    return self.answer(200, json.dumps(tree).encode(), Content_Type="application/json")
                if path.startswith(f"/api/models/{name}"):
                    info = {"id": name, "sha": COMMIT, "siblings": [{"rfilename": f} for f in files]}
                    return self.answer(200, json.dumps(info).encode(), Content_Type="application/json")
                for file, content in files.items():
                    if path.startswith(f"/{name}/resolve/") and path.endswith("/" + file):
                        etag = hashlib.sha256(content).hexdigest()
                        status, body = 200, content
                        if wanted:
                            first, last = wanted.removeprefix("bytes=").split("-")
                            status, body = 206, content[int(first) : int(last) + 1]
                        if self.command == "GET":
                            asked.append(f"{path} {len(body)}")
                        return self.answer(status, body, ETag=f'"{etag}"', X_Repo_Commit=COMMIT)
                if path.startswith(f"/{name}/"):
                    return self.answer(404, b"{}", X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
            return self.answer(404, b"{}", X_Error_Code="RepoNotFound", Content_Type="application/json")

        do_HEAD = do_GET  # noqa: N815 - the base class calls it so

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def gatenorm(home: Path, endpoint: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    environment.pop("HF_HUB_OFFLINE", None)
    command = [sys.executable, "-c", "import sys; from gatenorm.cli import main; sys.exit(main(sys.argv[1:]))"]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, env=environment)


@pytest.fixture
def model(tiny_models: TinyModels) -> dict[str, bytes]:
    files = {p.name: p.read_bytes() for p in tiny_models("llama-gqa").iterdir()}
    return {**files, "pytorch_model.bin": b"a pickle", "original/consolidated.00.pth": b"a pickle"}


def test_a_model_id_is_fetched_without_other_copies_of_the_weights(model: dict[str, bytes], tmp_path: Path):
    with hub({"someone/small": model}) as (endpoint, asked):
        out, home = tmp_path / "out", tmp_path / "home"
        assert gatenorm(home, endpoint, "prune", "someone/small", "--drop", "1", "-o", str(out)).returncode == 0
        assert "base_model: someone/small" in (out / "README.md").read_text()
        assert sum("/model.safetensors " in path for path in asked) == 1
        assert not any("pytorch_model" in path or "original" in path for path in asked)
    # the hub is gone; what was fetched is enough
    again = gatenorm(home, endpoint, "score", "someone/small", "--json", "-")
    assert again.returncode == 0
    assert json.loads(again.stdout)["model"]["name"] == "someone/small"


@pytest.mark.parametrize(("name", "options"), [("llama-gqa", {}), ("llama-mha", {"max_shard_size": "40KB"})])
def test_scoring_a_model_id_fetches_only_headers_and_query_and_key(
    name: str, options: dict[str, str], tiny_models: TinyModels, tmp_path: Path
):
    directory = tiny_models(name, **options)
    files = {p.name: p.read_bytes() for p in directory.iterdir()}
    with hub({"someone/small": files}) as (endpoint, asked):
        answer = gatenorm(tmp_path / "home", endpoint, "score", "someone/small", "--json", "-")
    scores, local = json.loads(answer.stdout), api.score(directory)
    fetched = bytes_for_people(local.bytes_read)
    announced = f"fetching {fetched} of someone/small: the weights that gate-norm reads\n"
    assert (answer.returncode, answer.stderr) == (0, announced)
    assert [s["score"] for s in scores["layers"]] == [s.score for s in local.layers]
    assert scores["model"]["name"] == "someone/small"
    sent = [line.rsplit(" ", 1) for line in asked if ".safetensors " in line]
    weights = sum(int(size) for _, size in sent)
    headers = 8 * len(local.model.files) + sum(int.from_bytes(files[f][:8], "little") for f in local.model.files)
    assert weights == local.bytes_read + headers
    assert weights < sum(local.model.files.values()) / 2


def test_a_server_that_ignores_ranges_is_not_believed(model: dict[str, bytes], tmp_path: Path):
    with hub({"someone/small": model}, ranges=False) as (endpoint, _):
        answer = gatenorm(tmp_path, endpoint, "score", "someone/small")
    assert answer.returncode == 2
    assert answer.stderr.count("\n") == 1
    assert "answers range requests" in answer.stderr


def test_a_model_that_is_not_there_is_one_line(model: dict[str, bytes], tmp_path: Path):
    with hub({"someone/small": model}) as (endpoint, _):
        answer = gatenorm(tmp_path, endpoint, "score", "someone/large")
        assert answer.returncode == 2
        assert answer.stderr.count("\n") == 1
        said = "error: someone/large: there is no such directory, and the hub answers 404: no such model"
        assert answer.stderr.startswith(said)
    unreachable = gatenorm(tmp_path, endpoint, "score", "someone/large")
    assert unreachable.returncode == 2
    assert unreachable.stderr.count("\n") == 1
    assert "could not be reached" in unreachable.stderr


def test_what_a_model_on_the_hub_can_be_written_as_is_said_without_its_weights(model: dict[str, bytes], tmp_path: Path):
    """Also where its tokenizer is a ``tokenizer.model`` alone, which is fetched for that."""
    files = {name: data for name, data in model.items() if not name.startswith("tokenizer")}
    with hub({"org/tiny": {**files, "tokenizer.model": b"damaged"}}) as (endpoint, asked):
        answer = gatenorm(tmp_path / "home", endpoint, "export", "--list", "org/tiny", "--json", "-")
    assert answer.returncode == 0, answer.stderr
    gguf = next(fact for fact in json.loads(answer.stdout) if fact["to"] == "gguf")
    assert any("tokenizer.model is damaged" in reason for reason in gguf["why_not"])
    assert any("/tokenizer.model " in path for path in asked)

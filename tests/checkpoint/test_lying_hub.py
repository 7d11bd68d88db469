"""A hub that lies: through huggingface_hub's own code, with its transport replaced, so that nothing is sent."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import constants, get_session, set_client_factory
from huggingface_hub.utils import _http

from gatenorm.checkpoint import hub_answers, open_store
from gatenorm.checkpoint.hub import fetch_companions, locate
from gatenorm.checkpoint.hub_answers import AT_MOST, check_answers
from gatenorm.checkpoint.hub_transfer import Transfers
from gatenorm.errors import CheckpointError
from gatenorm.files import LARGE
from tests import errors
from tests.checkpoint.test_checkpoint import ONE, TWO, index

CLIENT = sys.modules[_http.default_client_factory().__class__.__module__.partition(".")[0]]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": ONE,
    "evil.py": b"",
    "additional_chat_templates/tool_use.jinja": b"{{ messages }}",
    "original/params.json": b"{}",
}


class Hub:
    """What it answers, which tests change; ``asked`` are the requests."""

    def __init__(self) -> None:
        self.files = dict(FILES)
        self.headers: dict[str, str] = {}
        self.oid: Any = "1" * 40
        self.entry: dict[str, Any] = {}
        self.sha: Any = COMMIT
        self.sizes: dict[str, int] = {}
        self.body: Callable[[Any, bytes], Any] = lambda _, content: content
        self.api: bytes | None = None
        self.status = 200
        self.redirects: dict[str, str] = {}
        self.page: bytes | None = None  # of a listing whose every page names another one
        self.stated = False  # the length of a body that comes in pieces
        self.asked: list[Any] = []

    def __call__(self, request: Any) -> Any:
        self.asked.append(request)
        assert len(self.asked) < 300, "a listing was followed without an end"
        path = request.url.path
        if path in self.redirects:
            return CLIENT.Response(307, headers={"location": self.redirects[path]})
        path = path.replace(f"/api/resolve-cache/models/org/model/{COMMIT}/", f"/org/model/resolve/{COMMIT}/")
        if "/resolve/" not in path:
            size = {name: len(content) for name, content in self.files.items()} | self.sizes
            tree = [{"type": "file", "path": f, "size": size[f], "oid": self.oid, **self.entry} for f in self.files]
            info = {"id": "org/model", "sha": self.sha, "siblings": []}
            content = json.dumps(tree if "/tree/" in path else info).encode()
            content = content if self.api is None else self.api
            if self.page is not None and "/tree/" in path:
                following = f"https://huggingface.co{path}?cursor={len(self.asked)}"
                return CLIENT.Response(200, content=self.page, headers={"link": f'<{following}>; rel="next"'})
            body = iter([content]) if "content-encoding" in self.headers else content  # bytes are decoded at once
            return CLIENT.Response(self.status, content=body, headers=self.headers)
        content = self.files[path.partition(f"/resolve/{path.split('/')[4]}/")[2]]
        size = len(content)
        if "range" in request.headers:
            first, last = request.headers["range"].removeprefix("bytes=").split("-")
            content = content[int(first) : int(last or size - 1) + 1]
        headers = {"etag": f'"{size:040x}"', "x-repo-commit": COMMIT, "content-length": str(len(content))}
        body = None if request.method == "HEAD" else self.body(request, content)
        if not isinstance(body, bytes) and body is not None and not self.stated:
            del headers["content-length"]
        return CLIENT.Response(200, content=body, headers={**headers, **self.headers})


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    answers, before = Hub(), _http._GLOBAL_CLIENT_FACTORY
    set_client_factory(lambda: CLIENT.Client(transport=CLIENT.MockTransport(answers), follow_redirects=True))
    check_answers.__wrapped__()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(_http.time, "sleep", lambda _: None)
    check_answers()
    yield answers
    set_client_factory(before)


def refused() -> str:
    with pytest.raises(CheckpointError) as caught:
        locate("org/model")
    return caught.value.code


def test_the_small_files_and_the_weights_are_fetched_and_nothing_else(hub: Hub):
    directory = locate("org/model")
    found = {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}
    assert found == {"config.json", "model.safetensors", "additional_chat_templates/tool_use.jinja"}
    assert open_store(directory).companions == ("additional_chat_templates/tool_use.jinja", "config.json")


def test_the_weights_are_those_that_the_index_names(hub: Hub):
    """Whatever they are called."""
    names = [f"model.safetensors-0000{i}-of-00002.safetensors" for i in (1, 2)]
    del hub.files["model.safetensors"]
    files = index(one=names[0], two=names[1])
    hub.files |= {"model.safetensors.index.json": json.dumps(files).encode(), names[0]: ONE, names[1]: TWO}
    hub.files["consolidated.safetensors"] = ONE
    store = open_store(locate("org/model"))
    assert set(store.specs) == {"one", "two"}
    assert not (store.directory / "consolidated.safetensors").exists()


@pytest.mark.parametrize("header", ["etag", "x-linked-etag", "x-repo-commit", "x-xet-hash"])
@pytest.mark.parametrize("value", ["../../../../outside", '"../../x"', "..", "a/b", "a\\b", ".", '"', "x" * 300])
def test_headers_lead_to_no_files_outside_the_cache(hub: Hub, header: str, value: str, tmp_path: Path):
    hub.headers = {header: value}
    assert refused() == "hub-wrong"
    assert not list(tmp_path.rglob("*outside*"))


@pytest.mark.parametrize("value", ["../../../../outside", 7, ["a"], {"a": 1}, "", ".."])
@pytest.mark.parametrize("name", ["oid", "sha", "blobId", "xetHash", "sha256", "lfs"])
def test_answers_lead_to_no_files_outside_the_cache(hub: Hub, name: str, value: Any, tmp_path: Path):
    """Whichever key holds it, and however deep it lies."""
    if name in ("oid", "sha"):
        setattr(hub, name, value)
    else:
        hub.entry = {name: {"oid": value, "size": 1, "pointerSize": 1} if name == "lfs" else value}
    assert refused() == "hub-wrong"
    assert not list(tmp_path.rglob("*outside*"))


def test_a_redirected_answer_leads_to_no_files_outside_the_cache(hub: Hub, tmp_path: Path):
    """Wherever the redirect leads, to what looks like a file as well."""
    for target in ("/x/api/models/org/model", "/api/resolve-cache/models/org/model", "https://elsewhere.example/x"):
        hub.redirects = {"/api/models/org/model": target, "/api/models/org/model/revision/main": target}
        hub.sha = "../../../../outside"
        assert refused() == "hub-wrong"
    assert not list(tmp_path.rglob("*outside*"))


def test_an_endpoint_with_a_path_leads_to_no_files_outside_the_cache(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(constants, "ENDPOINT", "https://mirror.example/h%66")
    hub.sha = "../../../../outside"
    assert refused() == "hub-wrong"
    assert {request.url.path.partition("/api/")[0] for request in hub.asked} == {"/hf"}
    assert not list(tmp_path.rglob("*outside*"))


@pytest.mark.parametrize("path", ["/x", "/org/model/resolve/main/x", "/api/resolve-cache/x"])
def test_a_next_page_is_looked_through_too(hub: Hub, path: str):
    hub.headers = {"link": f'<https://huggingface.co{path}>; rel="next"'}
    assert refused() == "hub-wrong"
    assert path not in {request.url.path for request in hub.asked}


def test_small_files_that_the_hub_serves_from_below_its_api_are_no_json(hub: Hub):
    hub.files["merges.txt"] = b"#version: 0.2"
    hub.redirects = {
        f"/org/model/resolve/{COMMIT}/{name}": f"/api/resolve-cache/models/org/model/{COMMIT}/{name}"
        for name in ("config.json", "merges.txt")
    }
    assert (locate("org/model") / "merges.txt").read_bytes() == b"#version: 0.2"
    assert any("/api/resolve-cache/" in request.url.path for request in hub.asked)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        *((answer, "hub-wrong") for answer in (b"", b"<html>", b"\xff\xfe", b'["\\ud800"]', b"[" * 9999)),
        pytest.param(b"[" + b"[]," * (LARGE // 16) + b"[]]", "hub-wrong", id="long"),
        *((answer, "model-unavailable") for answer in (b"[]", b"{}", b"null", b"7", b'"text"', b"[1]", b"[[]]")),
        *((answer, "model-unavailable") for answer in (b'[{"type": "file"}]', b'{"error": "x"}')),
        (b'[{"type": "file", "path": 7, "oid": "1"}]', "model-unavailable"),
    ],
)
def test_answers_of_another_shape_are_one_line(hub: Hub, answer: bytes, code: str):
    """What is no JSON within the limits is seen before huggingface_hub parses it, the rest where it fails."""
    hub.api = answer
    assert refused() == code


@pytest.mark.parametrize("error", ["", "RevisionNotFound", "RepoNotFound"])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 418])
def test_statuses_are_one_line(hub: Hub, status: int, error: str):
    hub.status, hub.headers, hub.api = status, {"x-error-code": error}, b'{"error": "no"}'
    with errors.refused("model-unavailable", kind=CheckpointError) as caught:
        locate("org/model")
    assert f"the hub answers {status}: no such model" in caught.value.problem


def test_a_long_wait_is_not_waited_for(hub: Hub):
    hub.status, hub.headers = 429, {"retry-after": "1000000"}
    assert refused() == "hub-wrong"


@pytest.mark.parametrize("origin", ["https://elsewhere.example", "http://huggingface.co", "https://huggingface.co:444"])
def test_the_token_goes_to_no_other_host_for_a_next_page(hub: Hub, origin: str):
    hub.headers = {"link": f'<{origin}/api/models/org/model/tree/main?cursor=1>; rel="next"'}
    assert refused() == "hub-wrong"
    assert {request.url.copy_with(raw_path=b"/") for request in hub.asked} == {"https://huggingface.co/"}


@pytest.mark.parametrize("link", [True, False])
def test_the_token_goes_to_no_other_host_for_a_xet_download(hub: Hub, link: bool, monkeypatch: pytest.MonkeyPatch):
    """And no other client than the one that is checked downloads; what the user does with xet stays as it was."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    route = "https://elsewhere.example/api/steal"
    header = {"link": f'<{route}>; rel="xet-auth"'} if link else {"x-xet-refresh-route": route}
    hub.headers = {"x-xet-hash": "a" * 64, **header}
    assert (locate("org/model") / "model.safetensors").read_bytes() == ONE
    assert {request.url.host for request in hub.asked} == {"huggingface.co"}
    assert constants.HF_HUB_DISABLE_XET is False


def test_xet_stays_off_until_the_last_block_that_needs_it_off_ends(monkeypatch: pytest.MonkeyPatch):
    """Blocks of threads overlap; each of them would otherwise put back what another one had set."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    transfers, other = Transfers(), ExitStack()
    with transfers.one():
        other.enter_context(transfers.one())
    assert constants.HF_HUB_DISABLE_XET is True
    other.close()
    assert constants.HF_HUB_DISABLE_XET is False


def test_files_that_only_xet_can_fetch_are_said_to_be_so(hub: Hub):
    hub.headers = {"x-linked-size": str(60 * 1000**3)}
    with errors.refused("file-too-large", kind=CheckpointError) as caught:
        locate("org/model")
    assert "hf download org/model" in caught.value.problem


def test_hashes_of_xet_in_a_listing_lead_to_no_xet_download(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    hub.entry = {"xetHash": "a" * 64, "lfs": {"oid": "b" * 64, "size": len(ONE), "pointerSize": 1}}
    assert (locate("org/model") / "model.safetensors").read_bytes() == ONE
    assert not [request for request in hub.asked if "xet" in request.url.path]


@pytest.mark.parametrize("name", ["../../../outside.safetensors", "/outside.safetensors", "a/../../../outside.json"])
def test_names_of_files_lead_nowhere_else(hub: Hub, name: str, tmp_path: Path):
    del hub.files["model.safetensors"]
    hub.files |= {"model.safetensors.index.json": json.dumps(index(one=name)).encode(), name: ONE}
    assert refused() in ("hub-wrong", "model-unavailable")
    assert not list(tmp_path.rglob("*outside*"))
    assert not Path("/outside.safetensors").exists()


def test_small_files_that_are_not_small_are_not_fetched(hub: Hub):
    hub.sizes = {"notes.json": 1 << 40}
    hub.files["notes.json"] = b"{}"
    assert not (locate("org/model") / "notes.json").exists()
    assert not [request for request in hub.asked if request.url.path.endswith("notes.json")]


def endless() -> Iterator[bytes]:
    for _ in range(100_000):
        yield bytes(1 << 20)
    raise AssertionError("a hundred gigabytes were read")


def test_an_endless_body_is_not_read_to_its_end(hub: Hub):
    hub.body = lambda request, content: endless()
    assert refused() == "hub-wrong"


class Clock:
    """Time that passes while a body is waited for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.now = 0.0
        monkeypatch.setattr(hub_answers, "time", SimpleNamespace(monotonic=lambda: self.now))

    def dripping(self, content: bytes, size: int, seconds: float) -> Iterator[bytes]:
        for begin in range(0, len(content), size):
            self.now += seconds
            yield content[begin : begin + size]


@pytest.mark.parametrize("stated", [False, True])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_body_that_hardly_comes_is_not_waited_for(hub: Hub, monkeypatch: pytest.MonkeyPatch, stated: bool, name: str):
    clock, hub.stated = Clock(monkeypatch), stated
    hub.files["config.json"] = b"{" + b" " * 1000 + b"}"
    hub.body = lambda request, content: clock.dripping(content, 1, 5) if request.url.path.endswith(name) else content
    assert refused() == "hub-wrong"
    assert clock.now <= 60


def test_a_range_that_hardly_comes_is_not_waited_for(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch)
    hub.body = lambda request, content: clock.dripping(content, 1, 5) if "range" in request.headers else content
    with pytest.raises(CheckpointError) as caught:
        open_store("org/model", fetch=False)
    assert (caught.value.code, clock.now) == ("hub-wrong", 40 + 60)  # the eight bytes in front of a header are few


@pytest.mark.parametrize(("size", "seconds"), [(50, 0.005), (1 << 16, 55.0), (1 << 20, 59.0)])
def test_a_slow_line_is_no_attack(hub: Hub, monkeypatch: pytest.MonkeyPatch, size: int, seconds: float):
    """Ten kilobytes a second, in small pieces; nor are pauses."""
    clock = Clock(monkeypatch)
    hub.files["config.json"] = b'{"model_type": "llama"' + b" " * (5 << 19) + b"}"
    hub.body = lambda request, content: clock.dripping(content, size, seconds)
    assert (locate("org/model") / "model.safetensors").read_bytes() == ONE


def test_a_small_file_whose_stated_length_is_not_small_is_not_read_to_its_end(hub: Hub, tmp_path: Path):
    hub.sizes, hub.stated = {"config.json": 580}, True
    hub.files["config.json"] = b"{" + b" " * LARGE + b"}"
    hub.body = lambda request, content: iter([content])
    assert refused() == "hub-wrong"
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size > 580]


@pytest.mark.parametrize(("page", "most"), [(b"[]", 200), (b"[" + b" " * (9 << 20) + b"]", 8)], ids=["empty", "large"])
def test_a_listing_without_an_end_is_not_followed(hub: Hub, page: bytes, most: int):
    hub.page = page
    assert refused() == "hub-wrong"
    assert len([request for request in hub.asked if "/tree/" in request.url.path]) <= most + 1


def test_a_page_that_names_itself_as_the_next_one_is_not_followed(hub: Hub):
    hub.headers = {"link": '<https://huggingface.co/api/models/org/model/tree/main>; rel="next"'}
    assert refused() == "hub-wrong"


def test_a_mark_of_ours_is_not_sent(hub: Hub):
    locate("org/model")
    assert not [request for request in hub.asked if AT_MOST in request.headers]


def test_an_endless_range_is_not_read_to_its_end(hub: Hub):
    hub.body = lambda request, content: endless() if request.url.path.endswith("model.safetensors") else content
    with errors.refused("hub-wrong", kind=CheckpointError) as caught:
        open_store("org/model", fetch=False)
    assert "8 bytes" in caught.value.problem  # so many were asked for


def test_what_others_ask_the_hub_in_the_same_process_is_left_alone(hub: Hub):
    """Whoever uses gatenorm as a library may be sent compressed bodies, and be asked to wait."""
    assert locate("org/model").is_dir()
    hub.asked.clear()
    hub.headers = {"content-encoding": "identity", "retry-after": "1000000", "x-repo-commit": "a/b"}
    assert get_session().get("https://huggingface.co/org/model/resolve/main/config.json").status_code == 200
    assert hub.asked[0].headers["accept-encoding"] != "identity"
    assert refused() == "hub-wrong"


def test_a_compressed_body_is_refused(hub: Hub):
    hub.headers = {"content-encoding": "gzip"}
    assert refused() == "hub-wrong"
    assert {request.headers["accept-encoding"] for request in hub.asked} == {"identity"}


def test_what_is_cached_is_enough_where_the_hub_is_gone(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    before = locate("org/model")

    def gone(request: Any) -> Any:
        raise CLIENT.ConnectError("gone", request=request)

    set_client_factory(lambda: CLIENT.Client(transport=CLIENT.MockTransport(gone)))
    assert (locate("org/model"), fetch_companions("org/model")) == (before, (before, []))


def test_a_hub_that_cannot_be_reached_is_not_asked_again_and_again(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    asked, waited = [], []

    def gone(request: Any) -> Any:
        asked.append(request)
        raise CLIENT.ConnectError("gone", request=request)

    monkeypatch.setattr(_http.time, "sleep", waited.append)
    set_client_factory(lambda: CLIENT.Client(transport=CLIENT.MockTransport(gone)))
    for fetch in (True, False):
        with errors.refused("hub-unreachable", kind=CheckpointError) as caught:
            open_store("nothere", fetch=fetch)
        assert "nothere" in caught.value.problem
    assert (len(asked), waited) == (2, [])


def test_a_hub_that_is_busy_is_asked_again(hub: Hub):
    """What it says is no reason to give up, unlike silence."""
    hub.status = 503
    assert refused() == "model-unavailable"
    assert len(hub.asked) > 3

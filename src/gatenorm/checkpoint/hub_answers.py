"""What a hub answers is untrusted input too: looked through before huggingface_hub believes it.

That library makes paths of ETags, commits and object ids, reads bodies whole, and follows pagination links with the
user's token in hand.
"""

import re
import sys
import time
from collections.abc import Iterator
from functools import cache
from typing import Any
from urllib.parse import unquote, urlsplit

from gatenorm.checkpoint.hub_transfer import TRANSFERS
from gatenorm.errors import CheckpointError
from gatenorm.files import LARGE, parse_json

# Headers and keys that become names of files, and what they may hold.
_HEADERS = ("etag", "x-linked-etag", "x-repo-commit", "x-xet-hash")
_KEYS = ("sha", "oid", "blobId", "xetHash", "sha256")
_HASH = re.compile(r'(W/)?"?[\w:+=-][\w.:+=-]{0,199}"?')
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")
# A header of our own requests, which isn't sent: the most bytes that the body of a file may have.
AT_MOST = "x-gatenorm-at-most"
# Under which a request keeps the address that was asked for first.
_ASKED = "gatenorm_asked"
# Bytes that a page of a listing is counted as at least: no listing has more than two hundred pages.
_PAGE = LARGE // 200
# Seconds that a hub may ask us to wait before we try again.
_PATIENCE = 60
# Bytes that a body has to bring in so many seconds of waiting for it: a kilobyte a second.
_SLOWEST, _WINDOW = 60 << 10, 60.0


@cache
def check_answers() -> None:
    """Have the answers to huggingface_hub checked that are asked for while :data:`TRANSFERS` go on.

    Requests of others, before and after, are left as they are. One of ours raises :class:`CheckpointError` for a hash
    that is none; a body that is compressed, longer than was asked for, or comes more slowly than a kilobyte a second
    for a minute; JSON that is none or beyond the limits of small files; a next page elsewhere; or a long wait. Where it
    has the header ``AT_MOST`` it also does for a longer body than that, and for a listing without an end.
    """
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils import _http

    make = _http._GLOBAL_CLIENT_FACTORY  # whoever uses gatenorm as a library may have set one

    def checked() -> Any:
        client, announced = make(), dict[str, int]()
        hooks = client.event_hooks

        def ask(request: Any) -> None:
            if TRANSFERS.going_on:
                _ask_plainly(request)

        def check(response: Any) -> None:
            if _ASKED in response.request.extensions:
                _check(announced, response)

        client.event_hooks = {"request": [*hooks["request"], ask], "response": [*hooks["response"], check]}
        return client

    set_client_factory(checked)


def _ask_plainly(request: Any) -> None:
    request.headers["Accept-Encoding"] = "identity"
    # Both stay with the request where it is redirected.
    request.extensions.setdefault(_ASKED, str(request.url))
    if AT_MOST in request.headers:
        request.extensions[AT_MOST] = int(request.headers.pop(AT_MOST))


def _check(announced: dict[str, int], response: Any) -> None:
    """Raise CheckpointError for an answer that is not to be believed.

    Args:
        announced: pages that were announced to this client, by their addresses, and the bytes of those before them.
    """
    host, asked_for = response.request.url.host, response.request.extensions[_ASKED]
    api, at_most = _is_api(asked_for), response.request.extensions.get(AT_MOST)
    if response.headers.get("content-encoding", "identity") != "identity":
        raise _wrong(host, "a compressed body, which nobody asked for")
    for name in _HEADERS:
        _check_hash(host, name, response.headers.get(name, "none"))
    url, link = response.request.url, response.links.get("next", {}).get("url")
    following = None if link is None else str(type(url)(link))
    if following is not None and (urlsplit(following)[:2] != urlsplit(str(url))[:2] or not _is_api(following)):
        raise _wrong(host, "a next page on another host, or one that is no listing")
    wait = response.headers.get("retry-after", "0")
    if not wait.isdecimal() or int(wait[:9]) > _PATIENCE:
        raise _wrong(host, f"that it wants to be asked again in {wait:.20} seconds")
    if response.request.method == "HEAD":
        return
    asked = _RANGE.fullmatch(response.request.headers.get("range", ""))
    if asked:
        _limit(response, int(asked[2]) - int(asked[1]) + 1, "a server that answers range requests")
    elif api or "content-length" not in response.headers:
        _limit(response, LARGE)
    else:
        _limit(response, sys.maxsize if at_most is None else at_most)
    if api and response.is_success:
        content = response.read()
        if at_most is not None:
            read = announced.pop(asked_for, 0) + max(len(content), _PAGE)
            if read > LARGE:
                raise _wrong(host, "a listing without an end")
            if following is not None:
                announced[following] = read
        try:
            data = parse_json(content, LARGE)
        except ValueError as error:
            raise _wrong(host, f"no JSON that can be read: {error}") from None
        for name, value in _named(data):
            _check_hash(host, name, value)


def _is_api(url: str) -> bool:
    """Whether what is there is read as JSON; the hub serves small files from below ``/api/`` too."""
    from huggingface_hub import constants

    path = unquote(urlsplit(url).path).removeprefix(unquote(urlsplit(constants.ENDPOINT).path))
    return path.startswith("/api/") and not path.startswith("/api/resolve-cache/")


def _named(data: Any) -> Iterator[tuple[str, Any]]:
    """All values under keys that become names of files."""
    if isinstance(data, dict):
        yield from ((key, data[key]) for key in _KEYS if data.get(key) is not None)
    for inner in data.values() if isinstance(data, dict) else data if isinstance(data, list) else ():
        yield from _named(inner)


def _check_hash(host: str, name: str, value: Any) -> None:
    if not isinstance(value, str) or not _HASH.fullmatch(value):
        raise _wrong(host, f"{name} {value!r:.60}, which is no hash")


def _limit(response: Any, most: int, expected: str = "") -> None:
    """Have the body end with an error at the first byte too many, or where it hardly comes: silence ends by itself."""
    source = response.stream
    [base] = [kind for kind in type(source).__mro__ if kind.__name__ == "SyncByteStream"]
    host = response.request.url.host

    class Limited(base):  # type: ignore[misc,valid-type]
        def __iter__(self) -> Iterator[bytes]:
            left, waited, brought = most, 0.0, 0
            pieces = iter(source)
            while True:
                began = time.monotonic()
                piece = next(pieces, None)
                if piece is None:
                    return
                waited, brought = waited + time.monotonic() - began, brought + len(piece)
                if waited >= _WINDOW:
                    if brought < _SLOWEST:
                        raise _wrong(host, f"{brought:,} bytes in {waited:.0f} seconds: it is not waited for")
                    waited, brought = 0.0, 0
                left -= len(piece)
                if left < 0:
                    raise _wrong(host, f"more than the {most:,} bytes that a body may have", expected)
                yield piece

        def close(self) -> None:
            source.close()

    response.stream = Limited()


def _wrong(host: str, what: str, expected: str = "") -> CheckpointError:
    return CheckpointError("hub-wrong", f"the hub at {host} answers with {what}", expected=expected)

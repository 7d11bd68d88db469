"""What is fetched of a model that stays on the hub, and what happens when the hub does not answer as it should."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import set_client_factory
from msgspec import structs

import gatenorm
from gatenorm.checkpoint import open_store
from gatenorm.checkpoint.hub_answers import check_answers
from gatenorm.criteria.scoring import bytes_to_read
from gatenorm.errors import CheckpointError
from gatenorm.families import Layout
from tests.checkpoint.quantisers import CASES, write
from tests.checkpoint.test_lying_hub import CLIENT, COMMIT, Hub, hub
from tests.errors import refused

TinyModels = Callable[..., Path]
__all__ = ["hub"]  # the fixture


def serve(hub: Hub, model: Path) -> None:
    hub.files = {path.name: path.read_bytes() for path in model.iterdir()}


def fetched(hub: Hub) -> int:
    """Bytes of weights that were asked for, without those of headers."""
    ranges = [r.headers["range"].removeprefix("bytes=").split("-") for r in hub.asked if "range" in r.headers]
    header = 8 + int.from_bytes(hub.files["model.safetensors"][:8], "little")
    return sum(int(last) + 1 - int(first) for first, last in ranges) - header


@pytest.mark.parametrize(
    ("name", "share"),
    # A grouped layout with query and key of every head side by side; one with eight query heads a key; stacked ones.
    # GPT-2 stores inputs as rows, each of which holds a piece of every head: query, key and value are one range.
    [("gpt_neox", 1.0), ("falcon-40b", 1.0), ("falcon-7b", 1.0), ("phi3", 1.0), ("gpt2", 1.5)],
)
def test_of_fused_weights_the_rows_of_queries_and_keys_are_fetched(
    name: str, share: float, hub: Hub, tiny_models: TinyModels
):
    model = tiny_models(name)
    serve(hub, model)
    scores, local = gatenorm.score("org/model"), gatenorm.score(model)
    assert scores.layers == local.layers
    layout = gatenorm.open_model(model)
    wanted = 4 * layout.layers * (layout.heads + layout.kv_heads) * layout.head_dim * layout.width
    assert scores.bytes_read == share * wanted == bytes_to_read(layout, "gate-norm")
    # What is said of biases is said after a look at those of the first layer, for queries and for keys.
    biases = [
        t.nbytes for t in layout.checkpoint.specs.values() if t.name == layout.tensor(0, f"{module(layout)}.bias")
    ]
    assert fetched(hub) == scores.bytes_read + 2 * sum(biases)


def module(layout: Layout) -> str:
    return str(layout.roles.qkv)


@pytest.mark.parametrize("name", ["fp8-block", "compressed-int4", "bitsandbytes-nf4-nested"])
def test_of_quantised_weights_the_parts_of_queries_and_keys_are_fetched(
    name: str, hub: Hub, shared: Path, tmp_path: Path
):
    write(CASES[name], shared / "models/novels-16L", tmp_path / "quantised", tmp_path / "whole")
    serve(hub, tmp_path / "quantised")
    scores, local = gatenorm.score("org/model"), gatenorm.score(tmp_path / "quantised")
    assert scores.layers == local.layers
    specs = open_store(tmp_path / "quantised").specs.values()
    wanted = sum(spec.nbytes for spec in specs if spec.name.endswith(("q_proj.weight", "k_proj.weight")))
    # What the descriptions of the value and output projections say of their shapes is asked for too.
    described = 16 * 2 * 300 if name.startswith("bitsandbytes") else 16 * 2 * 16 if "int4" in name else 0
    assert wanted <= fetched(hub) <= 1.01 * wanted + described
    assert bytes_to_read(gatenorm.open_model(tmp_path / "quantised"), "gate-norm") == wanted


def test_a_plan_names_the_commit_and_is_for_no_other(hub: Hub, tiny_models: TinyModels):
    serve(hub, tiny_models("llama-gqa"))
    same = gatenorm.score("org/model").model
    assert (same.commit, same.sample_sha256) == (COMMIT, "")
    plan = gatenorm.plan("org/model", layers=1)
    assert plan.model.commit == COMMIT
    assert plan.model.same_weights(same)
    assert not plan.model.same_weights(structs.replace(same, commit="f" * 40))
    local = gatenorm.score(tiny_models("llama-gqa")).model
    assert local.sample_sha256
    assert plan.model.same_weights(local)


def disturbed(hub: Hub, disturb: Callable[[Any], Any]) -> list[Any]:
    """From now on ``disturb`` may answer requests for ranges in the hub's place; they are listed."""
    ranges: list[Any] = []

    def answer(request: Any) -> Any:
        if "range" not in request.headers:
            return hub(request)
        ranges.append(request)
        return disturb(request) or hub(request)

    set_client_factory(lambda: CLIENT.Client(transport=CLIENT.MockTransport(answer), follow_redirects=True))
    check_answers.__wrapped__()
    return ranges


@pytest.mark.parametrize("status", [401, 404, 416, 429, 503])
def test_a_status_in_the_place_of_a_range_is_one_line(hub: Hub, status: int):
    disturbed(hub, lambda request: CLIENT.Response(status, content=b""))
    with refused("model-unavailable", kind=CheckpointError) as caught:
        open_store("org/model", fetch=False)
    assert str(status) in caught.value.problem
    assert "\n" not in str(caught.value)


def test_a_gated_model_says_where_to_accept_its_terms(hub: Hub):
    headers = {"x-error-code": "GatedRepo"}
    disturbed(hub, lambda request: CLIENT.Response(403, content=b"", headers=headers))
    with refused("model-gated", kind=CheckpointError) as caught:
        open_store("org/model", fetch=False)
    assert "https://huggingface.co/org/model," in caught.value.hint


def failing(request: Any) -> Any:
    raise CLIENT.ReadError("reset", request=request)


def cut_short(request: Any) -> Any:
    def body() -> Any:
        yield b"1"
        raise CLIENT.RemoteProtocolError("peer closed connection", request=request)

    return CLIENT.Response(206, content=body())


def too_slow(request: Any) -> Any:
    raise CLIENT.ReadTimeout("slow", request=request)


def busy(request: Any) -> Any:
    return CLIENT.Response(429, content=b"", headers={"retry-after": "1"})


@pytest.mark.parametrize("disturb", [failing, cut_short, too_slow, busy])
def test_a_range_that_fails_is_asked_for_again(hub: Hub, disturb: Callable[[Any], Any]):
    asked = disturbed(hub, lambda request: disturb(request) if len(asked) in (1, 3) else None)
    assert set(open_store("org/model", fetch=False).specs) == {"one"}
    assert len(asked) == 4


@pytest.mark.parametrize("disturb", [failing, cut_short, too_slow])
def test_a_range_that_always_fails_is_one_line(hub: Hub, disturb: Callable[[Any], Any]):
    disturbed(hub, disturb)
    with refused("hub-unreachable", kind=CheckpointError):
        open_store("org/model", fetch=False)


def test_a_compressed_range_is_refused(hub: Hub):
    """Eight bytes were asked for; how many a compressed body becomes is seen when they are there."""

    def compressed(request: Any) -> Any:
        return CLIENT.Response(206, content=iter([gzip.compress(bytes(8))]), headers={"content-encoding": "gzip"})

    disturbed(hub, compressed)
    with refused("hub-wrong", kind=CheckpointError) as caught:
        open_store("org/model", fetch=False)
    assert "a compressed body" in caught.value.problem


def test_a_redirect_to_another_host_never_sees_the_token(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")

    def elsewhere(request: Any) -> Any:
        if request.url.host == "cdn.example":
            return None
        return CLIENT.Response(302, headers={"location": f"https://cdn.example{request.url.path}"})

    asked = disturbed(hub, elsewhere)
    assert set(open_store("org/model", fetch=False).specs) == {"one"}
    tokens = {(request.url.host, request.headers.get("authorization")) for request in asked}
    assert tokens == {("huggingface.co", "Bearer hf_secret"), ("cdn.example", None)}

"""The training on a tiny model: resumed as uninterrupted, accumulated as at once, diverged and stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec import structs
from safetensors.torch import save_file

import gatenorm
from gatenorm.errors import OutputError, RecoveryError
from gatenorm.records.recovery_settings import Settings
from gatenorm.records.serialization import to_json
from gatenorm.recovery.corpus import Corpus
from gatenorm.recovery.look import Look
from gatenorm.recovery.merging import with_adapters
from gatenorm.recovery.state import STATE_SCHEMA, State, load, save
from gatenorm.recovery.student import adapted_modules
from gatenorm.recovery.training import Step, held_out_loss, train
from gatenorm.results import Fingerprint
from gatenorm.results.hashes import digest
from tests.errors import refused
from tests.recovery.conftest import SETTINGS, Place

# Always the same few words: something that can be learned in a few steps.
_WORDS = np.tile(np.arange(4, 12, dtype=np.int32), (40, 4))
CORPUS = Corpus(_WORDS, tuple(map(tuple, _WORDS[:3].tolist())), {})
KEY = Fingerprint.of({"rank": 4})


class Killed(Exception):  # noqa: N818 - stands for a signal
    pass


@pytest.fixture(params=["float32", "bfloat16"])
def dtype(request: pytest.FixtureRequest) -> Any:
    return getattr(torch, request.param)


def adapted(place: Place, settings: Settings, dtype: Any = torch.float32) -> torch.nn.Module:
    model = gatenorm.load(place.pruned, dtype=dtype).requires_grad_(False)
    modules = adapted_modules(model, place.layout, settings.targets)
    if settings.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return with_adapters(model, modules, settings, transposed=False, name="x")


def adapters(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if "lora" in name}


def killed_after(step: int) -> Callable[[Step], None]:
    def report(told: Step) -> None:
        if told.step == step:
            raise Killed

    return report


@pytest.mark.parametrize("objective", ["lm", "distill"])
def test_resumed_ends_bit_for_bit_where_uninterrupted_ends(place: Place, tmp_path: Path, dtype: Any, objective: str):
    settings = replace(SETTINGS, dropout=0.2, accumulation=2, objective=objective)
    parent = gatenorm.load(place.dense, dtype=dtype) if objective == "distill" else None
    whole = adapted(place, settings, dtype)
    expected = train(whole, place.layout, CORPUS, settings, parent=parent)
    for first, second in ((1, 3), (4, 5)):  # in the middle between two looks, and right behind one
        path = tmp_path / f"{first}"
        for step in (first, second):
            with pytest.raises(Killed):
                train(
                    adapted(place, settings, dtype),
                    place.layout,
                    CORPUS,
                    settings,
                    parent=parent,
                    path=path,
                    key=KEY,
                    report=killed_after(step),
                )
        again = adapted(place, settings, dtype)
        found = train(again, place.layout, CORPUS, settings, parent=parent, path=path, key=KEY)
        ours, theirs = adapters(again), adapters(whole)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
        seen = [structs.replace(look, seconds=0.0) for look in found.history]
        assert seen == [structs.replace(look, seconds=0.0) for look in expected.history]
    if objective == "lm":  # what the random parent predicts is nothing that the text says
        assert expected.best.held_out < expected.start
    assert [p.name for p in tmp_path.iterdir() if "partial" in p.name] == []


def test_the_caller_s_generator_is_as_it_was(place: Place):
    settings = replace(SETTINGS, dropout=0.2, steps=2)
    plain = gatenorm.load(place.pruned, dtype=torch.float32).requires_grad_(False)
    modules = adapted_modules(plain, place.layout, settings.targets)
    before = torch.get_rng_state()
    model = with_adapters(plain, modules, settings, transposed=False, name="x")
    assert torch.equal(torch.get_rng_state(), before)
    train(model, place.layout, CORPUS, settings)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_best_is_kept_and_only_adapters_change(place: Place):
    model = adapted(place, SETTINGS)
    frozen = {name: p.clone() for name, p in model.named_parameters() if "lora" not in name}
    state = train(model, place.layout, CORPUS, SETTINGS)
    assert held_out_loss(model, CORPUS.held_out, 2) == pytest.approx(state.best.held_out, rel=1e-6)
    assert [look.step for look in state.history] == [0, 2, 4, 6]
    assert all(torch.equal(p, frozen[name]) for name, p in model.named_parameters() if name in frozen)
    worse = replace(SETTINGS, learning_rate=1e-12, steps=2)
    assert train(adapted(place, worse), place.layout, CORPUS, worse).history[-1].held_out == pytest.approx(
        state.start, rel=1e-6
    )


def test_accumulated_batches_and_recomputed_activations_change_nothing(place: Place):
    once = replace(SETTINGS, batch=4, steps=3, watch_every=3)
    found = []
    for settings in (once, replace(once, batch=2, accumulation=2), replace(once, checkpointing=True)):
        model = adapted(place, settings)
        train(model, place.layout, CORPUS, settings)
        found.append(adapters(model))
    for other in found[1:]:
        for name, values in found[0].items():
            torch.testing.assert_close(other[name], values, atol=1e-5, rtol=1e-3)


def test_a_state_of_another_recovery_is_refused_by_name(place: Place, tmp_path: Path):
    path = tmp_path / "state"
    with pytest.raises(Killed):
        train(adapted(place, SETTINGS), place.layout, CORPUS, SETTINGS, path=path, key=KEY, report=killed_after(2))
    with refused("results-differ", kind=OutputError) as caught:
        train(adapted(place, SETTINGS), place.layout, CORPUS, SETTINGS, path=path, key=Fingerprint.of({"rank": 8}))
    assert str(path) in caught.value.problem
    assert "(rank 4," in caught.value.problem


def test_a_damaged_state_is_refused_by_name(tmp_path: Path):
    """One whose hash is right too, so that the values themselves are looked at."""
    path, looks = tmp_path / "state", [Look(step=0, held_out=1.0, seconds=1.0)]
    state = State(2, looks, {"best": {"a": torch.ones(2)}})
    save(state, path, KEY)
    loaded = load(path, KEY)
    assert loaded is not None
    assert (loaded.step, loaded.history) == (2, looks)
    whole = path.read_bytes()
    for damaged in (whole[:-20], whole.replace(b'step\\": ', b'step\\":-')):
        path.write_bytes(damaged)
        with refused("state-damaged", kind=RecoveryError):
            load(path, KEY)
    tensor = torch.ones(2)
    progress: Any
    for progress in (
        [],
        {"step": 2, "diverged": None},
        {"step": None, "history": [], "diverged": None},
        {"step": 2, "history": 7, "diverged": None},
        {"step": 2, "history": [{"step": "x"}], "diverged": None},
        {"step": 2, "history": [], "diverged": 7},
    ):
        written(path, {"best.a": tensor}, progress)
        with refused("state-damaged", kind=RecoveryError):
            load(path, KEY)
    written(path, {"a": tensor}, {"step": 2, "history": to_json(looks), "diverged": None})
    with refused("state-damaged", kind=RecoveryError):
        load(path, KEY)


def written(path: Path, tensors: dict[str, torch.Tensor], progress: Any) -> None:
    """A state of somebody else's, with the hash that it should have."""
    metadata = {"schema": STATE_SCHEMA, "key": json.dumps(to_json(KEY)), "progress": json.dumps(progress)}
    metadata["sha256"] = digest([metadata["progress"], metadata["key"], sorted(tensors)])
    save_file(tensors, path, metadata)


def test_a_diverging_training_stops_with_the_best(place: Place):
    # The model is random, so its loss cannot rise far above that of guessing, where it begins.
    wild = replace(SETTINGS, learning_rate=300.0, schedule="constant", warm_up=0.0, steps=200, clip=1e9, diverged=1.02)
    model = adapted(place, wild)
    state = train(model, place.layout, CORPUS, wild)
    assert state.diverged
    assert state.step < 200
    assert held_out_loss(model, CORPUS.held_out, 2) == pytest.approx(state.best.held_out, rel=1e-5)
    assert state.best.held_out <= state.start


def test_a_loss_that_is_no_number_stops_too(place: Place):
    model = adapted(place, SETTINGS)

    def poison(told: Step) -> None:
        if told.step == 3:
            with torch.no_grad():
                next(p for p in model.parameters() if p.requires_grad).fill_(float("nan"))

    state = train(model, place.layout, CORPUS, replace(SETTINGS, steps=50), report=poison)
    assert (state.step, state.diverged) == (4, "the loss of step 4 is not finite")
    assert state.best.step == 2
    assert torch.isfinite(model(input_ids=torch.arange(4, 12)[None]).logits).all()


def test_what_fails_in_its_first_step_leaves_no_state(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(self: Corpus, seed: int, first: int, count: int) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(Corpus, "rows", full)
        with pytest.raises(RuntimeError, match="out of memory"):
            train(adapted(place, SETTINGS), place.layout, CORPUS, SETTINGS, path=tmp_path / "state", key=KEY)
    assert list(tmp_path.iterdir()) == []

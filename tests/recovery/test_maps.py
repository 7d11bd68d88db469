"""Training what stands in the place of sublayers, and the forward passes that it shares with the parent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gatenorm
from gatenorm.errors import RecoveryError
from gatenorm.models.forward import blocks_of
from gatenorm.records import ATTENTION, MLP, Edits, RecoverySummary
from gatenorm.records.recovery_settings import Settings
from gatenorm.recovery.corpus import Corpus
from gatenorm.recovery.shared_forward import SharedForward
from gatenorm.recovery.state import state_file
from gatenorm.recovery.student import load_student
from gatenorm.recovery.trained_maps import train_maps
from gatenorm.recovery.training import Step, train
from gatenorm.results import Fingerprint
from gatenorm.surgery.operation import added_tensors
from tests.errors import refused
from tests.recovery.conftest import SETTINGS, Place
from tests.replaced import write_edited
from tests.tiny_models import CASES, attention_of, tokens

TinyModels = Callable[..., Path]
MAPS = replace(SETTINGS, targets=("maps",), objective="distill")
KEY = Fingerprint.of({"rank": 4})
# Five different sequences, which a training of six steps of two passes more than twice.
_IDS = np.random.default_rng(0).integers(4, 600, (5, 32)).astype(np.int32)
CORPUS = Corpus(_IDS, tuple(map(tuple, _IDS[:3].tolist())), {})


@pytest.fixture(scope="module")
def replaced(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A map, a map of rank 4 and a constant in the places of three sublayers, and one that is gone; all in the rear."""
    edits = Edits(
        [
            *Edits.of(ATTENTION, [1], "linear"),
            *Edits.of(ATTENTION, [2], "linear:4"),
            *Edits.of(MLP, [2], "constant"),
            *Edits.of(MLP, [3], "remove"),
        ]
    )
    return write_edited(place.dense, tmp_path_factory.mktemp("replaced") / "replaced", edits)


def parent_of(place: Place, dtype: Any = torch.float32) -> Any:
    return gatenorm.load(place.dense, dtype=dtype).requires_grad_(False)


@pytest.mark.parametrize("name", ["llama-gqa", "gpt2", "falcon-alibi", "gemma2", "olmo2"])
@pytest.mark.parametrize("operation", ["linear", "constant"])
def test_a_trained_operation_computes_what_it_did_and_is_stored_as_it_is(
    name: str, operation: str, tiny_models: TinyModels, tmp_path: Path
):
    from gatenorm.recovery.merging import write_merged

    source = write_edited(tiny_models(name), tmp_path / "replaced", Edits.of(ATTENTION, [1], operation))
    layout = gatenorm.open_model(source)

    def loaded(directory: Path) -> Any:
        return gatenorm.load(directory, dtype=torch.float32, attn_implementation=attention_of(CASES[name][0]))

    model = loaded(source)
    plain = model(input_ids=tokens()).logits.detach()
    maps = train_maps(model.requires_grad_(False), layout)
    assert torch.equal(model(input_ids=tokens()).logits, plain)
    assert (
        {n for n, p in model.named_parameters() if p.requires_grad}
        == set(maps)
        == set(added_tensors(layout, layout.edits))
    )
    with torch.no_grad():
        for trained in maps.values():
            trained.tensor.add_(torch.randn(trained.tensor.shape, generator=torch.Generator().manual_seed(0)))
    (tmp_path / "trained").mkdir()
    write_merged(layout, maps, RecoverySummary("lm", 1, "a text"), tmp_path / "trained")
    found, expected = loaded(tmp_path / "trained").double(), model.double()
    torch.testing.assert_close(found(input_ids=tokens()).logits, expected(input_ids=tokens()).logits)
    before, after = layout.checkpoint, gatenorm.open_model(tmp_path / "trained").checkpoint
    assert {n: s.shape for n, s in before.specs.items()} == {n: s.shape for n, s in after.specs.items()}
    assert {n for n in before.specs if before.raw(n).tobytes() != after.raw(n).tobytes()} == set(maps)


@pytest.mark.parametrize("passes", [1.0, 3.0])
def test_shared_passes_give_the_logits_of_whole_ones(place: Place, replaced: Path, passes: float):
    layout = gatenorm.open_model(replaced)
    student, parent = gatenorm.load(replaced, dtype=torch.float32).requires_grad_(False), parent_of(place)
    maps = train_maps(student, layout)
    shared = SharedForward(student, parent, layout, sequences=5, length=32, passes=passes)
    assert (shared.begin, shared.keeps) == (1, passes > 1)
    ids = torch.from_numpy(_IDS).long()
    whole = parent(input_ids=ids).logits
    runs: list[int] = []
    for layer, block in enumerate(blocks_of(parent, layout)):
        block.register_forward_hook(lambda *_, layer=layer: runs.append(layer))
    for numbers in ([0, 1], [1, 2], [2, 0], [0, 1]):
        ours, theirs = shared(student, numbers, ids[numbers])
        assert theirs is not None
        torch.testing.assert_close(theirs, whole[numbers])
        torch.testing.assert_close(ours, student(input_ids=ids[numbers]).logits)
        ours.square().sum().backward()
        assert all(bool(trained.tensor.grad.abs().sum() > 0) for trained in maps.values())
    # Every block once a batch; once a sequence, of which there were three, where streams are kept.
    assert [runs.count(layer) for layer in range(4)] == [3 if passes > 1 else 4] * 4


def test_nothing_is_shared_with_a_parent_of_other_weights_or_with_adapters_in_front(place: Place, replaced: Path):
    layout, how = gatenorm.open_model(replaced), {"sequences": 5, "length": 32, "passes": 1.0}

    def begin(settings: Settings, parent: Any) -> int:
        return SharedForward(load_student(layout, settings, "cpu").model, parent, layout, **how).begin

    parent = parent_of(place)
    assert begin(MAPS, parent) == begin(MAPS, None) == 1
    assert begin(replace(MAPS, targets=("attention",)), parent) == 0  # layer 0 has its attention
    with torch.no_grad():
        next(blocks_of(parent, layout)[0].parameters()).add_(1e-3)
    assert begin(MAPS, parent) == 0
    other = parent_of(place)
    with torch.no_grad():
        other.get_input_embeddings().weight.add_(1e-3)
    assert begin(MAPS, other) == 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("targets", [("maps",), ("attention", "maps")])
def test_resumed_ends_bit_for_bit_where_uninterrupted_ends(
    place: Place, replaced: Path, tmp_path: Path, dtype: str, targets: tuple[str, ...]
):
    layout, settings = gatenorm.open_model(replaced), replace(MAPS, targets=targets, dtype=dtype, dropout=0.1)
    parent = parent_of(place, getattr(torch, dtype))

    def trained(stop: int | None = None, path: Path | None = None) -> dict[str, torch.Tensor]:
        def report(step: Step) -> None:
            if step.step == stop:
                raise KeyboardInterrupt

        model = load_student(layout, settings, "cpu").model
        train(model, layout, CORPUS, settings, parent=parent, path=path, key=KEY, report=report)
        return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}

    expected = trained()
    assert {p.dtype for p in expected.values()} == {torch.float32}
    for stop in (3, 5):
        with pytest.raises(KeyboardInterrupt):
            trained(stop, tmp_path / "state")
    found = trained(path=tmp_path / "state")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_maps_come_nearer_to_the_parent_and_stay_what_they_are(place: Place, replaced: Path, tmp_path: Path):
    def divergence(directory: Path) -> float:
        ids = torch.from_numpy(_IDS).long()
        with torch.no_grad():
            models = (gatenorm.load(one, dtype=torch.float32) for one in (place.dense, directory))
            p, q = (model(input_ids=ids).logits.log_softmax(-1) for model in models)
        return float((p.exp() * (p - q)).sum(-1).mean())

    settings = replace(SETTINGS, targets=("maps",), steps=30, watch_every=10)
    out = tmp_path / "out"
    found = gatenorm.recover(replaced, out, "generic", settings=settings, parent=place.dense)
    assert found.evidence.trainable == 32 * 32 + 2 * 4 * 32 + 32
    assert found.evidence.nll_merged < found.evidence.nll_before
    assert (out / "gatenorm.json").read_bytes() == (replaced / "gatenorm.json").read_bytes()
    assert not (out / "adapter").exists()
    assert "the operations in the place of sublayers" in (out / "README.md").read_text()
    before, after = gatenorm.open_model(replaced), gatenorm.open_model(out)
    assert (after.edits, after.recovered) == (before.edits, True)
    changed = {
        n for n in before.checkpoint.specs if before.checkpoint.raw(n).tobytes() != after.checkpoint.raw(n).tobytes()
    }
    assert changed == set(added_tensors(before, before.edits))
    distilled = replace(MAPS, steps=30, watch_every=30)
    near = gatenorm.recover(
        replaced, tmp_path / "near", "generic", settings=distilled, parent=place.dense, held_out="self"
    )
    assert divergence(near.directory) < divergence(replaced)


def test_maps_are_trained_where_there_are_some(place: Place, tmp_path: Path):
    with refused("nothing-to-train", "targets", RecoveryError):
        gatenorm.recover(place.pruned, tmp_path / "out", str(place.text), settings=replace(MAPS, objective="lm"))
    assert not state_file(tmp_path / "out").exists()

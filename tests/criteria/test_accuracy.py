"""Accuracy on one layer of a 13B model, and agreement of the backends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import gatenorm
from gatenorm.calibration.samples import Calibration
from gatenorm.criteria.compute import torch_backend
from gatenorm.criteria.compute.backend import Backend, backend
from gatenorm.criteria.compute.torch_backend import TorchBackend
from gatenorm.criteria.registry import forward_criteria, weight_criteria
from gatenorm.criteria.scoring import score
from gatenorm.errors import CriterionError
from gatenorm.families import AttentionWeights, Projection, attention_weights
from gatenorm.models.threads import threads
from tests.criteria.models import Shape, write
from tests.errors import refused
from tests.tiny_models import save

WIDTH, HEADS, HEAD_DIM = 5120, 40, 128
CLAIMED = 2e-5
ACROSS_THREADS = 2e-6
FORWARD_ACROSS_THREADS = 1e-4


def layer(
    dtype: str, outliers: int, width: int = WIDTH, heads: int = HEADS, head_dim: int = HEAD_DIM
) -> list[Projection]:
    """Random queries and keys whose columns share no pattern but ``outliers`` of 60 times the size."""
    draw = torch.Generator().manual_seed(outliers)
    projections = []
    for role in "qk":
        w = torch.randn(heads * head_dim, width, generator=draw) * 0.02
        w[:, [int(width * 0.28), int(width * 0.77)][:outliers]] *= 60
        bits = w.to({"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}[dtype])
        stored = bits.view(torch.int16).numpy().view("<u2") if dtype == "BF16" else bits.numpy()
        projections.append(Projection(role, dtype, tuple(stored.reshape(heads, head_dim, width))))
    return projections


def gram_norm(q: Projection, k: Projection) -> float:
    """The gate norm through Gram matrices in float64, of plain attention."""
    wide = [p.float32().astype(np.float64) for p in (q, k)]
    return float(np.sqrt(np.vdot(wide[0] @ wide[0].T, wide[1] @ wide[1].T)))


@pytest.mark.parametrize("outliers", [0, 2])
def test_a_13b_layer(outliers: int) -> None:
    q, k = layer("BF16", outliers)
    expected = gram_norm(q, k)
    for name in ("auto", "numpy", "torch"):
        assert backend(name).product_norm(q, k, "rows") == pytest.approx(expected, rel=CLAIMED), name
    grams = [backend("numpy").head_grams(p) for p in (q, k)]
    for head in (0, HEADS - 1):
        wide = [p.head(head).astype(np.float64) for p in (q, k)]
        exact = float(np.vdot(wide[0] @ wide[0].T, wide[1] @ wide[1].T))
        assert float(np.vdot(grams[0][head], grams[1][head])) == pytest.approx(exact, rel=2e-6)


@pytest.mark.parametrize("outliers", [0, 2])
@pytest.mark.parametrize(
    ("dtype", "contract"), [("BF16", "rows"), ("BF16", "width"), ("F16", "rows"), ("F32", "width")]
)
def test_the_bfloat16_product_keeps_its_promise(
    dtype: str, outliers: int, contract: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    q, k = layer(dtype, outliers, width=1536, heads=12)
    expected = backend("numpy").product_norm(q, k, contract)  # type: ignore[arg-type]
    monkeypatch.setattr(torch_backend, "has_bfloat16_units", lambda: True)
    chosen, claimed = TorchBackend("cpu"), CLAIMED if dtype == "BF16" else 2 * CLAIMED
    direct = chosen._bfloat16_norm(q, k, contract)  # type: ignore[arg-type]
    assert direct is None or direct == pytest.approx(expected, rel=claimed)
    assert chosen.product_norm(q, k, contract) == pytest.approx(expected, rel=claimed)  # type: ignore[arg-type]
    if dtype == "BF16":
        assert direct is not None  # such weights are what the path is for


def test_energy_in_too_few_entries_is_left_to_float32() -> None:
    q, k = layer("BF16", 0, width=64, heads=2)
    assert TorchBackend("cpu")._bfloat16_norm(q, k, "rows") is None
    assert TorchBackend("cpu").product_norm(q, k, "rows") == pytest.approx(gram_norm(q, k), rel=1e-6)


@pytest.mark.parametrize("form", ["separate", "grouped", "stacked", "transposed"])
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_numpy_and_torch_agree(tmp_path: Path, form: str, dtype: str) -> None:
    heads = (4, 4) if form == "transposed" else (4, 2)
    layout, _ = write(tmp_path, form, Shape(*heads, 8, 32, layers=2), dtype)

    class Elsewhere(TorchBackend):
        """The code that runs on an accelerator, on the CPU."""

        def product_norm(self, a: Projection, b: Projection, contract: str) -> float:  # type: ignore[override]
            return self._device_norm(a, b, contract)  # type: ignore[arg-type]

        def head_grams(self, projection: Projection, gain: object = None) -> object:  # type: ignore[override]
            return self._device_grams(projection, gain)  # type: ignore[arg-type]

    for name in weight_criteria():
        if name == "gate-norm-rope" and layout.rotary is None:
            continue
        expected = score(layout, name, backend="numpy")
        for other in ("torch", "auto", Elsewhere()):
            found = score(layout, name, backend=other)  # type: ignore[arg-type]
            np.testing.assert_allclose(
                [s.score for s in found.layers], [s.score for s in expected.layers], rtol=CLAIMED
            )


@pytest.mark.parametrize("where", ["numpy", "torch"])
@pytest.mark.parametrize("name", sorted(weight_criteria()))
def test_one_thread_and_many_agree(tmp_path: Path, name: str, where: str) -> None:
    """A sum in another order is another number: by how much at most."""
    layout, _ = write(tmp_path, "separate", Shape(8, 4, 32, 256, layers=2), "BF16")
    found = []
    for count in (1, 2, 4):
        with threads(count):
            found.append([s.score for s in score(layout, name, backend=where).layers])
    for several in found[1:]:
        np.testing.assert_allclose(several, found[0], rtol=ACROSS_THREADS)


@pytest.mark.parametrize("name", ["block-cosine", "cca-bound", "cosine", "norm-ratio"])
def test_one_thread_and_many_agree_on_activations(tmp_path: Path, name: str) -> None:
    """PyTorch runs the model, and nothing else does: there is no second backend to agree with."""
    assert name in forward_criteria()
    save("llama-gqa", tmp_path / "model")
    drawn, found = Calibration("random", samples=4, length=32), []
    for count in (1, 2):
        with threads(count):
            opened = gatenorm.session(tmp_path / "model", device="cpu")
            found.append([s.score for s in gatenorm.score(opened, name, calibration=drawn).layers])
    np.testing.assert_allclose(found[1], found[0], rtol=FORWARD_ACROSS_THREADS, atol=1e-6)


def test_torch_ranks_what_numpy_ranks() -> None:
    """Squares beyond float32 are no reason to refuse: entries of the product of up to 1e25 here."""
    pair = [Projection(p.tensor, p.dtype, tuple(w * np.float32(1e12) for w in p.bits)) for p in layer("F32", 0, 64, 2)]
    expected = backend("numpy").product_norm(*pair, "width")
    assert 1e20 < expected < np.inf
    chosen = TorchBackend("cpu")
    assert chosen.product_norm(*pair, "width") == pytest.approx(expected, rel=CLAIMED)
    assert chosen._bfloat16_norm(*pair, "width") is None


def test_bfloat16_is_left_to_processors_with_units_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k = layer("BF16", 0, width=1536, heads=12)
    monkeypatch.setattr(torch_backend, "has_bfloat16_units", lambda: False)
    monkeypatch.setattr(TorchBackend, "_bfloat16_norm", lambda *_: pytest.fail("computed in bfloat16"))
    assert TorchBackend("cpu").product_norm(q, k, "width") == backend("numpy").product_norm(q, k, "width")


def test_a_backend_can_be_handed_in(tmp_path: Path) -> None:
    layout, _ = write(tmp_path, "separate", Shape(2, 2, 4, 8))

    class Counting:
        seen = 0

        def product_norm(self, a: Projection, b: Projection, contract: str) -> float:
            self.seen += 1
            return 7.0

        def head_grams(self, projection: Projection, gain: object = None) -> object:
            raise AssertionError("gate-norm needs no Gram matrices of heads")

    counting: Backend = Counting()  # type: ignore[assignment]
    assert score(layout, backend=counting).layers[0].score == 7.0
    assert isinstance(attention_weights(layout, 0), AttentionWeights)


def test_backends_and_devices_that_are_not_there() -> None:
    with refused("backend-unknown", "backend", kind=CriterionError):
        backend("nump")
    with refused("backend-device", "device", kind=CriterionError):
        backend("numpy", "cuda")
    with refused("device-unusable", "device", kind=CriterionError):
        backend("torch", "cuda:99")

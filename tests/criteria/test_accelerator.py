"""CPU and GPU give the same scores and the same losses, within stated bounds. Skipped where there is no GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import gatenorm
from gatenorm.criteria.registry import forward_criteria, weight_criteria
from gatenorm.criteria.scoring import score
from gatenorm.demo.corpus import stories
from tests.criteria.models import Shape, write
from tests.criteria.test_accuracy import CLAIMED

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: CPU and GPU are not compared")

# Of activations and losses, in which the order of many more additions differs; in nats of a perplexity's logarithm.
FORWARD, LOSS = 1e-3, 1e-4


@pytest.mark.parametrize("form", ["separate", "grouped", "stacked", "transposed"])
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_scores_from_weights(tmp_path: Path, form: str, dtype: str) -> None:
    heads = (4, 4) if form == "transposed" else (4, 2)
    layout, _ = write(tmp_path, form, Shape(*heads, 8, 32, layers=2), dtype)
    for name in weight_criteria():
        if name == "gate-norm-rope" and layout.rotary is None:
            continue
        here, there = (score(layout, name, backend="torch", device=device) for device in ("cpu", "cuda"))
        np.testing.assert_allclose([s.score for s in there.layers], [s.score for s in here.layers], rtol=CLAIMED)


@pytest.mark.parametrize("name", sorted(forward_criteria()))
def test_scores_from_forward_passes(name: str) -> None:
    how = {"calibration": "random"}
    here, there = (gatenorm.score(gatenorm.session("demo", device=device), name, **how) for device in ("cpu", "cuda"))
    np.testing.assert_allclose([s.score for s in there.layers], [s.score for s in here.layers], rtol=FORWARD, atol=1e-6)


def test_losses(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(stories(4).content)
    found = []
    for device in ("cpu", "cuda"):
        (record,) = gatenorm.evaluate("demo", ["perplexity"], str(tmp_path / "text.txt"), device=device)
        found.append(np.log(record.numbers()["perplexity"]))
    assert found[1] == pytest.approx(found[0], abs=LOSS)

from __future__ import annotations

import pytest
import torch

from gatenorm.recovery.training import distillation, language_modelling


def test_language_modelling_is_the_mean_surprise_of_what_comes_next():
    logits, ids = torch.randn(2, 5, 7), torch.randint(0, 7, (2, 5))
    p = logits.double().softmax(-1)
    surprise = [-p[row, t, ids[row, t + 1]].log().item() for row in range(2) for t in range(4)]
    assert language_modelling(logits, ids).item() == pytest.approx(sum(surprise) / 8, rel=1e-6)


def test_distillation_is_the_forward_divergence():
    for temperature in (1.0, 2.0):
        q, p = torch.randn(2, 3, 7, requires_grad=True), torch.randn(2, 3, 7)
        before = (p.double() / temperature).softmax(-1)
        after = (q.detach().double() / temperature).softmax(-1)
        expected = temperature**2 * (before * (before / after).log()).sum() / 6
        found = distillation(q, p, temperature)
        assert found.item() == pytest.approx(expected.item(), rel=1e-5)
        # Forward: by d/dq its gradient is T (q - p), over the number of positions.
        found.backward()
        torch.testing.assert_close(q.grad.double(), temperature * (after - before) / 6, atol=1e-6, rtol=1e-4)
    assert distillation(p, p).item() == pytest.approx(0.0, abs=1e-7)

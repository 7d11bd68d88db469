"""Both sides of the paper's inequality against attention that was watched from outside; it holds, and is not vacuous
where the query and key weights are small.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gatenorm.analysis.bound import measure_bound
from gatenorm.calibration.samples import Calibration, CalibrationSamples
from gatenorm.criteria.session import ScoringSession
from gatenorm.errors import CriterionError
from gatenorm.records import to_json
from gatenorm.records.rankings import VACUOUS_FROM
from tests.analysis.models import SHAPES, layout_of, model_on
from tests.errors import refused
from tests.families.observed import observe
from tests.tiny_models import TOKENS, build, tokens

TinyModels = Callable[..., Path]
HOW = Calibration("random", samples=3, length=TOKENS)
COVERED = [name for name in SHAPES if name not in ("falcon-alibi", "gpt_oss")]


def session_on(directory: Path, model: object, sequence: list[int]) -> ScoringSession:
    """A session whose model and tokens are given."""
    session = ScoringSession(model_on(layout_of(directory), model))
    session._samples[HOW] = CalibrationSamples.of([sequence], HOW), 0.0
    return session


@pytest.mark.parametrize("name", COVERED)
def test_deviations_are_those_of_the_attention_itself(name: str, tiny_models: TinyModels):
    session = session_on(tiny_models(name), build(name), tokens()[0].tolist())
    found = measure_bound(session, HOW)
    heads = session.layout.heads
    for layer, seen in zip(found.layers, observe(name), strict=True):
        v = seen.v.repeat_interleave(heads // len(seen.v), 0)  # [heads, tokens, head_dim]
        running = v.cumsum(1) / torch.arange(1, TOKENS + 1).view(1, -1, 1)
        mixed = seen.mixed.view(TOKENS, heads, -1).transpose(0, 1)
        assert layer.deviation == pytest.approx((mixed - running).norm(dim=-1).amax(1).tolist(), rel=1e-4)
        assert all(deviation <= limit for deviation, limit in zip(layer.deviation, layer.limit, strict=True))
        largest = (seen.queries @ seen.keys.repeat_interleave(heads // len(seen.keys), 0).transpose(1, 2)).abs()
        logits = largest.amax((1, 2)) * session.layout.scale
        if session.layout.softcap:
            logits = session.layout.softcap * (logits / session.layout.softcap).tanh()
        assert all(b >= z * (1 - 1e-5) for b, z in zip(layer.logits, logits.tolist(), strict=True))


def test_the_bound_says_something_about_small_gates(tiny_models: TinyModels, tmp_path: Path):
    model = copy.deepcopy(build("llama-gqa"))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "q_proj" in name:
                parameter *= 2e-4
    model.save_pretrained(tmp_path)
    found = measure_bound(ScoringSession(model_on(layout_of(tmp_path))), HOW)
    for layer in found.layers:
        assert layer.vacuous == 0
        assert all(d <= limit for d, limit in zip(layer.deviation, layer.limit, strict=True))
        assert layer.looseness[0] >= 1
    loud = measure_bound(ScoringSession(model_on(layout_of(tiny_models("llama-gqa")))), HOW)
    assert all(layer.vacuous == 8 and min(layer.logits) > VACUOUS_FROM for layer in loud.layers)
    assert to_json(loud)["layers"][0]["logits"] == list(loud.layers[0].logits)


def test_samples_never_reach_past_the_window(tiny_models: TinyModels):
    found = measure_bound(ScoringSession(model_on(layout_of(tiny_models("mistral")))), Calibration("random", 2, 40))
    assert found.protocol.length == 16


@pytest.mark.parametrize("name", ["gpt_oss", "qwen3_next", "ministral3"])
def test_attention_that_the_inequality_does_not_speak_of_is_refused(name: str, tiny_models: TinyModels):
    layout = layout_of(tiny_models(name))
    with refused("bound-other-attention", "bound", CriterionError) as caught:
        measure_bound(ScoringSession(model_on(layout)), HOW)
    assert str(layout.data.no_bound) in caught.value.problem


def test_alibi_is_refused(tiny_models: TinyModels):
    with refused("bound-alibi", "bound", CriterionError):
        measure_bound(ScoringSession(model_on(layout_of(tiny_models("falcon-alibi")))), HOW)

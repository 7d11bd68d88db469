"""Both sides of the paper's inequality: how far a head is from averaging, and how far its gate norm lets it be.

For inputs ``|x| <= R`` of the attention a head's logits are at most ``B = s R^2 |Wq[h]|_2 |Wk[g(h)]|_2`` (biases as
one more coordinate of ``x`` that is always 1; a softcap ``c`` gives ``B <= c``; where queries and keys are normed, the
gains bound them). Every weight of the softmax then lies within a factor ``exp(+-2 B)`` of uniform, and

    max_t | out_t - mean_{s<=t} v_s |  <=  min(exp(2 B) - 1, 2) max_t |v_t|

where ``out`` is what the head makes of its values ``v``. Where the 2 applies the bound says nothing about the gate
norm: it is *vacuous*. Limits of the argument: the spectral norms are taken without the rotation, which only loosens;
heads that cancel in the gate matrix do not help; "uniform" is a running mean over the prefix, and nothing here says how
large that mean is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gatenorm.calibration.passes import Observer, observe
from gatenorm.calibration.samples import Calibration
from gatenorm.criteria.compute.backend import Float64, backend
from gatenorm.criteria.session import ScoringSession
from gatenorm.criteria.weights.gate_norm_scaled import gate_norm_scaled
from gatenorm.errors import CriterionError, named
from gatenorm.families import Layout, attention_weights
from gatenorm.families.family import value
from gatenorm.models.forward import on_entering
from gatenorm.progress import Progress
from gatenorm.records.rankings import Bound, LayerBound

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.utils.hooks import RemovableHandle


def measure_bound(session: ScoringSession, calibration: Calibration, progress: Progress | None = None) -> Bound:
    """Take both sides of the inequality on a calibration's tokens, one pass; ``R`` is the longest input that was seen.

    Samples are cut at the model's attention window, so that the window never hides part of a prefix.

    Raises:
        CriterionError: biases that depend on the distance are added to the logits (ALiBi), or a rotation that scales.
        CalibrationError: as ``ScoringSession.samples``.
    """
    layout = session.layout
    check_bound(session)
    calibration = _within_window(layout, calibration)
    module, samples = session.module, session.samples(calibration)
    seen = _Maxima(layout)
    observe(module, layout, samples, seen, progress)
    return Bound(layers=tuple(one.bound() for one in seen.layers), protocol=samples.protocol)


class _Maxima(Observer):
    """What is seen of every layer."""

    def __init__(self, layout: Layout):
        self.layers = [_Seen(layout, layer) for layer in layout.attention_layers]

    def hooks(self, blocks: Sequence[nn.Module]) -> Iterator[RemovableHandle]:
        for one in self.layers:
            yield from one.hooks(blocks[one.weights.layer])

    def see(self, counts: torch.Tensor) -> None:
        for one in self.layers:
            one.counts = counts


class _Seen:
    """The maxima of one layer while tokens run through: input length, value lengths, distance from the running mean."""

    counts: torch.Tensor
    _v: torch.Tensor

    def __init__(self, layout: Layout, layer: int):
        import torch

        self.layout, self.weights = layout, attention_weights(layout, layer)
        heads = layout.heads
        self.radius, self.deviation, self.values = 0.0, torch.zeros(heads), torch.zeros(heads)
        w, bias = torch.from_numpy(self.weights.v.float32()), self.weights.bias("v")
        self._wv = w, None if bias is None else torch.from_numpy(bias)

    def hooks(self, block: nn.Module) -> Iterator[RemovableHandle]:
        roles = self.layout.roles
        yield on_entering(block.get_submodule(roles.qkv or str(roles.q)), self._entering)
        yield on_entering(block.get_submodule(roles.o), self._mixed)

    def _entering(self, entering: torch.Tensor) -> None:
        import torch

        x = entering.float()
        w, bias = self._wv
        v = torch.nn.functional.linear(x, w.to(x.device), None if bias is None else bias.to(x.device))
        lay = self.layout
        self._v = v.view(*x.shape[:2], lay.kv_heads, lay.head_dim).repeat_interleave(lay.heads // lay.kv_heads, 2)
        self.radius = max(self.radius, float(x.norm(dim=-1)[self.counts.to(x.device)].max()))

    def _mixed(self, mixed: torch.Tensor) -> None:
        import torch

        v = self._v  # [batch, tokens, heads, head_dim]
        prefix = torch.arange(1, v.shape[1] + 1, device=v.device).view(1, -1, 1, 1)
        distance = (mixed.float().view(v.shape) - v.cumsum(1) / prefix).norm(dim=-1)
        counts = self.counts.to(v.device)
        self.deviation = torch.maximum(self.deviation, distance[counts].amax(0).cpu())
        self.values = torch.maximum(self.values, v.norm(dim=-1)[counts].amax(0).cpu())

    def bound(self) -> LayerBound:
        logits = _logit_bound(self.layout, self.weights, self.radius)
        with np.errstate(over="ignore"):
            factor = np.minimum(np.expm1(2 * logits), 2.0)
        limit = factor * self.values.double().numpy()
        return LayerBound(
            layer=self.weights.layer,
            deviation=tuple(self.deviation.tolist()),
            limit=tuple(limit.tolist()),
            logits=tuple(logits.tolist()),
        )


def _logit_bound(layout: Layout, weights: Any, radius: float) -> Float64:
    """``B`` of every query head, ``[heads]``."""
    if weights.normed:
        bound = gate_norm_scaled(weights, backend("numpy"))
    else:
        q, k = (_spectral(weights, role) for role in ("q", "k"))
        biased = any(weights.bias(role) is not None for role in ("q", "k"))
        bound = (
            layout.logit_scale(weights.layer) * (radius**2 + biased) * q * np.repeat(k, layout.heads // layout.kv_heads)
        )
    return np.minimum(bound, layout.softcap) if layout.softcap is not None else bound


def _spectral(weights: Any, role: str) -> Float64:
    """``|[W[h], b[h]]|_2`` of every head of a projection, from the largest eigenvalue of its Gram matrix."""
    projection, bias = getattr(weights, role), weights.bias(role)
    norms = []
    for head in range(projection.heads):
        w = projection.head(head).astype(np.float64)
        if bias is not None:
            w = np.concatenate([w, bias[head * len(w) : (head + 1) * len(w), None]], axis=1)
        norms.append(math.sqrt(max(0.0, float(np.linalg.eigvalsh(w @ w.T)[-1]))))
    return np.array(norms)


def check_bound(session: ScoringSession) -> None:
    """Refuse a model that the inequality does not speak of, before anything is run."""
    layout = session.layout
    if session.layer_by_layer:
        hint = f"leave out {named('layer_by_layer')}"
        raise CriterionError("whole-model-needed", "needs the whole model in memory", field="bound", hint=hint)
    if value(layout.config, layout.data, "alibi"):
        problem = "does not hold for this model: ALiBi adds to the logits whatever their norms are"
        raise CriterionError("bound-alibi", problem, field="bound")
    if layout.data.no_bound:
        problem = f"does not hold for this model: {layout.data.no_bound}"
        raise CriterionError("bound-other-attention", problem, field="bound")
    if layout.rotary is not None:
        layout.rotary.frequencies()  # refuses rotations that it does not know, some of which scale
        if layout.rotary.kind == "yarn":
            raise CriterionError("bound-scaled", "does not hold for this model: YaRN scales its logits", field="bound")


def _within_window(layout: Layout, calibration: Calibration) -> Calibration:
    window = layout.window
    return replace(calibration, length=max(2, min(calibration.length, window))) if window else calibration

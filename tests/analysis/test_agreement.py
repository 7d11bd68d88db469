"""Rank correlations against known values and brute force; overlaps; warnings with their evidence."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
from hypothesis import given, strategies as st

from gatenorm.analysis.agreement import agree, kendall, label, ranks, spearman, spearman_ends
from gatenorm.analysis.diagnostics import curve_signatures, few_shared, gate_norms_do_not_fall
from gatenorm.errors import CriterionError
from gatenorm.records import Diagnostic, LayerScore, ModelIdentity, Scores, from_json, to_json
from gatenorm.records.calibration import CalibrationRun
from gatenorm.records.evidence import Cliff, FewLayersShared, GateNormsDoNotFall, HighPerplexity, SharedLayers
from tests.calibrations import calibration
from tests.errors import refused

IDENTITY = ModelIdentity("model", "llama", 10, "0", {})
PAIRS = st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=2, max_size=12)


def scores(values: list[float], criterion: str = "gate-norm", tokens: CalibrationRun | None = None) -> Scores:
    layers = tuple(LayerScore(layer, value) for layer, value in enumerate(values))
    return Scores(IDENTITY, criterion, layers, 0.0, 0, calibration=tokens)


def test_a_correlation_has_the_interval_of_bonett_and_wright():
    """tanh(atanh(0.5) +- 1.96 sqrt(1.125 / 27)), by hand."""
    assert spearman_ends(0.5, 30) == pytest.approx((0.1481, 0.7395), abs=1e-4)
    assert spearman_ends(-0.5, 30) == pytest.approx((-0.7395, -0.1481), abs=1e-4)
    assert spearman_ends(0.5, 3) is spearman_ends(1.0, 30) is None


@given(PAIRS)
def test_spearman_is_pearson_of_the_ranks(pairs: list[tuple[int, int]]):
    a, b = [p[0] for p in pairs], [p[1] for p in pairs]
    x, y = ranks(a), ranks(b)
    n = len(x)
    mx, my = sum(x) / n, sum(y) / n
    below = math.sqrt(sum((p - mx) ** 2 for p in x) * sum((q - my) ** 2 for q in y))
    if below == 0:
        assert spearman(a, b) is None
    else:
        above = sum((p - mx) * (q - my) for p, q in zip(x, y, strict=True))
        assert spearman(a, b) == pytest.approx(above / below)


@given(PAIRS)
def test_kendall_is_symmetric_bounded_and_signed(pairs: list[tuple[int, int]]):
    a, b = [p[0] for p in pairs], [p[1] for p in pairs]
    found = kendall(a, b)
    if found is None:
        assert len(set(a)) == 1 or len(set(b)) == 1
        return
    assert -1 - 1e-12 <= found <= 1 + 1e-12
    assert kendall(b, a) == pytest.approx(found)
    assert kendall([-x for x in a], b) == pytest.approx(-found)


def test_known_values():
    # Kendall (1938) counts inversions; without ties Spearman's is 1 - 6 sum d^2 / (n (n^2 - 1)).
    assert ranks([3, 1, 3, 2]) == [2.5, 0, 2.5, 1]
    for order in permutations(range(4)):
        inversions = sum(order[i] > order[j] for i in range(4) for j in range(i + 1, 4))
        assert kendall(range(4), order) == pytest.approx(1 - inversions / 3)
        squares = sum((i - order[i]) ** 2 for i in range(4))
        assert spearman(range(4), order) == pytest.approx(1 - 6 * squares / 60)
    # Ties: of ten pairs one is tied on the left, another on the right, and the eight others are in order.
    assert kendall([1, 2, 3, 4, 4], [1, 2, 2, 4, 3]) == pytest.approx(8 / 9)
    assert spearman([1, 1, 2], [1, 2, 3]) == pytest.approx(0.8660254)
    assert kendall([1, 1, 2], [1, 2, 3]) == pytest.approx(2 / math.sqrt(6))
    assert spearman([1, 1], [1, 2]) is None


def test_overlaps_count_the_layers_that_both_remove():
    falling, rising = scores([float(10 - n) for n in range(10)]), scores([float(n) for n in range(10)], "depth")
    pair = agree(falling, rising)
    assert (pair.spearman, pair.kendall) == (pytest.approx(-1), pytest.approx(-1))
    assert [o.count for o in pair.overlaps] == [1, 2, 4, 5]
    assert all(o.shared == () for o in pair.overlaps)
    assert [o.chance for o in pair.overlaps] == [0.1, 0.4, 1.6, 2.5]
    assert agree(falling, falling).overlaps[1].shared == (8, 9)
    with refused("layers-differ", kind=CriterionError):
        agree(falling, scores([1.0, 2.0]))


def test_labels_say_which_tokens():
    assert label(scores([1.0], "cosine", calibration("/a/b/heldout.txt"))) == "cosine@heldout.txt"
    assert label(scores([1.0], "cosine", calibration("self"))) == "cosine@self"
    assert label(scores([1.0])) == "gate-norm"


def test_few_shared_layers_are_a_warning_with_its_evidence():
    early, late = scores([float(n) for n in range(10)]), scores([float(-n) for n in range(10)], "cosine")
    found = few_shared(early, late, 4)
    assert found is not None
    assert found.kind == "few-layers-shared"
    assert isinstance(found.evidence, FewLayersShared)
    assert found.evidence.chosen == (0, 1, 2, 3)
    assert found.evidence.checks == (SharedLayers(check="cosine", chosen=(6, 7, 8, 9), shared=()),)
    assert from_json(Diagnostic, to_json(found), "a warning") == found
    assert few_shared(early, early, 4) is None
    # Exactly half is not fewer than half; a protected layer is nobody's choice.
    assert few_shared(early, scores([0.0, 1, 9, 9, 2, 3, 9, 9, 9, 9], "cosine"), 4) is None
    assert few_shared(early, late, 8, protect=[8, 9]) is None


def test_gate_norms_that_rise_are_a_warning():
    rising = gate_norms_do_not_fall(scores([float(n) for n in range(1, 11)]))
    assert rising is not None
    assert isinstance(rising.evidence, GateNormsDoNotFall)
    assert rising.evidence.mean_of_last_third == 9
    assert rising.evidence.spearman_with_depth == pytest.approx(1)
    assert gate_norms_do_not_fall(scores([float(-n) for n in range(10)])) is None
    assert gate_norms_do_not_fall(scores([float(n) for n in range(10)], "ov-norm")) is None
    assert gate_norms_do_not_fall(scores([1.0, 2.0, 3.0])) is None


def test_curves_warn_of_height_jumps_and_cliffs():
    calm = {0: 10.0, 1: 10.2, 2: 10.4, 3: 10.7, 4: 11.0}
    assert curve_signatures("gate-norm", calm) == []
    wild = calm | {5: 20.0, 6: 150.0}
    found = {s.kind: s for s in curve_signatures("gate-norm", wild)}
    cliff, high, jump = (found[kind].evidence for kind in ("cliff", "perplexity-above-100", "perplexity-jump"))
    assert isinstance(cliff, Cliff)
    assert (cliff.removed_before, cliff.removed_after) == (4, 5)
    assert isinstance(high, HighPerplexity)
    assert high.removed == 6
    assert isinstance(jump, HighPerplexity)
    assert jump.limit == 100
    assert "unpruned 10" in found["perplexity-jump"].message
    foreign = {0: 5500.0, 1: 5600.0}  # a text that is foreign to the model
    assert curve_signatures("gate-norm", foreign) == []

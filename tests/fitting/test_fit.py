"""Fitted operations: against naive least squares, in every block shape, on disk as live, never worse than removal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec import structs

import gatenorm
from gatenorm.api.fitting import unfitted
from gatenorm.calibration.passes import observe
from gatenorm.calibration.samples import Calibration, Samples
from gatenorm.families import Layout
from gatenorm.fitting import fit as fitting, trial
from gatenorm.fitting.moments import MomentObserver, Moments
from gatenorm.fitting.solve import Problem, solve
from gatenorm.models.forward import blocks_of
from gatenorm.records import Edits, to_json
from gatenorm.records.fit import Divergence
from tests.analysis.models import SHAPES, layout_of, model_on, naive_streams, samples
from tests.errors import refused
from tests.tiny_models import CASES, VOCABULARY, build

TinyModels = Callable[..., Path]
EDITS = Edits.of("attention", (1, 3), "linear")


def moments(module: Any, layout: Layout, given: Samples, edits: Edits = EDITS) -> Any:
    observer = MomentObserver(layout, edits)
    observe(module, layout, given, observer)
    return observer.moments()


def kept(module: Any, layout: Layout, given: Samples, layer: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and updates of every token, each sequence run alone: ``[tokens, width]`` in float64."""
    norm = layout.norms.input
    block = blocks_of(module, layout)[layer]
    streams = naive_streams(module, layout, given.sequences)[layer]
    entered = torch.cat([one["entered"] for one in streams])
    with torch.no_grad():
        x = block.get_submodule(norm)(entered.float()) if norm else entered
    u = torch.cat([one["with"] - one["without"] for one in streams])
    factor = layout.branch_factor("attention")  # which the block puts on what is fitted
    return x.double().numpy(), u.double().numpy() / factor


def read_and_put_out(module: Any, layout: Layout, given: Samples, layer: int) -> tuple[np.ndarray, np.ndarray]:
    """The same, seen at the attention itself: where a norm stands on the stream, the streams do not tell it."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def keep(attention: Any, arguments: Any, options: dict[str, Any], output: Any) -> None:
        seen.append((options["hidden_states"][0].double(), output[0][0].double()))

    attention = blocks_of(module, layout)[layer].get_submodule(layout.block.attention[0])
    with attention.register_forward_hook(keep, with_kwargs=True), torch.no_grad():
        for sequence in given.sequences:
            module(input_ids=torch.tensor([sequence]), use_cache=False)
    return torch.cat([x for x, _ in seen]).numpy(), torch.cat([u for _, u in seen]).numpy()


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("ridge", [1e-4, 0.1])
def test_a_map_is_that_of_naive_least_squares(name: str, ridge: float, tiny_models: TinyModels):
    layout, module = layout_of(tiny_models(name)), build(name)
    given = samples((40, 7, 33, 2, 48))
    found = moments(module, layout, given)
    for edit in EDITS:
        x, u = (read_and_put_out if name == "opt-post-norm" else kept)(module, layout, given, edit.layer)
        m = found[edit]
        assert m.count == given.tokens == len(x)
        # Ridge regression as least squares of more rows.
        rows = np.sqrt(ridge * (x * x).sum() / x.shape[1]) * np.eye(x.shape[1])
        naive = np.linalg.lstsq(np.vstack([x, rows]), np.vstack([u, np.zeros_like(rows)]), rcond=None)[0].T
        np.testing.assert_allclose(solve(m, ridge), naive, rtol=1e-3, atol=2e-4 * np.abs(naive).max())
        np.testing.assert_allclose(m.u / m.count, u.mean(0), rtol=1e-4, atol=1e-6 * np.abs(u).max())
        left = np.square(u - x @ naive.T).sum() / np.square(u).sum()
        assert m.unexplained(naive) == pytest.approx(left, rel=1e-3, abs=1e-5)
        assert m.unexplained_by(u.mean(0)) == pytest.approx(
            np.square(u - u.mean(0)).sum() / np.square(u).sum(), rel=1e-3
        )


def test_a_map_of_stated_rank_is_the_best_of_its_rank():
    draw = np.random.default_rng(0)
    x, u = draw.normal(size=(200, 12)) * np.arange(1, 13), draw.normal(size=(200, 12))
    m = Moments(200, x.sum(0), u.sum(0), x.T @ x, u.T @ x, float((u * u).sum()))
    problem = Problem([m], [m])
    full = problem.linear()
    for rank in (1, 5, 11):
        up, down = problem.low_rank(rank)
        assert (up.shape, down.shape) == ((12, rank), (rank, 12))
        found = np.square(x @ (full - up @ down).T).sum()
        # Of all products of that rank, the singular values of what the map makes of the inputs say the least error.
        assert found == pytest.approx(np.square(np.linalg.svd(x @ full.T)[1][rank:]).sum())


@pytest.mark.parametrize("name", CASES)
def test_what_attention_does_to_single_tokens_is_a_linear_map(name: str, tiny_models: TinyModels):
    """Alone, a token attends to itself: without biases and an output norm its update is ``Wo Wv x``, which a fit finds.

    The whole model then computes what it did, in every block shape.
    """
    layout, module = layout_of(tiny_models(name)), build(name)
    tokens = tuple((token,) for token in range(VOCABULARY))
    edits = Edits.of("attention", layout.attention_layers[1:4:2], "linear")
    found = moments(module, layout, Samples(tokens, 64), edits)
    exact = all(m.unexplained(solve(m, 1e-12)) < 1e-6 for m in found.values())
    attention = "." + layout.block.attention[0] + "."
    biased = any(attention in key and key.endswith(".bias") for key in module.state_dict())
    assert exact or biased or layout.norms.output or layout.roles.q_gate or layout.latent_rank
    if exact:
        weights = {edit: {"matrix": solve(found[edit], 1e-12).astype(np.float32)} for edit in edits}
        ids = torch.arange(VOCABULARY)[:, None]
        with torch.no_grad():
            whole = module(input_ids=ids).logits
            with model_on(layout, module).edited(edits, weights) as edited:
                torch.testing.assert_close(
                    edited.module(input_ids=ids, use_cache=False).logits, whole, atol=2e-3, rtol=1e-2
                )


@pytest.mark.parametrize("name", CASES)
def test_what_is_written_computes_what_was_judged(name: str, tiny_models: TinyModels, tmp_path: Path):
    source = tiny_models(name)
    session = gatenorm.session(source, dtype="float32")
    first, second, third, *_ = session.layout.attention_layers
    plan = gatenorm.plan(source, drop=[first], replace="linear:4")
    for layer, operation in ((second, "constant"), (third, "linear")):
        plan = structs.replace(plan, edits=plan.edits | gatenorm.plan(source, drop=[layer], replace=operation).edits)
    fitted = gatenorm.fit(session, plan, [Calibration("random", 24, 16)], judges=[])
    gatenorm.prune(source, tmp_path / "out", fitted)
    live = session.model.edited_copy(fitted.plan.edits, fitted.weights)
    written = gatenorm.load(tmp_path / "out", dtype=torch.float32)
    ids = torch.randint(4, VOCABULARY, (2, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = live.module(input_ids=ids).logits
        torch.testing.assert_close(written(input_ids=ids).logits, expected, atol=1e-5, rtol=1e-4)
    assert gatenorm.open_model(tmp_path / "out").edits == fitted.plan.edits
    by_layer = {one.layer: one for one in fitted.plan.fit.edits}
    for edit in fitted.plan.edits:
        assert edit.operation == (by_layer[edit.layer].operation if by_layer[edit.layer].kept else "remove")


def test_what_does_more_damage_than_removal_is_shrunk_and_then_removed(
    tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch
):
    session = gatenorm.session(tiny_models("llama-gqa"), dtype="float32")
    plan = gatenorm.plan(session.layout, drop=[0, 2], replace="linear")
    harmful = 2
    true = trial.weights_of

    def weights(edit: Any, problem: Problem) -> Any:
        return {"matrix": true(edit, problem)["matrix"] * (-300 if edit.layer == harmful else 1)}

    monkeypatch.setattr(trial, "weights_of", weights)
    monkeypatch.setattr(fitting, "weights_of", weights)
    fitted = gatenorm.fit(session, plan, [Calibration("random", 24, 16), Calibration("self", 24, 16)])
    kept = {edit.layer: edit.operation for edit in fitted.plan.edits}
    assert kept[harmful] == "remove"
    record = {one.layer: one for one in fitted.plan.fit.edits}
    assert not record[harmful].kept
    assert record[harmful].scale == 0
    assert [one.source for one in record[harmful].divergences] == ["random", "self"]
    if kept[0] == "linear":
        assert all(one.better for one in record[0].divergences)
        assert all(one.better for one in fitted.plan.fit.divergences)
        assert set(fitted.weights) == {edit for edit in fitted.plan.edits if edit.operation == "linear"}
    else:
        assert not fitted.weights


def figures_of(monkeypatch: pytest.MonkeyPatch, replaced: Callable[[tuple[int, ...], int], float]) -> list[int]:
    """Removal moves predictions by 1 for each edit, and what was fitted by what is said of the first token of the
    sequences and of the number of edits; gives the number of sets that were measured, call by call.
    """
    counts: list[int] = []

    class Figures:
        def __init__(self, _: Any, given: Samples, **__: Any):
            self.given = given

        def __call__(self, sets: Any) -> list[float]:
            counts.append(len(sets))
            return [
                replaced(self.given.sequences[0], len(one)) if any(e.operation != "remove" for e in one) else len(one)
                for one in sets
            ]

    monkeypatch.setattr(trial, "SharedPrefix", Figures)
    return counts


def test_what_harms_on_tokens_of_another_source_is_removed(tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch):
    """However well it does on held-out tokens of its own."""
    session = gatenorm.session(tiny_models("llama-gqa"), dtype="float32")
    plan = gatenorm.plan(session, drop=[0, 2], replace="linear")
    tokens, judge = [Calibration("random", 24, 16)], Calibration("self", 3, 16)
    foreign = session.samples(judge).sequences[0]
    figures_of(monkeypatch, lambda first, _: 2.5 if first == foreign else 0.1)
    assert not any(one.kept for one in gatenorm.fit(session, plan, tokens, judges=[judge]).plan.fit.edits)
    fitted = gatenorm.fit(session, plan, tokens, judges=[])
    assert all(one.kept for one in fitted.plan.fit.edits)
    assert [(one.name, one.tokens, one.held_out) for one in fitted.plan.fit.sources] == [("random", 21 * 16, 48)]


def test_what_harms_only_together_is_shrunk_together(tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch):
    session = gatenorm.session(tiny_models("llama-gqa"), dtype="float32")
    plan = gatenorm.plan(session, drop=[0, 2], replace="linear")
    together = iter((2.1, 1.9))  # removal of both: 2
    figures_of(monkeypatch, lambda _, edits: 0.5 if edits == 1 else next(together))
    fitted = gatenorm.fit(session, plan, [Calibration("random", 24, 16)], judges=[])
    assert [(one.kept, one.scale) for one in fitted.plan.fit.edits] == [(True, 0.5)] * 2
    figures_of(monkeypatch, lambda _, edits: 0.5 if edits == 1 else 2.1)
    fitted = gatenorm.fit(session, plan, [Calibration("random", 24, 16)], judges=[])
    assert [(one.kept, one.scale) for one in fitted.plan.fit.edits] == [(False, 0.0)] * 2


def test_fits_are_judged_on_other_sources_by_default(tiny_models: TinyModels):
    session = gatenorm.session(tiny_models("llama-gqa"), dtype="float32")
    plan = gatenorm.plan(session, drop=[0, 2], replace="linear")
    record = gatenorm.fit(session, plan, [Calibration("random", 24, 16)]).plan.fit
    window = min(128, session.layout.context)
    assert [(one.name, one.tokens, one.held_out) for one in record.sources] == [
        ("random", 21 * 16, 3 * 16),
        ("self", 0, 8 * window),
    ]
    assert record.fitted_on == "336 tokens of random"
    assert record.judged_on == {"random": "random, held out", "self": "self, not fitted on"}
    assert [one.source for one in record.divergences] == ["random", "self"]


def test_one_session_makes_one_pass_for_all_operations(tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch):
    source, given = tiny_models("llama-gqa"), [Calibration("random", 24, 16)]
    passes: list[Edits] = []

    def counted(module: Any, layout: Layout, part: Samples, observer: MomentObserver, progress: Any = None) -> None:
        passes.append(observer._edits)
        observe(module, layout, part, observer, progress)

    monkeypatch.setattr(fitting, "observe", counted)
    session = gatenorm.session(source, dtype="float32")
    full = gatenorm.fit(session, gatenorm.plan(session, drop=[0, 2], replace="linear"), given)
    assert len(passes) == 2  # over what is fitted on, and what is held out
    wider = gatenorm.plan(session, drop=[0, 1, 2], replace="linear:4")
    low = gatenorm.fit(session, wider, given)
    assert [edits.layers for edits in passes[2:]] == [(1,), (1,)]  # only what is new
    alone = gatenorm.fit(gatenorm.session(source, dtype="float32"), wider, given)
    assert (low.plan.edits, low.plan.fit.divergences) == (alone.plan.edits, alone.plan.fit.divergences)
    assert full.plan.fit.edits[0].divergences[0].removed == low.plan.fit.edits[0].divergences[0].removed
    session.release()
    gatenorm.fit(session, wider, given)
    assert passes[-1].layers == (0, 1, 2)


def test_a_source_is_judged_by_maps_that_have_not_seen_it():
    draw = np.random.default_rng(1)

    def of(matrix: np.ndarray) -> Moments:
        x = draw.normal(size=(400, 6))
        u = x @ matrix.T
        return Moments(400, x.sum(0), u.sum(0), x.T @ x, u.T @ x, float((u * u).sum()))

    one, other = np.eye(6), -np.eye(6)
    alike, unlike = Problem([of(one), of(one)], [of(one), of(one)]), Problem([of(one), of(other)], [of(one), of(other)])
    assert alike.chosen[1] < 1e-3
    # What holds for one source is wrong for the other: the strongest ridge does the least harm.
    assert unlike.chosen[0] == 1.0
    assert unlike.chosen[1] > 1
    np.testing.assert_allclose(unlike.judged(0, 1.0).linear(), -np.eye(6) / 2, atol=0.05)
    np.testing.assert_allclose(alike.scaled(0.5).linear(), np.eye(6) / 2, atol=1e-3)


def test_bad_input_is_one_line(tiny_models: TinyModels):
    session = gatenorm.session(tiny_models("llama-gqa"), dtype="float32")
    layout = session.layout

    def fit(operation: str, *sources: Any) -> None:
        gatenorm.fit(session, gatenorm.plan(layout, drop=[1], replace=operation), sources)

    with refused("fit-tokens-too-few", "fit"):
        fit("linear", Calibration("random", 2, 16))
    with refused("fit-source-twice", "fit"):
        fit("linear", Calibration("random", 20, 16), Calibration("random", 30, 16))
    with refused("fit-source-missing", "fit"):
        fit("linear")
    with refused("no-tokenizer", "calibration") as error:
        fit("linear", "nofile.txt")
    assert str(error.value).startswith("fit nofile.txt")
    with refused("length-too-long", "length"):
        fit("linear", Calibration("random", 20, 1000))
    with refused("rank-out-of-range", "replace"):
        fit("linear:64", Calibration("random", 20, 16))
    with refused("rank-wrong", "replace"):
        fit("linear:0", Calibration("random", 20, 16))
    with refused("rank-wrong", "replace"):
        fit("linear:" + "9" * 5000, Calibration("random", 20, 16))
    with refused("rank-unused", "replace"):
        fit("constant:3", Calibration("random", 20, 16))
    with refused("operation-unknown", "replace"):
        fit("linaer", Calibration("random", 20, 16))
    session.module.model.layers[1].self_attn.o_proj.weight.data.fill_(float("nan"))
    with refused("moments-not-finite"):
        fit("linear", Calibration("random", 20, 16))


@pytest.mark.parametrize("operation", ["linear", "fold", "constant"])
def test_a_fit_layer_by_layer_is_that_of_the_whole_model(operation: str, tiny_models: TinyModels, tmp_path: Path):
    source, given = tiny_models("llama-gqa"), [Calibration("random", 48, 16, batch_size=5)]
    plan = gatenorm.plan(source, drop=[1, 3], replace=operation)
    apart = gatenorm.fit(gatenorm.session(source, dtype="float32", layer_by_layer=True), plan, given)
    whole = gatenorm.session(source, dtype="float32")
    observer_of = MomentObserver(whole.layout, plan.edits)
    train = fitting._split(whole.samples(given[0]))[0]
    observe(whole.module, whole.layout, train, observer_of)
    record = {one.layer: one for one in apart.plan.fit.edits}
    assert apart.plan.fit.divergences == ()
    for edit, m in observer_of.moments().items():
        one = record[edit.layer]
        assert one.kept == (one.unexplained < 1)
        expected = m.u / m.count if operation == "constant" else solve(m, one.ridge)
        if one.kept:
            (found,) = (w for e, w in apart.weights.items() if e.layer == edit.layer)
            (values,) = found.values()
            np.testing.assert_allclose(values, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    gatenorm.prune(source, tmp_path / "out", apart)
    assert "no predictions were compared" in (tmp_path / "out/README.md").read_text()


def test_memory_is_stated_beforehand(tiny_models: TinyModels):
    layout = layout_of(tiny_models("llama-gqa"))
    found = moments(build("llama-gqa"), layout, samples())
    kept = sum(m.xx.nbytes + m.ux.nbytes for m in found.values())
    assert MomentObserver.nbytes(layout, EDITS, sources=3) == 3 * 2 * kept  # fitted on, and held out


def test_memory_of_hidden_units_layer_by_layer_is_stated_beforehand(
    tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch
):
    """A fold's inputs are those of the block before: the hidden units of all tokens wait for the next one."""
    session = gatenorm.session(tiny_models("llama-gqa"), dtype="float32", layer_by_layer=True)
    layout, given = session.layout, samples((16,) * 40)
    folds = Edits.of("attention", (1, 2), "fold")
    observer, most = MomentObserver(layout, folds), 0
    add = observer._add

    def watched(edit: Any) -> None:
        nonlocal most
        add(edit)
        most = max(most, sum(x.numel() * x.element_size() for waiting in observer._inputs.values() for x in waiting))

    monkeypatch.setattr(observer, "_add", watched)
    session.observe(given, observer)
    assert MomentObserver.waiting(layout, folds, given.tokens, 4) == most > 0
    assert MomentObserver.waiting(layout, EDITS, given.tokens, 4) == 0
    parallel = layout_of(tiny_models("falcon-7b"))  # whose blocks carry their own
    assert MomentObserver.waiting(parallel, folds, given.tokens, 4) == 0


def test_a_plan_file_is_fitted_again(tiny_models: TinyModels, tmp_path: Path):
    """A plan names its operations and does not hold their tensors."""
    source = tiny_models("llama-gqa")
    plan = gatenorm.plan(source, drop=[1], replace="linear")
    (tmp_path / "plan.json").write_text(json.dumps(to_json(plan)))
    again = gatenorm.plan(source, file=tmp_path / "plan.json")
    assert again.edits == plan.edits
    fitted = gatenorm.fit(source, again, [Calibration("random", 24, 16)])
    (tmp_path / "fitted.json").write_text(json.dumps(to_json(fitted.plan)))
    once_more = gatenorm.plan(source, file=tmp_path / "fitted.json")
    assert unfitted(once_more).layers == tuple(e.layer for e in fitted.plan.edits if e.operation != "remove")


def test_better_is_less_divergence():
    assert Divergence(source="self", removed=0.2, replaced=0.1).better
    assert not Divergence(source="self", removed=0.2, replaced=0.2).better

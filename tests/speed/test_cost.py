"""The cost model: hand-made numbers, its limits, and the machines that come with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest
import torch
from msgspec import structs

from gatenorm.api import open_model
from gatenorm.errors import EvaluationError
from gatenorm.models.architecture import Architecture, HeadCounts, Work
from gatenorm.models.weight_count import WeightCount
from gatenorm.records import Edits, to_json
from gatenorm.speed.predict import machines as measuring
from gatenorm.speed.predict.cost_model import Times, forecast, forecasts, predict
from gatenorm.speed.predict.machines import THIS, Machine, machine, machines, with_overheads
from tests.errors import refused

TinyModels = Callable[..., Path]


def made(layers: int = 4, kv_heads: int = 2) -> Architecture:
    """Width 8, two query heads of 4; MLP of one matrix 8 x 8; float32."""
    attention = WeightCount(parameters=256, matrix=256, ends=64, matrices=4)
    return Architecture(
        width=8,
        heads=dict.fromkeys(range(layers), HeadCounts(2, kv_heads, 4, 4, 8 * kv_heads)),
        rotary=0,
        itemsize=4.0,
        attention=dict.fromkeys(range(layers), attention),
        windows=dict.fromkeys(range(layers)),
        forgets=False,
        mlp=(WeightCount(64, 64, 16, 1),) * layers,
        outer=WeightCount(),
        around=WeightCount(),
        head=WeightCount(80, 80, 18, 1),
    )


def made_machine(bandwidth: float, rate: float) -> Machine:
    return Machine(name="made", summary="made", bandwidth=bandwidth, rates={"float32": rate}, source="made")


def test_where_only_arithmetic_costs_time_is_flops_over_rate():
    times = predict(made(), made_machine(1e30, 10.0), Work.prefill(3, batch=2))
    # 2 x 256 x 6 in products; 4 x heads x head_dim x (1 + 2 + 3) pairs x 2 sequences
    assert times.attention[0] == pytest.approx((2 * 256 * 6 + 4 * 2 * 4 * 6 * 2) / 10)
    assert times.mlp[0] == pytest.approx(2 * 64 * 6 / 10)
    assert times.outer == pytest.approx(2 * 80 * 2 / 10)  # logits of the last position only


def test_where_only_bytes_cost_time_is_bytes_over_bandwidth():
    times = predict(made(kv_heads=1), made_machine(2.0, 1e30), Work.decode(9, batch=3))
    products = 256 + 64 * 3
    scores = 2 * 1 * 4 * 3 * (10 + 1) + 2 * 2 * 4 * 3  # keys and values of ten tokens, one of them written too
    rest = 5 * 8 * 3  # norm in and out, residual add
    assert times.attention[0] == pytest.approx(4 * (products + scores + rest) / 2)
    assert times.mlp[0] == pytest.approx(4 * (64 + 16 * 3 + (5 * 8 + 16 - 8) * 3) / 2)
    copied = predict(made(kv_heads=1), made_machine(2.0, 1e30), Work.decode(9, batch=3), cache_passes=3)
    assert copied.attention[0] - times.attention[0] == pytest.approx(4 * 2 * (2 * 1 * 4 * 3 * 10) / 2)


def test_overheads_are_added_to_each_sublayer():
    fast = made_machine(1e30, 1e30)
    times = predict(made(), structs.replace(fast, overheads={"attention": 3.0, "mlp": 1.0}), Work.decode(5))
    assert times.attention[0] == pytest.approx(3.0)
    assert times.mlp[0] == pytest.approx(1.0)
    assert times.speedup(2) == pytest.approx(16 / 10)


def test_overheads_are_measured_where_python_waits():
    this = with_overheads(machines()["h200"], "float32")
    assert this.overheads["mlp"] > 0
    assert this.overheads["attention"] > 0
    assert with_overheads(machines()["h200"], "float32", device="cuda").overheads == {}


def test_a_window_bounds_what_is_read():
    whole = made()
    windowed = replace(whole, windows=dict.fromkeys(range(4), 16))
    slow = made_machine(1.0, 1e30)
    near, far = (predict(whole, slow, Work.decode(n)).attention[0] for n in (15, 1000))
    assert predict(windowed, slow, Work.decode(15)).attention[0] == near
    assert predict(windowed, slow, Work.decode(1000)).attention[0] == near < far


def test_speedup_is_the_whole_over_what_is_left():
    times = Times({0: 1.0, 1: 3.0}, (2.0, 2.0), 2.0)
    assert times.total == 10
    assert times.speedup(1) == pytest.approx(10 / 8)
    assert times.speedup_with(Edits.of("attention", [1])) == pytest.approx(10 / 7)
    assert times.speedup(0) == times.speedup_with(Edits()) == 1
    # MLPs, and blocks of both.
    assert times.speedup(1, "mlp") == pytest.approx(10 / 8)
    assert times.speedup(1, "block") == pytest.approx(10 / 6)
    assert times.speedup_with(Edits.of("attention", (0,)) | Edits.of("mlp", (0, 1))) == pytest.approx(10 / 5)
    # A block that is none any more counts among no blocks, its MLP among no MLPs.
    less = Times({0: 1.0, 1: 3.0}, (0.0, 2.0), 2.0, without_mlp=(0,))
    assert less.of("mlp") == {1: 2.0}
    assert less.of("block") == {1: 5.0}


def test_what_is_gone_costs_nothing():
    times = predict(replace(made(), without_mlp=(1,)), made_machine(2.0, 10.0), Work.prefill(3))
    whole = predict(made(), made_machine(2.0, 10.0), Work.prefill(3))
    assert times.mlp == (whole.mlp[0], 0.0, *whole.mlp[2:])
    assert whole.total / times.total == pytest.approx(whole.speedup(1, "mlp"))


def test_forecasts_of_mlps_and_blocks_leave_one_of_each():
    counted = replace(made(), without_mlp=(3,))
    numbers = {
        kind: forecasts(counted, machines()["h100-sxm"], 64, kind=kind) for kind in ("attention", "mlp", "block")
    }
    assert {kind: len(found) for kind, found in numbers.items()} == {"attention": 3, "mlp": 2, "block": 2}
    assert [f.of for found in numbers.values() for f in found[:1]] == [4, 3, 3]
    assert {f.cache for f in numbers["mlp"]} == {0.0}
    assert [f.cache for f in numbers["block"]] == [0.25, 0.5]
    assert numbers["block"][0].prefill > max(numbers[kind][0].prefill for kind in ("attention", "mlp"))
    assert to_json(numbers["mlp"][0])["kind"] == "mlp"
    assert "kind" not in to_json(numbers["attention"][0])


def test_forecasts_rise_with_what_is_removed_and_with_the_context(tiny_models: TinyModels):
    counted = Architecture.of(open_model(tiny_models("llama-mha")))
    found = forecasts(counted, machines()["h100-sxm"], 64, batch=2)
    assert [f.count for f in found] == [1, 2, 3, 4]
    for figure in ("prefill", "decode", "cache"):
        values = [getattr(f, figure) for f in found]
        assert values == sorted(set(values))
    assert all(f.cache_bytes == counted.cache_bytes(64, 2) * (1 - f.count / 5) for f in found)
    near, far = (forecast(counted, machines()["h100-sxm"], 2, n) for n in (64, 4096))
    assert far.prefill > near.prefill
    assert far.decode > near.decode


def test_a_long_prompt_of_a_large_model_is_attention_for_the_most_part():
    """The paper's motive, at LLaMA-7B's shape: attention catches up with the MLP as prompts grow."""
    attention = WeightCount(4 * 4096**2, 4 * 4096**2, 8 * 4096, 4)
    mlp = WeightCount(3 * 4096 * 11008, 3 * 4096 * 11008, 3 * (4096 + 11008), 3)
    llama = Architecture(
        width=4096,
        heads=dict.fromkeys(range(32), HeadCounts(32, 32, 128, 128, 2 * 32 * 128)),
        rotary=128,
        itemsize=2.0,
        attention=dict.fromkeys(range(32), attention),
        windows=dict.fromkeys(range(32)),
        forgets=False,
        mlp=(mlp,) * 32,
        outer=WeightCount(),
        around=WeightCount(),
        head=WeightCount(32000 * 4096, 32000 * 4096, 36096, 1),
    )
    ratios = []
    for tokens in (512, 3000, 7000, 32768):
        times = predict(llama, machines()["rtx-a6000"], Work.prefill(tokens))
        ratios.append(times.attention[0] / times.mlp[0])
    assert ratios == sorted(ratios)
    assert ratios[0] < 1 < ratios[-1]


def test_what_is_no_whole_model_is_not_predicted():
    model = replace(made(), mlp=(WeightCount(),) * 4)
    with refused("model-incomplete", kind=EvaluationError):
        forecast(model, machines()["h200"], 1, 128)


def test_the_packaged_machines_are_whole_and_plausible():
    entries = json.loads(resources.files("gatenorm.speed.predict").joinpath("machines.json").read_text())
    assert len(entries) == len(machines()) >= 5
    for known in machines().values():
        assert 1e11 < known.bandwidth < 1e14
        # Half types are at least as fast as float32, and every machine can do more than one FLOP a byte.
        assert known.rate("bfloat16") >= known.rate("float32") > known.bandwidth
        assert known.attention_rate("bfloat16") == known.rate("bfloat16")
        assert known.source
        assert known.rate("float8") == min(known.rates.values())


def test_an_unknown_machine_is_named_with_those_there_are():
    with refused("machine-unknown", "machine") as unknown:
        machine("h100sxm")
    assert unknown.value.hint.startswith("did you mean 'h100-sxm'?")
    assert unknown.value.hint.endswith("this")


@pytest.mark.parametrize("dtype", ["bfloat16"])
def test_this_machine_is_measured(dtype: str):
    this = machine(THIS, dtype, threads=1)
    assert this.name == THIS
    assert this.bandwidth > 0
    assert this.rate(dtype) > 0
    assert this.attention_rate(dtype) > 0
    assert dtype in this.source


def test_threads_that_wait_for_one_another_do_not_decide(monkeypatch: pytest.MonkeyPatch):
    """As on a busy machine, where several threads take ten times as long as one."""
    monkeypatch.setattr(measuring, "_best", lambda *_: 1.0 if torch.get_num_threads() == 1 else 10.0)
    busy = measuring._by_torch("float32", "cpu", 2)
    assert busy.rate("float32") == 2 * 512**3
    assert busy.bandwidth == (256 << 20) / 10
    monkeypatch.setattr(measuring, "_best", lambda *_: 1.0)
    free = measuring._by_torch("float32", "cpu", 2)
    assert free.rate("float32") == 2 * 1024**3
    assert free.bandwidth == 256 << 20


def test_an_operation_costs_its_own_products_and_what_moves_through_it():
    """On grouped queries: 8 wide, two query heads and one key/value head of 4."""
    work = Work.prefill(3, batch=2)
    busy = predict(made(kv_heads=1), made_machine(1e30, 10.0), work)
    assert busy.operation("linear") == pytest.approx(2 * 8 * 8 * 6 / 10)
    assert busy.operation("linear:2") == pytest.approx(2 * 2 * 8 * 2 * 6 / 10)
    assert busy.operation("constant") == pytest.approx(0.0)
    assert busy.operation("remove") == 0.0
    moved = predict(made(kv_heads=1), made_machine(2.0, 1e30), work)
    rows = (2 * 8 + 5 * 8) * 6  # the product's own, the norm in and out, the residual add
    assert moved.operation("linear") == pytest.approx(4 * (8 * 8 + rows) / 2)
    assert moved.operation("constant") == pytest.approx(4 * 3 * 8 * 6 / 2)
    # The context does not matter to it, and each has its overhead.
    near, far = (predict(made(), made_machine(2.0, 10.0), Work.decode(n)) for n in (4, 4000))
    assert near.operation("linear") == far.operation("linear")
    slow = structs.replace(made_machine(1e30, 1e30), overheads={"operation": 0.5})
    assert predict(made(), slow, work).operation("linear") == pytest.approx(0.5)
    assert predict(made(), slow, work).operation("remove") == 0


def test_what_a_replacement_saves_is_attention_less_what_takes_its_place():
    times = Times({0: 1.0, 1: 3.0}, (2.0, 2.0), 2.0, operation=lambda name: {"remove": 0.0, "linear": 0.5}[name])
    [edit] = Edits.of("attention", [1], "linear")
    assert (times.saved(edit), times.left(edit)) == (2.5, pytest.approx(1 / 6))
    assert times.speedup_with(Edits([edit])) == pytest.approx(10 / 7.5)
    assert times.speedup(2, "attention", "linear") == pytest.approx(10 / 7)
    assert times.speedup(2, "attention", "remove") == pytest.approx(10 / 6)


def test_a_replaced_model_takes_the_time_that_was_foreseen(tiny_models: TinyModels):
    layout = open_model(tiny_models("llama-gqa"))
    where, work = machines()["h100-sxm"], Work.prefill(64, 2)
    edits = Edits.of("attention", (1, 3), "linear") | Edits.of("mlp", (1,))
    before, after = (predict(Architecture.of(layout, one), where, work) for one in (Edits(), edits))
    assert before.speedup_with(edits) == pytest.approx(before.total / after.total)
    assert after.replaced == pytest.approx(2 * before.operation("linear"))
    counted = Architecture.of(layout)
    removed, replaced = (forecast(counted, where, 2, 64, operation=name) for name in ("remove", "linear"))
    assert 1 < replaced.prefill < removed.prefill
    assert 1 < replaced.decode < removed.decode
    assert (replaced.cache, replaced.cache_bytes) == (removed.cache, removed.cache_bytes)
    assert to_json(replaced)["operation"] == "linear"
    assert "operation" not in to_json(removed)

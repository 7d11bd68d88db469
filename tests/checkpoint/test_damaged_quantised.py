"""Quantised weights whose parts are damaged, or contradict each other or the configuration: one line, nothing left."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from gatenorm.checkpoint import TensorSpec
from gatenorm.checkpoint.quantisation import Parts, methods
from gatenorm.checkpoint.quantised_weights import QuantisedWeight
from gatenorm.demo.package import MODEL
from gatenorm.errors import CheckpointError
from tests.checkpoint.quantisers import CASES, GROUP
from tests.checkpoint.test_quantised import small, tiny as tiny
from tests.command_line import answer, refused

PLACE = "model.layers.1.self_attn.q_proj"
Tensors = dict[str, torch.Tensor]
Damage = Callable[[Tensors, dict[str, Any]], object]


def part(ending: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Damage:
    """One stored tensor of one weight, changed."""

    def damage(tensors: Tensors, settings: dict[str, Any]) -> None:
        tensors[PLACE + ending] = change(tensors[PLACE + ending]).contiguous()

    return damage


def gone(ending: str) -> Damage:
    return lambda tensors, settings: tensors.pop(PLACE + ending)


def together(*damages: Damage) -> Damage:
    return lambda tensors, settings: [damage(tensors, settings) for damage in damages]


def settings(**changes: Any) -> Damage:
    return lambda tensors, settings: settings.update(changes)


def scheme(**changes: Any) -> Damage:
    return lambda tensors, settings: settings["config_groups"]["group_0"]["weights"].update(changes)


def half_rows(t: torch.Tensor) -> torch.Tensor:
    return t[: len(t) // 2]


def half_columns(t: torch.Tensor) -> torch.Tensor:
    return t[:, : t.shape[1] // 2]


def another_column(t: torch.Tensor) -> torch.Tensor:
    return torch.cat([t, t[:, :1]], 1)


def another_row(t: torch.Tensor) -> torch.Tensor:
    return torch.cat([t, t[:1]])


def nan(t: torch.Tensor) -> torch.Tensor:
    t = t.clone()
    t.reshape(-1)[0] = torch.nan
    return t


def first(value: int) -> Callable[[torch.Tensor], torch.Tensor]:
    def change(t: torch.Tensor) -> torch.Tensor:
        t = t.clone()
        t.reshape(-1)[0] = value
        return t

    return change


DAMAGED: dict[str, tuple[str, Damage]] = {
    "fp8, no scale": ("fp8-block", gone(".weight_scale_inv")),
    "fp8, NaN in a scale": ("fp8-block", part(".weight_scale_inv", nan)),
    "fp8, scales of no shape": ("fp8-block", part(".weight_scale_inv", lambda t: torch.ones(3, 5))),
    "fp8, scales of other blocks": ("fp8-block", part(".weight_scale_inv", lambda t: torch.ones(2, 2))),
    "fp8, scales that are integers": ("fp8-block", part(".weight_scale_inv", lambda t: t.int())),
    "fp8, a weight in float16": ("fp8-block", part(".weight", lambda t: t.half())),
    "fp8, another block size": ("fp8-block", settings(weight_block_size=[16, 16])),
    "fp8, a scale for half of the rows": ("fp8-row", part(".weight_scale", half_rows)),
    "gptq, no scales": ("gptq", gone(".scales")),
    "gptq, no zeros": ("gptq", gone(".qzeros")),
    "gptq, NaN in a scale": ("gptq", part(".scales", nan)),
    "gptq, infinity in a scale": ("gptq", part(".scales", lambda t: t / 0)),
    "gptq, scales of fewer groups": ("gptq-no-index", part(".scales", half_rows)),
    "gptq, scales of more groups": ("gptq-no-index", part(".scales", another_row)),
    "gptq, zeros of fewer groups": ("gptq", part(".qzeros", half_rows)),
    "gptq, zeros of more groups": ("gptq", part(".qzeros", another_row)),
    "gptq, codes cut short": ("gptq", part(".qweight", half_rows)),
    "gptq, codes of fewer outputs": ("gptq", part(".qweight", half_columns)),
    "gptq, codes that are floats": ("gptq", part(".qweight", lambda t: t.float())),
    "gptq, a group that is not there": ("gptq", part(".g_idx", first(99))),
    "gptq, a negative group": ("gptq", part(".g_idx", first(-1))),
    "gptq, groups of half of the inputs": ("gptq", part(".g_idx", half_rows)),
    "gptq, groups that are floats": ("gptq", part(".g_idx", lambda t: t.float())),
    "gptq, other bits": ("gptq", settings(bits=8)),
    "gptq, another group size": ("gptq-no-index", settings(group_size=16)),
    "gptq, called AWQ": ("gptq", settings(quant_method="awq")),
    "awq, no zeros": ("awq", gone(".qzeros")),
    "awq, scales of fewer groups": ("awq", part(".scales", half_rows)),
    "awq, groups that do not divide": ("awq", together(part(".scales", another_row), part(".qzeros", another_row))),
    "awq, codes cut short": ("awq", part(".qweight", half_rows)),
    "awq, another group size": ("awq", settings(group_size=64)),
    "awq, called GPTQ": ("awq", settings(quant_method="gptq")),
    "compressed int8, NaN in a scale": ("compressed-int8", part(".weight_scale", nan)),
    "compressed int8, half of the scales": ("compressed-int8", part(".weight_scale", half_rows)),
    "compressed int8, a weight in float16": ("compressed-int8", part(".weight", lambda t: t.half())),
    "compressed int8, zeros of half of the groups": (
        "compressed-int8-asymmetric", part(".weight_zero_point", half_columns)
    ),
    "compressed int4, groups that do not divide": ("compressed-int4", part(".weight_scale", another_column)),
    "compressed int4, words cut short": ("compressed-int4", part(".weight_packed", lambda t: t[:, :-1])),
    "compressed int4, a word too many": ("compressed-int4", part(".weight_packed", another_column)),
    "compressed int4, other bits": ("compressed-int4", scheme(num_bits=8)),
    "compressed int4, no shape": ("compressed-int4", gone(".weight_shape")),
    "compressed int4, another shape": ("compressed-int4", part(".weight_shape", lambda t: t * 2)),
    "compressed int4, groups of the wrong length": (
        "compressed-int4",
        lambda tensors, _: tensors.update({f"{PLACE}.weight_g_idx": torch.zeros(7, dtype=torch.int32)}),
    ),
    "compressed int4, a group that is not there": (
        "compressed-int4",
        lambda tensors, _: tensors.update({f"{PLACE}.weight_g_idx": torch.full((64,), 9, dtype=torch.int32)}),
    ),
    "nf4, fewer scales": ("bitsandbytes-nf4", part(".weight.absmax", half_rows)),
    "nf4, more scales": ("bitsandbytes-nf4", part(".weight.absmax", another_row)),
    "nf4, NaN in a scale": ("bitsandbytes-nf4", part(".weight.absmax", nan)),
    "nf4, codes cut short": ("bitsandbytes-nf4", part(".weight", half_rows)),
    "nf4, a table of other length": ("bitsandbytes-nf4", part(".weight.quant_map", lambda t: t.repeat(2))),
    "nf4, no state": ("bitsandbytes-nf4", gone(".weight.quant_state.bitsandbytes__nf4")),
    "nf4, a state that is none": (
        "bitsandbytes-nf4", part(".weight.quant_state.bitsandbytes__nf4", lambda t: torch.full_like(t, 7))
    ),
    "nested nf4, no outer scales": ("bitsandbytes-nf4-nested", gone(".weight.nested_quant_map")),
    "nested nf4, more outer scales": ("bitsandbytes-nf4-nested", part(".weight.nested_absmax", another_row)),
    "int8, fewer scales": ("bitsandbytes-8bit", part(".SCB", half_rows)),
    "int8, more scales": ("bitsandbytes-8bit", part(".SCB", another_row)),
    "int8, a weight in float16": ("bitsandbytes-8bit", part(".weight", lambda t: t.half())),
    "mlx, offsets of one group": ("mlx-4bit", part(".biases", lambda t: t[:, :1])),
    "mlx, scales of more rows": ("mlx-4bit", part(".scales", another_row)),
    "mlx, other bits": ("mlx-4bit", settings(bits=8)),
    "mlx, another group size": ("mlx-4bit", settings(group_size=64)),
    "mlx, other bits of one module": ("mlx-4bit", settings(**{PLACE: {"group_size": GROUP, "bits": 8}})),
    "mlx, another mode of one module": (
        "mlx-4bit", settings(**{PLACE: {"group_size": GROUP, "bits": 4, "mode": "mxfp4"}})
    ),
    "gptq, bits that are text": ("gptq", settings(bits="8")),
    "gptq, bits that are true": ("gptq", settings(bits=True)),
    "gptq, groups of half an input": ("gptq-no-index", settings(group_size=0.5)),
    "gptq, groups of less than nothing": ("gptq-no-index", settings(group_size=-32)),
    "awq, other bits": ("awq", settings(bits=8)),
    "awq, groups that are text": ("awq", settings(group_size="64")),
    "compressed int4, bits that are a list": ("compressed-int4", scheme(num_bits=[8])),
    "compressed int4, zeros that are not there": ("compressed-int4", scheme(symmetric=False)),
    "compressed int4, a rotation of activations": (
        "compressed-int4", settings(transform_config={"config_groups": {"R1": {"type": "hadamard"}}})
    ),
}  # fmt: skip


def damaged(name: str, sound: Path, place: Path) -> Path:
    case, damage = DAMAGED[name]
    model = small(case, sound, place)
    tensors = load_file(model / "model.safetensors")
    config = json.loads((model / "config.json").read_text())
    damage(tensors, config[CASES[case].key])
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    (model / "config.json").write_text(json.dumps(config))
    return model


@pytest.mark.parametrize("name", DAMAGED)
def test_whoever_decodes_them_is_told_so(name: str, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model = damaged(name, tiny, tmp_path)
    for command in (
        ["score", model, "--json", tmp_path / "made"],
        ["prune", model, "--layers", 1, "-o", tmp_path / "made"],
        ["convert", model, "-o", tmp_path / "made"],
    ):
        found = answer(capsys, *command)
        assert (found.status, found.out) == (2, ""), command
        assert found.err.startswith("error: "), found.err
        assert found.err.count("\n") == 1, found.err
        assert {path.name for path in tmp_path.iterdir()} == {"quantised", "whole"}


@pytest.mark.parametrize("key", ["compression_config", "quantization", "text_config"])
@pytest.mark.parametrize("other", [{"quant_method": "awq", "bits": 4}, {"group_size": 32, "bits": 4}, [1]])
def test_two_methods_in_one_configuration_are_none(
    key: str, other: Any, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Each loader looks at one of them."""
    model = small("gptq", tiny, tmp_path)
    config = json.loads((model / "config.json").read_text())
    config[key] = {"quantization_config": other} if key == "text_config" else other
    (model / "config.json").write_text(json.dumps(config))
    refused(capsys, "weights-quantised model", "score", model)


@pytest.mark.parametrize(
    "name", ["fp8, NaN in a scale", "fp8, another block size", "fp8, no scale", "gptq, other bits", "awq, no zeros"]
)
def test_they_are_not_run(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Scales of other blocks and codes of other bits may be run by loaders, as another model."""
    model = damaged(name, MODEL.checked_directory(), tmp_path)
    found = answer(capsys, "eval", model, "--limit", 1, "--no-cache", "--json", tmp_path / "made")
    assert (found.status, found.out) == (2, "")
    errors = [line for line in found.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, found.err
    assert "_proj" in errors[0]
    assert "Traceback" not in found.err
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("dtype", ["auto", "bfloat16", "float16"])
def test_sound_ones_are_run_in_the_type_that_was_asked_for(
    dtype: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """transformers decodes 8-bit floats to bfloat16 on a processor, beside whatever the rest is."""
    model = small("fp8-block", MODEL.checked_directory(), tmp_path)
    few = ("--limit", 1, "--no-cache", "--dtype", dtype, "--json", "-")
    found, whole = (json.loads(answer(capsys, "eval", one, *few).out)[0] for one in (model, tmp_path / "whole"))
    assert found["perplexity"] == pytest.approx(whole["perplexity"], rel=0.05)


def test_blocks_of_mxfp4():
    """Attention is stored as it is there, so that no command but ``convert`` reads them."""
    stored = {"_blocks": np.zeros((2, 3, 4, 16), np.uint8), "_scales": np.full((2, 3, 4), 127, np.uint8)}
    assert whole("mxfp4", stored).shape == (2, 128, 3)
    for part_, spoilt in (("_scales", (2, 3, 1)), ("_scales", (2, 3, 4, 1)), ("_blocks", (2, 3, 4, 8))):
        with pytest.raises(CheckpointError) as caught:
            whole("mxfp4", {**stored, part_: np.zeros(spoilt, np.uint8)})
        assert caught.value.code == "quantisation-wrong"


def whole(method: str, stored: dict[str, Any]) -> Any:
    """The weight ``w`` that these parts make."""
    specs = {f"w{name}": TensorSpec(f"w{name}", "U8", array.shape, array.nbytes) for name, array in stored.items()}
    tensors = SimpleNamespace(stored=specs, raw=lambda name, rows=None: stored[name[1:]][rows or slice(None)])
    form = methods()[method].load()
    return QuantisedWeight(method, form, Parts(tensors, "w", {"quant_method": method})).float32()  # type: ignore[arg-type]

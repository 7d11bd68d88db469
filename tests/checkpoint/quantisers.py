"""Plain quantisers, one for each way of storing weights: what is stored of a matrix, and what it then is.

Written from the formats' own descriptions, one code after the other, without a line of what they test.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Parts = dict[str, torch.Tensor]
# A matrix [out, in] in float32: the stored parts by the endings of their names, and what they stand for.
Quantise = Callable[[torch.Tensor], tuple[Parts, torch.Tensor]]
GROUP = 32


@dataclass(frozen=True)
class Case:
    """A way of storing; ``key`` of config.json holds ``settings``, and ``loss`` bounds what it changes in a score."""

    settings: dict[str, Any]
    quantise: Quantise
    loss: float
    key: str = "quantization_config"


def packed(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """Codes [rows, n] as a stream of bits in 32-bit words [rows, ceil(n * bits / 32)], lowest first."""
    rows, count = codes.shape
    words = torch.zeros(rows, -(-count * bits // 32) + 1, dtype=torch.int64)
    for i in range(count):
        word, shift = divmod(i * bits, 32)
        words[:, word] |= (codes[:, i].long() << shift) & 0xFFFFFFFF
        words[:, word + 1] |= codes[:, i].long() >> (32 - shift)
    words = words[:, :-1]
    return torch.where(words >= 1 << 31, words - (1 << 32), words).to(torch.int32)


def fp8(block: tuple[int, int] | None, name: str, dtype: torch.dtype = torch.float32) -> Quantise:
    """e4m3 with a scale a block; ``None`` is one for all, as a number."""

    def quantise(w: torch.Tensor) -> tuple[Parts, torch.Tensor]:
        out, inputs = w.shape
        rows, columns = block or (out, inputs)
        codes, whole = torch.empty(w.shape, dtype=torch.float8_e4m3fn), torch.empty_like(w)
        scales = torch.empty(-(-out // rows), -(-inputs // columns), dtype=dtype)
        for i in range(scales.shape[0]):
            for j in range(scales.shape[1]):
                at = slice(i * rows, (i + 1) * rows), slice(j * columns, (j + 1) * columns)
                scales[i, j] = w[at].abs().max() / 448
                codes[at] = (w[at] / scales[i, j].float()).to(torch.float8_e4m3fn)
                whole[at] = codes[at].float() * scales[i, j].float()
        return {".weight": codes, name: scales if block else scales.reshape(())}, whole

    return quantise


def by_group(w: torch.Tensor, bits: int, group: int, symmetric: bool) -> tuple[torch.Tensor, ...]:
    """Codes from 0, scales and zeros [out, groups], and the matrix that they are: ``scale * (code - zero)``."""
    out, inputs = w.shape
    groups, top = w.reshape(out, -1, group), (1 << bits) - 1
    if symmetric:
        scales = (groups.abs().amax(-1) / (top // 2)).half()
        zeros = torch.full_like(scales, (top + 1) // 2).long()
    else:
        low, high = groups.amin(-1).clamp(max=0), groups.amax(-1).clamp(min=0)
        scales = ((high - low) / top).half()
        zeros = (-low / scales.float()).round().clamp(0, top).long()
    codes = (groups / scales.float()[..., None]).round().long() + zeros[..., None]
    codes = codes.clamp(0, top)
    whole = scales.float()[..., None] * (codes - zeros[..., None])
    return codes.reshape(out, inputs), scales, zeros, whole.reshape(out, inputs)


def gptq(bits: int, first: int = 1, shuffled: bool = False, index: bool = True) -> Quantise:
    """``first`` is what stored zeros lack."""

    def quantise(w: torch.Tensor) -> tuple[Parts, torch.Tensor]:
        order = (
            torch.randperm(w.shape[1], generator=torch.Generator().manual_seed(1))
            if shuffled
            else torch.arange(w.shape[1])
        )
        codes, scales, zeros, sorted_whole = by_group(w[:, order], bits, GROUP, symmetric=False)
        back = torch.argsort(order)
        parts = {
            ".qweight": packed(codes[:, back], bits).T.contiguous(),
            ".qzeros": packed(((zeros - first) % (1 << bits)).T.contiguous(), bits),
            ".scales": scales.T.contiguous(),
            ".g_idx": (back // GROUP).int(),
        }
        if not index:
            del parts[".g_idx"]
        return parts, sorted_whole[:, back]

    return quantise


def awq(w: torch.Tensor) -> tuple[Parts, torch.Tensor]:
    codes, scales, zeros, whole = by_group(w, 4, GROUP, symmetric=False)

    def words(of: torch.Tensor) -> torch.Tensor:
        """[out, n] as [n, out / 8], the outputs of a word in AWQ's order."""
        result = torch.zeros(of.shape[1], of.shape[0] // 8, dtype=torch.int64)
        for nibble, output in enumerate((0, 2, 4, 6, 1, 3, 5, 7)):
            result |= of[output::8].T << (4 * nibble)
        return torch.where(result >= 1 << 31, result - (1 << 32), result).to(torch.int32)

    return {".qweight": words(codes), ".qzeros": words(zeros), ".scales": scales.T.contiguous()}, whole


def compressed_integers(group: int | None, symmetric: bool) -> Quantise:
    """int8, with a scale a row or a group."""

    def quantise(w: torch.Tensor) -> tuple[Parts, torch.Tensor]:
        codes, scales, zeros, whole = by_group(w, 8, group or w.shape[1], symmetric)
        parts = {".weight": (codes - 128).to(torch.int8), ".weight_scale": scales}
        if not symmetric:
            parts[".weight_zero_point"] = (zeros - 128).to(torch.int8)
        return parts, whole

    return quantise


def compressed_packed(bits: int, symmetric: bool) -> Quantise:
    def quantise(w: torch.Tensor) -> tuple[Parts, torch.Tensor]:
        codes, scales, zeros, whole = by_group(w, bits, GROUP, symmetric)
        parts = {
            ".weight_packed": packed(codes, bits),
            ".weight_scale": scales,
            ".weight_shape": torch.tensor(w.shape),
        }
        if not symmetric:
            parts[".weight_zero_point"] = packed(zeros.T.contiguous(), bits).T.contiguous()
        return parts, whole

    return quantise


NF4 = torch.tensor(
    [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
     -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
     0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0]
)  # fmt: skip


def bitsandbytes_4bit(nested: bool) -> Quantise:
    def quantise(w: torch.Tensor) -> tuple[Parts, torch.Tensor]:
        blocks = w.reshape(-1, 64)
        absmax = blocks.abs().amax(-1)
        state: dict[str, Any] = {"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": list(w.shape)}
        more = {}
        stored = absmax
        if nested:
            offset, table = absmax.mean(), torch.linspace(-1, 1, 256)
            rest = absmax - offset
            count = -(-len(rest) // 256)
            large = torch.stack([rest[256 * i : 256 * i + 256].abs().max() for i in range(count)])
            each = large.repeat_interleave(256)[: len(rest)]
            stored = torch.stack([(table - r).abs().argmin() for r in rest / each]).to(torch.uint8)
            absmax = table[stored.long()] * each + offset
            state |= {"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": float(offset)}
            more = {".weight.nested_absmax": large, ".weight.nested_quant_map": table}
        codes = (blocks[..., None] / absmax[:, None, None] - NF4).abs().argmin(-1)
        flat = codes.reshape(-1, 2)
        return {
            ".weight": (flat[:, :1] * 16 + flat[:, 1:]).to(torch.uint8),
            ".weight.absmax": stored,
            ".weight.quant_map": NF4.clone(),
            ".weight.quant_state.bitsandbytes__nf4": torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8),
            **more,
        }, (NF4[codes] * absmax[:, None]).reshape(w.shape)

    return quantise


def bitsandbytes_8bit(w: torch.Tensor) -> tuple[Parts, torch.Tensor]:
    largest = w.abs().amax(-1)
    codes = (127 * w / largest[:, None]).round().to(torch.int8)
    parts = {".weight": codes, ".SCB": largest, ".weight_format": torch.tensor(0, dtype=torch.uint8)}
    return parts, codes.float() * largest[:, None] / 127


def mlx(bits: int) -> Quantise:
    def quantise(w: torch.Tensor) -> tuple[Parts, torch.Tensor]:
        groups, top = w.reshape(w.shape[0], -1, GROUP), (1 << bits) - 1
        biases = groups.amin(-1).half()
        scales = ((groups.amax(-1) - biases.float()) / top).half()
        codes = ((groups - biases.float()[..., None]) / scales.float()[..., None]).round().clamp(0, top).long()
        whole = codes * scales.float()[..., None] + biases.float()[..., None]
        words = packed(codes.reshape(w.shape), bits).view(torch.uint32)
        return {".weight": words, ".scales": scales, ".biases": biases}, whole.reshape(w.shape)

    return quantise


def _compressed(form: str, bits: int, kind: str = "int", **weights: Any) -> dict[str, Any]:
    scheme = {"num_bits": bits, "type": kind, "symmetric": True, "strategy": "channel", **weights}
    group = {"targets": ["Linear"], "weights": scheme, "input_activations": None, "output_activations": None}
    return {
        "quant_method": "compressed-tensors",
        "format": form,
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {"group_0": {**group, "format": form}},
    }


_GROUPED = {"strategy": "group", "group_size": GROUP}
_GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": False, "sym": False}
_AWQ = {"quant_method": "awq", "bits": 4, "group_size": GROUP, "version": "gemm", "zero_point": True}
_BNB4 = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
CASES = {
    "fp8-block": Case(
        {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3", "weight_block_size": [64, 64]},
        fp8((64, 64), ".weight_scale_inv"),
        0.03,
    ),
    "fp8-block-uneven": Case(
        {"quant_method": "fp8", "weight_block_size": [128, 128]},
        fp8((128, 128), ".weight_scale_inv", torch.bfloat16),
        0.03,
    ),
    "fp8-tensor": Case({"quant_method": "fp8", "activation_scheme": "static"}, fp8(None, ".weight_scale"), 0.03),
    "fp8-row": Case({"quant_method": "fbgemm_fp8"}, fp8((1, 1 << 20), ".weight_scale"), 0.03),
    "gptq": Case({**_GPTQ, "checkpoint_format": "gptq"}, gptq(4), 0.2),
    "gptq-no-index": Case(_GPTQ, gptq(4, index=False), 0.2),
    "gptq-act-order": Case({**_GPTQ, "desc_act": True}, gptq(4, shuffled=True), 0.2),
    "gptq-v2": Case({**_GPTQ, "checkpoint_format": "gptq_v2"}, gptq(4, first=0), 0.2),
    "gptq-3bit": Case({**_GPTQ, "bits": 3}, gptq(3), 0.4),
    "gptq-8bit": Case({**_GPTQ, "bits": 8}, gptq(8), 0.02),
    "awq": Case(_AWQ, awq, 0.2),
    "compressed-int8": Case(_compressed("int-quantized", 8), compressed_integers(None, True), 0.02),
    "compressed-int8-asymmetric": Case(
        _compressed("int-quantized", 8, symmetric=False, **_GROUPED), compressed_integers(GROUP, False), 0.02
    ),
    "compressed-fp8": Case(
        _compressed("float-quantized", 8, "float"), fp8((1, 1 << 20), ".weight_scale", torch.bfloat16), 0.03
    ),
    "compressed-int4": Case(_compressed("pack-quantized", 4, **_GROUPED), compressed_packed(4, True), 0.2),
    "compressed-int4-asymmetric": Case(
        _compressed("pack-quantized", 4, symmetric=False, **_GROUPED), compressed_packed(4, False), 0.2
    ),
    "compressed-int3": Case(_compressed("pack-quantized", 3, **_GROUPED), compressed_packed(3, True), 0.4),
    "bitsandbytes-nf4": Case(_BNB4, bitsandbytes_4bit(nested=False), 0.2),
    "bitsandbytes-nf4-nested": Case({**_BNB4, "bnb_4bit_use_double_quant": True}, bitsandbytes_4bit(nested=True), 0.2),
    "bitsandbytes-8bit": Case({"quant_method": "bitsandbytes", "load_in_8bit": True}, bitsandbytes_8bit, 0.02),
    "mlx-4bit": Case({"group_size": GROUP, "bits": 4}, mlx(4), 0.2, "quantization"),
    "mlx-6bit": Case({"group_size": GROUP, "bits": 6}, mlx(6), 0.05, "quantization"),
}


def is_quantised(name: str) -> bool:
    """Of a Llama: the projections of its blocks."""
    return name.endswith("_proj.weight")


def write(case: Case, model: Path, quantised: Path, whole: Path) -> None:
    """Write a model quantised, and as a model of float32 weights that are the same numbers."""
    for directory in (quantised, whole):
        shutil.copytree(model, directory, copy_function=shutil.copyfile)
    parts, same = {}, {}
    for name, tensor in load_file(model / "model.safetensors").items():
        if is_quantised(name):
            stored, same[name] = case.quantise(tensor.float())
            parts |= {name.removesuffix(".weight") + ending: t.contiguous() for ending, t in stored.items()}
        else:
            parts[name] = same[name] = tensor.clone()
    save_file(parts, quantised / "model.safetensors", {"format": "pt"})
    save_file(same, whole / "model.safetensors", {"format": "pt"})
    config = json.loads((model / "config.json").read_text())
    (quantised / "config.json").write_text(json.dumps({**config, case.key: case.settings}))

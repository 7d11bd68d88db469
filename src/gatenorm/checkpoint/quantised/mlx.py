"""MLX: integers of 2 to 8 bits, with a scale and an offset for each group of inputs.

``weight`` [out, words] holds codes in a stream along the inputs, ``scales`` and ``biases`` [out, groups] floats:
``w = scales * q + biases``. ``config.json`` says ``group_size`` and ``bits`` for all modules, and under a module's name
what is different there.

Source: ``mlx.nn.QuantizedLinear`` and ``mlx.core.quantize``.
"""

from collections.abc import Mapping

import numpy as np

from gatenorm.checkpoint.dtypes import Float32
from gatenorm.checkpoint.packed_codes import bits_of, unpacked
from gatenorm.checkpoint.quantisation import Parts, Quantisation, Settings


def _recognises(settings: Settings) -> bool:
    stated = "group_size" in settings and "bits" in settings
    return stated and "quant_method" not in settings and settings.get("mode", "affine") == "affine"


def _said(parts: Parts) -> Settings:
    """What is said of the module itself, else of all of them."""
    own = parts.settings.get(parts.stem)
    return own if isinstance(own, Mapping) else parts.settings


def _inputs(parts: Parts) -> int:
    return int(_said(parts).get("group_size") or 64) * parts.shape(".scales")[1]


def _shape(parts: Parts) -> tuple[int, ...]:
    return parts.shape(".weight")[0], _inputs(parts)


def _float32(parts: Parts, rows: slice) -> Float32:
    inputs = _inputs(parts)
    words = parts.raw(".weight", rows)
    if _said(parts).get("mode", "affine") != "affine":
        raise parts.wrong(f"config.json says mode {_said(parts)['mode']!r:.40} of it", "affine")
    bits = bits_of(words.shape[1], inputs)
    parts.check_bits(bits, _said(parts).get("bits"))
    for ending in (".scales", ".biases"):
        parts.check_shape(ending, (parts.shape(".weight")[0], parts.shape(".scales")[1]))
    values = unpacked(words, bits).astype(np.float32)
    groups = values.reshape(len(values), -1, inputs // parts.shape(".scales")[1])
    groups *= parts.float32(".scales", rows)[..., None]
    groups += parts.float32(".biases", rows)[..., None]
    return values


QUANTISATION = Quantisation(
    summary="MLX: integers with scales and offsets",
    recognises=_recognises,
    markers=(".biases",),
    parts=(".weight", ".scales", ".biases"),
    shape=_shape,
    float32=_float32,
    loads_with="mlx-lm",
    unprunable="mlx-lm has no class for pruned models: prune the unquantised model, export it, and quantise that",
)

"""Quantised weights: several stored tensors that together are one weight of the model.

A method such as GPTQ stores, in place of ``NAME.weight``, codes, scales and perhaps zeros. What it stores is described
in one file of ``checkpoint/quantised``; another package adds a method under ``gatenorm.quantisations``.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gatenorm.checkpoint.dtypes import Bits, Float32, to_float32
from gatenorm.checkpoint.store import ModelConfig, TensorSpec, TensorStore
from gatenorm.errors import CheckpointError
from gatenorm.extensions import Extension, extensions, passing_over

Settings = Mapping[str, Any]
# Methods whose weights are not read, as people call them. Others are called by the name that config.json has.
_NAMES = {
    **{
        "aqlm": "AQLM",
        "auto-round": "AutoRound",
        "awq": "AWQ",
        "bitnet": "BitNet",
        "eetq": "EETQ",
        "exl2": "ExLlamaV2",
    },
    **{"fp_quant": "FP-Quant", "gptq": "GPTQ", "higgs": "HIGGS", "hqq": "HQQ", "modelopt": "Model Optimizer"},
    **{"quanto": "Quanto", "quark": "Quark", "quip": "QuIP#", "sinq": "SINQ", "spqr": "SpQR", "vptq": "VPTQ"},
}
# No description of a weight is longer.
_LONGEST = 1 << 16
# Settings that say which variant of a method it is.
_VARIANTS = ("format", "checkpoint_format", "packing_format", "version", "quant_algo", "mode")
# Endings of names that tell codes, or what makes numbers of them.
_ENDINGS = (".weight_scale", ".weight_scale_inv", ".weight_packed", ".qweight", ".weight.absmax", ".SCB", "_blocks")
# Settings that say what is different in some modules.
_EXCEPTIONS = ("dynamic", "extra_config", "modules")
# Where config.json says how weights are quantised: transformers' key, that of older compressed-tensors, and MLX's.
_KEYS = ("quantization_config", "compression_config", "quantization")


@dataclass(frozen=True)
class Parts:
    """The stored tensors of one weight, by the endings of their names; ``stem`` is what these have in common."""

    tensors: TensorStore = field(repr=False)
    stem: str
    settings: Settings
    _read: dict[str, bytes] = field(default_factory=dict, repr=False, compare=False)

    def __contains__(self, ending: object) -> bool:
        return f"{self.stem}{ending}" in self.tensors.stored

    def spec(self, ending: str) -> TensorSpec:
        """What is known of a part without reading it.

        Raises:
            CheckpointError: it is missing.
        """
        name = self.stem + ending
        if name not in self.tensors.stored:
            raise CheckpointError(
                "tensor-missing", f"there is no tensor {name}, without which {self.stem} is not whole"
            )
        return self.tensors.stored[name]

    def shape(self, ending: str, dimensions: int = 2) -> tuple[int, ...]:
        """The shape of a part that has so many dimensions.

        Raises:
            CheckpointError: it is missing, or has others.
        """
        shape = self.spec(ending).shape
        if len(shape) != dimensions:
            raise self.wrong(f"{ending} has shape {list(shape)}", f"{dimensions} dimensions")
        return shape

    def check_shape(self, ending: str, *shapes: tuple[int, ...]) -> None:
        """Raise CheckpointError for a part that is missing, or has none of these shapes."""
        found = self.spec(ending).shape
        if found not in shapes:
            raise self.wrong(f"{ending} has shape {list(found)}", " or ".join(str([*shape]) for shape in shapes))

    def check_bits(self, bits: int, *said: object) -> None:
        """Raise CheckpointError for codes of other bits than config.json says, where it says that of every weight."""
        stated = [one for one in said if one is not None]
        if stated and bits not in stated and not self._exceptions:
            expected = " or ".join(dict.fromkeys(f"{one!s:.40}" for one in stated))
            raise self.wrong(f"its codes have {bits} bits", f"{expected:.200}, as config.json says")

    def group_size(self, inputs: int, groups: int) -> int:
        """How many inputs share a scale.

        Raises:
            CheckpointError: they do not make so many groups of one size, or of that which config.json says.
        """
        said = self.settings.get("group_size")
        if not self._exceptions and said not in (None, -1) and (type(said) is not int or said < 1):
            raise self.wrong(f"config.json says groups of {said!r:.40}", "a whole number of inputs, or -1 for all")
        stated = said if type(said) is int and said > 0 else 0
        if stated and -(-inputs // stated) == groups:
            return stated
        if (stated and not self._exceptions) or groups < 1 or inputs % groups:
            expected = f"groups of {stated}, as config.json says" if stated else "groups of one size"
            raise self.wrong(f"it has scales for {groups} groups of {inputs} inputs", expected)
        return inputs // groups

    def group_index(self, ending: str, inputs: int, groups: int) -> npt.NDArray[np.int64] | None:
        """The group of each input, where a part says so; ``None`` where groups are runs of inputs.

        Raises:
            CheckpointError: it names other inputs, or groups that are not there.
        """
        if ending not in self:
            return None
        self.check_shape(ending, (inputs,))
        found = self.raw(ending)
        if found.dtype.kind not in "iu" or int(found.min()) < 0 or int(found.max()) >= groups:
            raise self.wrong(f"{ending} names groups that are not there", f"0 to {groups - 1}")
        return found.astype(np.int64)

    @property
    def _exceptions(self) -> bool:
        return any(self.settings.get(key) for key in _EXCEPTIONS)

    def raw(self, ending: str, rows: slice | None = None) -> Bits:
        """A part as it is stored, or a run of its rows."""
        self.spec(ending)
        return self.tensors.raw(self.stem + ending, rows)

    def description(self, ending: str) -> bytes:
        """A small part that says what the others are; it is read once.

        Raises:
            CheckpointError: it is missing, or larger than any description.
        """
        size = self.spec(ending).nbytes
        if size > _LONGEST:
            raise self.wrong(f"{ending} has {size:,} bytes", f"at most {_LONGEST:,}")
        if ending not in self._read:
            self._read[ending] = self.raw(ending).tobytes()
        return self._read[ending]

    def float32(self, ending: str, rows: slice | None = None) -> Float32:
        """A part that holds floats."""
        return to_float32(self.raw(ending, rows), self.spec(ending).dtype)

    def wrong(self, found: str, expected: str = "") -> CheckpointError:
        """The error for parts that cannot be those of one weight."""
        return CheckpointError("quantisation-wrong", f"{self.stem}: {found}", expected=expected)


@dataclass(frozen=True)
class Quantisation:
    """How one method stores weights.

    Attributes:
        summary: for people, in a few words.
        recognises: whether the quantisation settings of a ``config.json`` are this method's.
        markers: endings of tensors that quantised weights alone have, one of which each of them has.
        parts: endings of all tensors that may belong to a weight, without which it is another one.
        float32: ``float32(parts, rows)``, a run of rows of the weight. ``rows`` has both ends, within the shape.
        shape: ``shape(parts)``, that of the weight; only shapes of parts are looked at where they say it.
        weight: what the name of a weight has behind that of its module.
        loads_with: what runs a model with such weights, for people.
        unprunable: why a model with such weights is scored and not pruned; empty where it can be.
    """

    summary: str
    recognises: Callable[[Settings], bool]
    markers: tuple[str, ...]
    parts: tuple[str, ...]
    float32: Callable[[Parts, slice], Float32]
    shape: Callable[[Parts], tuple[int, ...]] = lambda parts: parts.shape(".weight")
    weight: str = ".weight"
    loads_with: str = "transformers"
    unprunable: str = ""


def settings_of(config: ModelConfig) -> Settings | None:
    """How a configuration says that weights are quantised; ``None`` where it does not, {} where it cannot be read.

    Nor can it where it says so in several places, by several methods: each loader looks at one of them.
    """
    inner = config.get("text_config")
    places = (config, inner if isinstance(inner, Mapping) else {})
    given = [place[key] for place in places for key in _KEYS if place.get(key)]
    named = [one.get("quant_method") for one in given if isinstance(one, Mapping)]
    if len(named) < len(given) or any(name != named[0] for name in named):
        return {}
    return given[0] if given else None


def without_settings(config: ModelConfig) -> dict[str, Any]:
    """The configuration of the same model with weights that are not quantised."""
    plain = {key: value for key, value in config.items() if key not in _KEYS}
    inner = plain.get("text_config")
    return {**plain, "text_config": without_settings(inner)} if isinstance(inner, Mapping) else plain


def methods() -> Mapping[str, Extension]:
    """All methods whose weights can be read, by name."""
    return extensions("quantisations", ("gatenorm.checkpoint.quantised",), "QUANTISATION", Quantisation)


def quantisation(config: ModelConfig) -> tuple[str, Quantisation] | None:
    """The method that a configuration names, if it is known, with its name."""
    settings = settings_of(config)
    if settings is None:
        return None
    for name, extension in methods().items():
        with passing_over(extension):
            form: Quantisation = extension.load()
            if form.recognises(settings):
                return name, form
    return None


def unprunable_by(method: str) -> str:
    """Why a model that is quantised by a method cannot be pruned as it is; empty where it can, or is not quantised."""
    if not method:
        return ""
    form: Quantisation = methods()[method].load()
    return f"its weights are quantised by {method}: {form.unprunable}" if form.unprunable else ""


def unreadable(config: ModelConfig, stored: Iterable[str]) -> str | None:
    """Why weights that are quantised cannot be read, or ``None``: by no known method, or by one that is not named."""
    settings = settings_of(config)
    if settings is not None:
        if quantisation(config) is not None:
            return None
        if not settings:
            return "config.json names several methods, or says it in a way that is not understood"
        method = str(settings.get("quant_method") or settings.get("quant_algo") or "a method that is not named")
        variant = next((str(settings[key]) for key in _VARIANTS if settings.get(key)), "")
        return f"config.json says by {_NAMES.get(method, method):.60}" + (f" ({variant:.60})" if variant else "")
    name = next((name for name in stored if name.endswith(_ENDINGS)), None)
    return None if name is None else f"there is a tensor {name}, and config.json does not say by which method"

"""The weights of a checkpoint that are stored in parts, each as one weight in their place."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gatenorm.checkpoint.dtypes import Float32
from gatenorm.checkpoint.quantisation import Parts, Quantisation, quantisation, settings_of
from gatenorm.checkpoint.store import ModelConfig, TensorSpec, TensorStore
from gatenorm.errors import CheckpointError, first_line
from gatenorm.extensions import check_kind


@dataclass(frozen=True)
class QuantisedWeight:
    """One weight that is stored in parts."""

    method: str
    form: Quantisation
    parts: Parts

    @property
    def name(self) -> str:
        return self.parts.stem + self.form.weight

    @property
    def stored(self) -> tuple[str, ...]:
        """The names of its parts."""
        return tuple(self.parts.stem + ending for ending in self.form.parts if ending in self.parts)

    def spec(self) -> TensorSpec:
        """Its name and shape; the type is the method's name, the bytes are those of all parts."""
        shape = self._checked(lambda: self.form.shape(self.parts))
        nbytes = sum(self.parts.tensors.stored[name].nbytes for name in self.stored)
        return TensorSpec(self.name, self.method, tuple(map(int, shape)), nbytes)

    def float32(self, rows: slice | None = None) -> Float32:
        """The weight, or a run of its rows, as float32.

        Raises:
            CheckpointError: parts are missing, or do not fit together.
        """
        shape = self.spec().shape
        if rows is not None and rows.step not in (None, 1):
            raise CheckpointError("rows-wrong", f"{self.name} has no rows {rows}", expected="a run of rows")
        begin, end, _ = (rows or slice(None)).indices(shape[0])
        wanted = slice(begin, max(begin, end))
        values: Float32 = self._checked(lambda: self.form.float32(self.parts, wanted))
        check_kind(f"what {self.method} makes of {self.name}", values, np.ndarray)
        if values.shape != (wanted.stop - begin, *shape[1:]):
            raise self.parts.wrong(f"its parts make a weight of shape {list(values.shape)}", f"{list(shape)}")
        return values

    def _checked(self, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except CheckpointError:
            raise
        except (ValueError, IndexError, TypeError, KeyError, ZeroDivisionError, OverflowError, AttributeError) as error:
            # Strangers' shapes and settings: whatever does not fit together ends here.
            raise self.parts.wrong(
                f"its parts do not fit together ({first_line(error):.120})", self.form.summary
            ) from None


def quantised_weights(tensors: TensorStore, config: ModelConfig) -> dict[str, QuantisedWeight]:
    """The weights that are stored in parts, by their names.

    Raises:
        CheckpointError: one is stored twice, or in 8-bit floats without a scale.
    """
    found = quantisation(config)
    if found is None:
        return {}
    method, form = found
    settings, weights = settings_of(config) or {}, {}
    for name in tensors.stored:
        marker = next((ending for ending in form.markers if name.endswith(ending)), None)
        if marker is not None:
            weight = QuantisedWeight(method, form, Parts(tensors, name.removesuffix(marker), settings))
            weights[weight.name] = weight
    _check_once(tensors, weights)
    return weights


def _check_once(tensors: TensorStore, weights: Mapping[str, QuantisedWeight]) -> None:
    """Refuse a weight that is stored twice, and one of 8-bit floats that has lost its scale."""
    parts = {part for weight in weights.values() for part in weight.stored}
    for name, stored in tensors.stored.items():
        if name not in parts and (name in weights or (weights and stored.dtype.startswith("F8_E"))):
            twice = ("weight-stored-twice", f"{name} is stored twice, quantised and not")
            code, why = twice if name in weights else ("scale-missing", f"{name} is quantised, and has no scale")
            raise CheckpointError(code, why, hint="fetch the files again")


class ModelTensors(Mapping[str, TensorSpec]):
    """The tensors of a model: those that are stored whole, and quantised weights in the place of their parts.

    What is known of a quantised weight is found out when it is asked for: some methods store shapes as tensors.
    """

    def __init__(self, stored: Mapping[str, TensorSpec], weights: Mapping[str, QuantisedWeight]):
        self._whole, self._weights = stored, weights
        parts = {name: weight.name for weight in weights.values() for name in weight.stored}
        self._names = dict.fromkeys(parts.get(name, name) for name in stored)
        self._specs: dict[str, TensorSpec] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __getitem__(self, name: str) -> TensorSpec:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._weights:
            return self._whole[name]
        if name not in self._specs:
            self._specs[name] = self._weights[name].spec()
        return self._specs[name]

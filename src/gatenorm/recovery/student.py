"""The model that a recovery trains: a pruned checkpoint with adapters, with its maps made trainable, or both."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatenorm.errors import RecoveryError
from gatenorm.families import Layout
from gatenorm.records.recovery_settings import MAPS, Settings
from gatenorm.recovery import merging

if TYPE_CHECKING:
    from gatenorm.recovery.trained_maps import Trained


@dataclass
class Student:
    """A model that is trained. It is held here alone, so that it can be let go of while it is around.

    Attributes:
        modules: those with an adapter, each with its weight's stored name.
        maps: trained tensors by stored name.
    """

    model: Any
    modules: dict[str, str]
    maps: dict[str, Trained]

    def added(self) -> dict[str, merging.Update | Trained]:
        """What was trained, by the stored name of the tensor that it changes."""
        adapters: dict[str, merging.Update | Trained] = {}
        if self.modules:
            adapters.update(merging.updates(self.model, self.modules))
        return adapters | self.maps

    def release(self) -> None:
        """Free the model's memory."""
        self.model, self.maps = None, {}
        gc.collect()


def load_student(layout: Layout, settings: Settings, device: str) -> Student:
    """The pruned model with what its settings want trained, all else frozen.

    Raises:
        RecoveryError: there is no module to adapt.
        CheckpointError, EvaluationError, MissingExtraError: it cannot be loaded, or peft is not installed.
    """
    from gatenorm.recovery.trained_maps import train_maps

    model = plain = load_frozen(layout.checkpoint.directory, settings, device)
    modules = adapted_modules(model, layout, settings.adapted) if settings.adapted else {}
    if settings.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if modules:
        transposed = layout.roles.transposed
        model = merging.with_adapters(plain, modules, settings, transposed=transposed, name=layout.checkpoint.name)
    # Behind the adapters, which freeze whatever was there before them.
    maps = train_maps(plain, layout) if MAPS in settings.targets else {}
    return Student(model, modules, maps)


def load_frozen(directory: Path, settings: Settings, device: str) -> Any:
    """A model none of whose parameters wants a gradient.

    Raises:
        CheckpointError, EvaluationError, MissingExtraError: it cannot be loaded.
    """
    from gatenorm.models.loading import dtype_for, load

    device_map: Any = "auto" if device == "auto" else {"": device}
    model: Any = load(directory, dtype=dtype_for(settings.dtype, device), device_map=device_map)
    return model.requires_grad_(False)


def adapted_modules(model: Any, layout: Layout, targets: Sequence[str]) -> dict[str, str]:
    """The linear modules that get an adapter: their names in the live model, each with its weight's stored name.

    ``attention`` means the query, key, value and output projections of every attention that is left (or the modules
    that hold them together, or their factors), ``mlp`` every linear map in the branch of every block that has an MLP.

    Raises:
        RecoveryError: there is no such module.
    """
    path = layout.block.path
    modules: dict[str, str] = {}
    for layer, name in _places(model, layout, targets):
        modules[f"{path}.{layer}.{name}"] = layout.tensor(layer, f"{name}.weight")
    absent = [stored for stored in modules.values() if stored not in layout.checkpoint]
    if not modules or absent:
        what = f"; the checkpoint has no {absent[0]}" if absent else ""
        problem = f"{layout.checkpoint.name} has no module left to train among its {' and '.join(targets)}{what}"
        raise RecoveryError("nothing-to-train", problem, field="targets", hint="name others")
    return modules


def _places(model: Any, layout: Layout, targets: Sequence[str]) -> Iterator[tuple[int, str]]:
    from torch import nn

    blocks = model.get_submodule(layout.block.path)
    mixture = layout.data.mixture
    for layer in range(layout.layers):
        if "attention" in targets and layer in layout.attention_layers:
            elsewhere = ("k", "v") if layer in layout.key_sources else ()
            named = layout.at(layer).projections.items()
            yield from ((layer, module) for role, module in named if role not in elsewhere)
        if "mlp" in targets and layer in layout.mlp_layers:
            for branch in layout.block.branch:
                for name, module in blocks[layer].get_submodule(branch).named_modules(prefix=branch):
                    # Conv1D of GPT-2 is a linear map too; a matrix alone makes none: mixtures choose experts by one.
                    # Llama 4's choose by a linear map that hands back more than its product; Falcon's have a forward of
                    # their own for the same product.
                    own = type(module).forward is not nn.Linear.forward
                    plain = isinstance(module, nn.Linear) and not (mixture and own)
                    linear = plain or type(module).__name__ == "Conv1D"
                    if linear and not (mixture and layout.tensor(layer, f"{name}.weight") not in layout.checkpoint):
                        yield layer, name

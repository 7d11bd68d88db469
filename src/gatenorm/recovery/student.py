"""The model that a recovery trains: a pruned checkpoint with adapters, with its maps made trainable, or both."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatenorm.families import Layout
from gatenorm.recovery import merging
from gatenorm.recovery.lora_modules import adapted_modules
from gatenorm.recovery.settings import MAPS, Settings

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
        transposed = bool(layout.roles.get("transposed"))
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

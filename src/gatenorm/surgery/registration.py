"""Makes Transformers' Auto classes know pruned models, so that a pruned directory loads without running its own code.

Nothing here imports PyTorch or Transformers before someone else has.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

Names = tuple[str, str, str]

_CONFIGURATIONS = "transformers.models.auto.configuration_auto"
_ADAPTERS = "peft.utils.constants"
_MODELING = "gatenorm.surgery.modeling_gatenorm"


def register(classes: Mapping[str, Names]) -> None:
    """Register ``gatenorm_<type>`` with AutoConfig, AutoModel and AutoModelForCausalLM. Calling it again is harmless.

    Args:
        classes: stock class names by model type, ``{"llama": ("LlamaConfig", "LlamaModel", "LlamaForCausalLM")}``.
            A model type that the installed Transformers does not know is passed over.
    """
    auto = importlib.import_module(_CONFIGURATIONS)
    for base, (config_name, _, _) in classes.items():
        model_type = f"gatenorm_{base}"
        if base in auto.CONFIG_MAPPING_NAMES and model_type not in auto.CONFIG_MAPPING:
            auto.CONFIG_MAPPING.register(model_type, LazyConfigClass(f"Gatenorm{config_name}", model_type))


def register_classes(config_class: Any) -> None:
    """Register one pruned architecture for good: its configuration class, and the model classes that go with it."""
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    modeling = importlib.import_module(_MODELING)
    names = modeling.class_names(config_class.model_type.removeprefix("gatenorm_"))
    AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
    AutoModel.register(config_class, getattr(modeling, names["AutoModel"]), exist_ok=True)
    AutoModelForCausalLM.register(config_class, getattr(modeling, names["AutoModelForCausalLM"]), exist_ok=True)


def register_adapter_targets(classes: Mapping[str, Names]) -> None:
    """Give PEFT's methods the same default target modules for ``gatenorm_<type>`` as for the stock type."""
    for name, table in vars(importlib.import_module(_ADAPTERS)).items():
        if name.startswith("TRANSFORMERS_MODELS_TO_") and isinstance(table, dict):
            for base in classes.keys() & table.keys():
                table.setdefault(f"gatenorm_{base}", table[base])


def register_when_transformers_is_imported(classes: Callable[[], Mapping[str, Names]]) -> None:
    """:func:`register`, now or as soon as Transformers is there (and likewise PEFT): the order of imports is free.

    Transformers has no entry point for plugins, so what is missing is done right after the module that it concerns has
    been imported, by a finder in ``sys.meta_path`` that takes no part in any other import.

    Args:
        classes: gives what :func:`register` takes; called when it is needed, not before.
    """
    actions: dict[str, Callable[[], None]] = {
        _CONFIGURATIONS: lambda: register(classes()),
        _ADAPTERS: lambda: register_adapter_targets(classes()),
    }
    for name in actions.keys() & sys.modules.keys():
        actions.pop(name)()
    if actions:
        sys.meta_path.insert(0, _AfterImport(actions))


class LazyConfigClass:
    """Stands for a pruned configuration class in AutoConfig's table, and gives way to it when it is first used.

    The stock classes cannot be imported while Transformers itself is being imported (the imports are circular), and all
    of them together would take longer than anyone who does not want a pruned model should wait.
    """

    def __init__(self, name: str, model_type: str):
        self.__name__, self.__module__, self.model_type = name, _MODELING, model_type

    def resolve(self) -> Any:
        """The class itself, which from now on has this one's place, and whose models are registered too."""
        config_class = getattr(importlib.import_module(_MODELING), self.__name__)
        register_classes(config_class)
        return config_class

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.resolve()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.resolve(), name)


class _AfterImport(MetaPathFinder):
    """Runs an action right after a module has been imported for the first time."""

    def __init__(self, actions: dict[str, Callable[[], None]]):
        self.actions = actions

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        # Taken out first: the search below comes past here again.
        action = self.actions.pop(fullname, None)
        if action is None:
            return None
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _ThenLoader(spec.loader, action)
        return spec


class _ThenLoader(Loader):
    """Loads a module as its own loader does, with that loader back in its place, and runs the action."""

    def __init__(self, loader: Loader, action: Callable[[], None]):
        self.loader, self.action = loader, action

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        module.__loader__ = self.loader
        self.loader.exec_module(module)
        self.action()

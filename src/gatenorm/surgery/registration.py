"""Makes Transformers' Auto classes know pruned models, so that a pruned directory loads without running its own code.

Transformers has no entry points for model types: someone has to call :func:`register` before its Auto classes are used.
"""

import importlib
import importlib.util
from typing import Any

from gatenorm.families import families
from gatenorm.surgery.config import own_classes

_MODELING = "gatenorm.surgery.modeling_gatenorm"


def register() -> None:
    """Make ``AutoModelForCausalLM.from_pretrained`` load pruned directories, and PEFT find its targets in them.

    ``gatenorm.load`` does so by itself. Calling it again is harmless.

    Raises:
        ImportError: Transformers is not installed.
    """
    register_types()
    if importlib.util.find_spec("peft") is not None:
        register_adapter_targets()


def register_types() -> None:
    """Register ``gatenorm_<type>`` with Transformers' Auto classes for every family that it knows."""
    auto = importlib.import_module("transformers.models.auto.configuration_auto")
    for base, family in families().items():
        model_type = f"gatenorm_{base}"
        if base in auto.CONFIG_MAPPING_NAMES and model_type not in auto.CONFIG_MAPPING:
            auto.CONFIG_MAPPING.register(model_type, LazyConfigClass(f"Gatenorm{family.classes.config}", model_type))


def register_classes(config_class: Any) -> None:
    """Register one pruned architecture for good: its configuration class, and the model classes that go with it."""
    transformers, modeling = importlib.import_module("transformers"), importlib.import_module(_MODELING)
    model_type = config_class.model_type
    for auto, named in own_classes(families()[model_type.removeprefix("gatenorm_")]).items():
        key = model_type if auto == "AutoConfig" else config_class
        getattr(transformers, auto).register(key, getattr(modeling, named.rpartition(".")[2]), exist_ok=True)


def register_adapter_targets() -> None:
    """Give PEFT's methods the same default target modules for ``gatenorm_<type>`` as for the stock type."""
    for name, table in vars(importlib.import_module("peft.utils.constants")).items():
        if name.startswith("TRANSFORMERS_MODELS_TO_") and isinstance(table, dict):
            for base in families().keys() & table.keys():
                table.setdefault(f"gatenorm_{base}", table[base])


class LazyConfigClass:
    """Stands for a pruned configuration class in AutoConfig's table, and gives way to it when it is first used.

    Importing the stock classes of all families at once would take seconds.
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

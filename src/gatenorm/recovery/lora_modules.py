"""Which modules of a pruned model get adapters, told by its family's roles."""

from collections.abc import Iterator, Sequence
from typing import Any

from gatenorm.errors import RecoveryError
from gatenorm.families import Layout


def adapted_modules(model: Any, layout: Layout, targets: Sequence[str]) -> dict[str, str]:
    """The linear modules that get an adapter: their names in the live model, each with its weight's stored name.

    ``attention`` means the query, key, value and output projections of every attention that is left (or the modules
    that hold them together, or their factors), ``mlp`` every linear map in the branch of every block that has an MLP.

    Raises:
        RecoveryError: there is no such module.
    """
    path = layout.block["path"]
    modules: dict[str, str] = {}
    for layer, name in _places(model, layout, targets):
        modules[f"{path}.{layer}.{name}"] = layout.tensor(layer, f"{name}.weight")
    absent = [stored for stored in modules.values() if stored not in layout.checkpoint]
    if not modules or absent:
        what = f"; the checkpoint has no {absent[0]}" if absent else ""
        raise RecoveryError(
            "nothing-to-train",
            f"{layout.checkpoint.name} has no module left to train among its {' and '.join(targets)}{what}",
            field="targets",
            hint="name others",
        )
    return modules


def _places(model: Any, layout: Layout, targets: Sequence[str]) -> Iterator[tuple[int, str]]:
    from torch import nn

    blocks = model.get_submodule(layout.block["path"])
    mixture = layout.data.get("mixture")
    for layer in range(layout.layers):
        if "attention" in targets and layer in layout.attention_layers:
            yield from ((layer, module) for module in layout.projections.values())
        if "mlp" in targets and layer in layout.mlp_layers:
            for branch in layout.block["branch"]:
                for name, module in blocks[layer].get_submodule(branch).named_modules(prefix=branch):
                    # Conv1D of GPT-2 is a linear map too; a matrix alone makes none: mixtures choose experts by one.
                    linear = isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
                    if linear and not (mixture and layout.tensor(layer, f"{name}.weight") not in layout.checkpoint):
                        yield layer, name

"""Whether the files hold a whole model, or only what a study of attention needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatenorm.families.sublayers import mlp_modules
from gatenorm.records import spans

if TYPE_CHECKING:
    from gatenorm.families.layout import Layout


def missing(layout: Layout) -> str | None:
    """What every model has and these files lack, for people: MLP weights, embeddings; ``None`` where nothing is.

    Told by names and shapes. A head is no part of it, since base models have none.
    """
    inside = layout.prefix + "."
    matrices = [t.name for t in layout.checkpoint.specs.values() if len(t.shape) == 2]
    blocks = tuple(name for name in matrices if name.startswith(inside))
    bare = []
    for layer in layout.mlp_layers:
        modules = tuple(layout.tensor(layer, module) + "." for module in mlp_modules(layout.data))
        if not any(name.startswith(modules) for name in blocks):
            bare.append(layer)
    lacking = [f"the MLP weights of layers {spans(bare)}"] if bare else []
    if len(blocks) == len(matrices):
        lacking.append("the embeddings")
    return " and ".join(lacking) or None

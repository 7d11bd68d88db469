"""The recovered checkpoint: the pruned one's bytes, with what was trained in the few tensors that were."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatenorm.checkpoint import NewTensor, TensorStore
from gatenorm.checkpoint.code import without_code
from gatenorm.checkpoint.dtypes import STORAGE_TYPES
from gatenorm.checkpoint.parts import computed
from gatenorm.errors import RecoveryError, named, needing
from gatenorm.families import Layout
from gatenorm.files import write_json
from gatenorm.progress import Progress
from gatenorm.records import RecoverySummary, to_json
from gatenorm.recovery.generators import seeded
from gatenorm.surgery.config import MODELLING_FILE, modelling_source, own_classes
from gatenorm.surgery.disk import RECOVERY_FILE, carry_over
from gatenorm.surgery.operation import operation_records

if TYPE_CHECKING:
    from torch import Tensor

    from gatenorm.recovery.trained_maps import Trained

ADAPTER = "adapter"
_NAME = "default"
_WRITTEN = {"config.json", "README.md", RECOVERY_FILE, MODELLING_FILE.name}


@dataclass(frozen=True)
class Update:
    """What an adapter adds to its weight, kept as its two small matrices."""

    layer: Any

    def on(self, weight: Tensor) -> Tensor:
        """``weight + alpha / rank * B A`` in float32, transposed where the weight is stored ``[in, out]``."""
        return weight.float() + self.layer.get_delta_weight(_NAME).float().cpu()


def with_adapters(model: Any, modules: Mapping[str, str], settings: Any, *, transposed: bool, name: str) -> Any:
    """The model with a fresh LoRA adapter on each of ``modules``, all else frozen; changed in place.

    Args:
        modules: names in the live model (their values are not looked at).
        transposed: the weights are stored ``[in, out]``.
        name: of the checkpoint, for the adapter's configuration.

    Raises:
        MissingExtraError: peft is not installed.
    """
    with needing("recovery", "peft", "recover"):
        from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(modules),
        fan_in_fan_out=transposed,
    )
    with seeded(settings.seed), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what peft and transformers say to each other
        adapted = get_peft_model(model, config, adapter_name=_NAME)
    # peft notes the folder that the model was loaded from, which says nothing elsewhere.
    adapted.peft_config[_NAME].base_model_name_or_path = name
    return adapted


def updates(adapted: Any, modules: Mapping[str, str]) -> dict[str, Update]:
    """What the adapters add, by the stored name of the weight that they add to."""
    live = adapted.get_base_model()
    return {stored: Update(live.get_submodule(name)) for name, stored in modules.items()}


def write_merged(
    layout: Layout,
    added: Mapping[str, Update | Trained],
    summary: RecoverySummary,
    target: Path,
    progress: Progress | None = None,
) -> list[str]:
    """Write the pruned checkpoint with what was trained into ``target``, all but its card.

    Bytes of other tensors are copied; sums are taken in float32 and rounded to the stored type. ``config.json`` notes
    under ``gatenorm`` that the model was recovered.

    Args:
        added: what was trained, by the stored name of the tensor that it changes.
        summary: what is noted there, so that the model carries the word wherever it goes.
        progress: called with (bytes written, bytes in all).

    Returns:
        The files that were carried over.
    """
    checkpoint = layout.checkpoint
    merged = ((name, _merged(checkpoint, name, added.get(name))) for name in checkpoint.specs)
    checkpoint.rewritten(merged).write(target, progress)
    carried, _ = carry_over(checkpoint, target, _WRITTEN)
    config = without_code(checkpoint.config)
    config["gatenorm"] = {**config["gatenorm"], "recovery": to_json(summary)}
    write_json(target / "config.json", {**config, "auto_map": own_classes(layout.data)})
    source = modelling_source(operation_records(layout.edits, layout.width))
    (target / MODELLING_FILE.name).write_text(source, encoding="utf-8")
    return carried


def write_adapter(adapted: Any, target: Path, name: str) -> None:
    """Write the adapters in PEFT's format into ``target``."""
    adapted.save_pretrained(target, safe_serialization=True, save_embedding_layers=False)
    config = json.loads((target / "adapter_config.json").read_text(encoding="utf-8"))
    write_json(target / "adapter_config.json", {**config, "base_model_name_or_path": name})
    (target / "README.md").write_text(
        f"""# LoRA adapters for {name}

Trained by `gatenorm recover` on the pruned model `{name}`; they fit that model and no other:

```python
import gatenorm
from peft import PeftModel

model = PeftModel.from_pretrained(gatenorm.load("PRUNED_DIRECTORY"), "THIS_DIRECTORY")
```
""",
        encoding="utf-8",
    )


def _merged(checkpoint: TensorStore, name: str, update: Update | Trained | None) -> NewTensor:
    same = checkpoint.same(name)
    if update is None:
        return same
    return replace(same, parts=(computed(same.nbytes, _sum(checkpoint, name, update)),))


def _sum(checkpoint: TensorStore, name: str, update: Update | Trained) -> Callable[[], bytes]:
    def make() -> bytes:
        import torch

        stored = getattr(torch, STORAGE_TYPES[checkpoint.spec(name).dtype].torch)
        merged = update.on(checkpoint.torch(name)).to(stored).contiguous()
        if not bool(merged.isfinite().all()):
            problem = f"{name} holds NaN or infinite values once the training is merged into it"
            raise RecoveryError("weights-not-finite", problem, hint=f"lower {named('learning_rate')}")
        return bytes(merged.view(torch.uint8).numpy().tobytes())

    return make

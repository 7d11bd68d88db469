"""The ``config.json`` of a pruned checkpoint, and the files that make it load."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from gatenorm.checkpoint import ModelConfig
from gatenorm.checkpoint.code import without_code
from gatenorm.errors import PlanError, RecordError
from gatenorm.families import Layout, counted_layers, keep_entries, mlp_modules
from gatenorm.families.family import tower_config
from gatenorm.families.schema import Family
from gatenorm.records import PRUNED_PREFIX, BlockRecord, BlockShape, Plan, PrunedRecord, read_json, to_json
from gatenorm.surgery.operation import operation_named, operation_records, update_source

MODELLING_FILE = Path(__file__).with_name("modeling_gatenorm.py")


def block_record(data: Family) -> BlockRecord:
    """What a model class must know to build and run a block with edits."""
    shape = {name: getattr(data.block, name) for name in BlockShape.__struct_fields__}
    return BlockRecord(**shape, mlp=mlp_modules(data), norm=data.norms.input, parallel=data.shape == "parallel")


def original_keys(data: Family, config: ModelConfig, layers: int) -> dict[str, Any]:
    """The keys of an unpruned model's config that speak of its layers, where its blocks are made after their number."""
    if not data.block.by_index:
        return {}
    return {data.dimensions.layers[0]: layers, **keep_entries(config, data, layers, range(layers))}


def modelling_source(operations: Iterable[str]) -> str:
    """The modelling file of a directory: ours, and the functions of its operations."""
    names = {name.partition(":")[0] for name in operations}
    functions = [update_source(name) for name in sorted(names) if operation_named(name).update is not None]
    return "\n\n".join([MODELLING_FILE.read_text(encoding="utf-8"), *functions])


def own_classes(data: Family) -> dict[str, str]:
    """Where transformers finds the classes of a pruned model: in the modelling file of its directory."""
    named = {"AutoConfig": data.classes.config, "AutoModel": data.classes.model}
    named |= dict.fromkeys(auto_classes(data), data.classes.causal_lm)
    return {auto: f"{MODELLING_FILE.stem}.Gatenorm{stock}" for auto, stock in named.items()}


def auto_classes(data: Family | None) -> tuple[str, ...]:
    """The Auto classes that load a pruned causal LM of a family, known or not; the first one loads a stock one too."""
    return (*(["AutoModelForImageTextToText"] if data and data.tower else []), "AutoModelForCausalLM")


def check_prunable(why: str | None, name: str | None = None) -> None:
    """Raise PlanError where there is a reason ``why`` the model called ``name`` must not be pruned."""
    if why:
        raise PlanError("model-not-prunable", f"cannot be pruned: {why}", field="model", given=name)


def pruned_config(layout: Layout, plan: Plan) -> dict[str, Any]:
    """The config of the checkpoint that remains when ``plan`` has been carried out on ``layout``.

    The layer count and every per-layer list speak of the layers that kept their attention: caches, masks and engines
    count attentions. The physical count and the removed layers stand under ``gatenorm``.

    Raises:
        PlanError: the family or the config says that this model must not be pruned.
    """
    check_prunable(layout.refusal(), layout.checkpoint.name)
    whole: dict[str, Any] = without_code(layout.checkpoint.config)
    config: dict[str, Any] = dict(tower_config(layout.data, whole))

    before, after = layout.counted_layers, counted_layers(layout.data, layout.layers, plan.edits)
    keep = [position for position, layer in enumerate(before) if layer in after]
    if len(keep) < len(before):
        config.update(keep_entries(config, layout.data, len(before), keep))
    counts = [key for key in layout.data.dimensions.layers if key in config]
    config.update(dict.fromkeys(counts or layout.data.dimensions.layers[:1], len(keep)))
    tower = layout.data.tower
    if tower and tower.config in whole:
        config = {**whole, tower.config: config}
    config["model_type"] = PRUNED_PREFIX + layout.model_type
    config["architectures"] = [f"Gatenorm{layout.data.classes.causal_lm}"]
    config["auto_map"] = own_classes(layout.data)
    config["gatenorm"] = to_json(
        PrunedRecord(
            base_model_type=layout.model_type,
            layers=layout.layers,
            edits=plan.edits,
            block=block_record(layout.data),
            plan=plan,
            operations=operation_records(plan.edits, layout.width),
            original=without_code(layout.pruned.original)
            if layout.pruned
            else original_keys(layout.data, layout.config, layout.layers),
        )
    )
    return config


def tokenizer_config(layout: Layout) -> dict[str, Any] | None:
    """``tokenizer_config.json`` with the tokenizer class spelled out, or ``None`` where it stays as it is.

    transformers takes the class from ``model_type`` where the file names none, and for some types whatever it names;
    under the ``model_type`` of a pruned model it would tokenise otherwise, without a word.
    """
    rule, checkpoint, name = layout.data.tokenizer, layout.checkpoint, "tokenizer_config.json"
    config: dict[str, Any] = {}
    with suppress(RecordError):  # what cannot be read is left out, as links that lead elsewhere are
        config = without_code(read_json(checkpoint.directory / name, name)) if checkpoint.is_own(name) else {}
    if not rule or (rule.when == "undeclared" and config.get("tokenizer_class")):
        return None
    whole = "tokenizer.json" in checkpoint.companions
    if not whole and (rule.when == "always" or "vocab.json" not in checkpoint.companions):
        return None
    return {**config, "tokenizer_class": rule.name}

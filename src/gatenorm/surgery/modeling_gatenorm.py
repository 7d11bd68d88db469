"""Causal language models from which gatenorm removed whole sublayers (attention, MLP, or both), for Transformers.

A copy of this file lies in every checkpoint that gatenorm writes; `auto_map` in config.json names the classes here, so
`AutoModelForCausalLM.from_pretrained(directory, trust_remote_code=True)` needs PyTorch and Transformers, nothing else.

How it works. config.json describes the stock model that the attentions left over make up: K layers, numbered 0 to K-1.
Hence the cache has K layers, masks and sliding windows fall where they should, and the stock forward pass runs as it
is. Between those K blocks stand the others, at their places in the original model (the tensors keep their original
layer numbers): stock blocks too, but without the attention and the norms that served only it. A block that lost its
MLP and kept its attention is a stock block with nothing in the MLP's place: its branch puts out zeros.

The key `gatenorm` of the configuration says what was removed:

    schema           "gatenorm/pruned/1"
    base_model_type  "llama", say; the classes here are named after its classes: GatenormLlamaForCausalLM
    layers           the number of layers of the original model
    edits            what was changed: objects with `layer`, `sublayer` ("attention" or "mlp") and `operation`
    block            where the blocks are, what is left of one without attention (see `AttentionFree`), and under `mlp`
                     the modules that go with the MLP where the attention stays (see `remove_mlp`)
    plan             the plan that gatenorm carried out, as it stands in gatenorm.json

One file serves every architecture: the classes are derived from the stock ones when they are asked for by name.
"""

from __future__ import annotations

import functools
import inspect
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

SCHEMA = "gatenorm/pruned/1"
PREFIX = "Gatenorm"

# What this file has derived: classes by name, and attention-free block classes by stock class.
_classes: dict[Any, type] = {}


class AttentionFree(nn.Module):
    """What a decoder block computes once its attention is gone: the residual stream, plus its MLP branch.

    For `x` [batch, tokens, width]: the norms `before` stand on the stream itself (post-norm models), the modules of
    `branch` run one after the other beside it, and `x + branch(x)` goes through the norms `after`. Where the MLP is
    gone too, `branch` is empty and `x` goes on as it is. Mixed into the stock block class, so that whatever looks for
    blocks by class (hidden states, checkpointing, sharding) finds these too.
    """

    before: tuple[str, ...]
    branch: tuple[str, ...]
    after: tuple[str, ...]
    branch_dropout: float
    returns_tuple: bool
    stock_class: type

    def forward(self, hidden_states: Any, *args: Any, **kwargs: Any) -> Any:
        for name in self.before:
            hidden_states = getattr(self, name)(hidden_states)
        if self.branch:
            branch = hidden_states
            for name in self.branch:
                branch = getattr(self, name)(branch)
            branch = nn.functional.dropout(branch, p=self.branch_dropout, training=self.training)
            hidden_states = hidden_states + branch
        for name in self.after:
            hidden_states = getattr(self, name)(hidden_states)
        return (hidden_states, None) if self.returns_tuple else hidden_states

    def __reduce__(self) -> tuple[Any, ...]:
        # The class is made on the fly, so a pickle names the stock class that it is made from.
        return _blank_block, (self.stock_class,), self.__getstate__()


class ZeroBranch(nn.Module):
    """What stands at the end of a branch whose MLP is gone: zeros, which the block adds to the stream as ever."""

    def forward(self, hidden_states: Any, *args: Any, **kwargs: Any) -> Any:
        # A tensor of its own: Falcon adds the attention's output into it in place.
        return torch.zeros_like(hidden_states)


class Stage:
    """One kept block with the attention-free blocks around it, called like the block alone.

    The stock forward passes of most architectures take `layers[:num_hidden_layers]` and hand each one the mask of its
    own layer type: there they find K stages, numbered as the configuration numbers the attentions.
    """

    def __init__(self, before: list[Any], block: Any, after: list[Any]):
        self.before, self.block, self.after = before, block, after

    def __call__(self, hidden_states: Any, *args: Any, **kwargs: Any) -> Any:
        output = self.block(_through(self.before, hidden_states), *args, **kwargs)
        if isinstance(output, tuple):
            return (_through(self.after, output[0]), *output[1:])
        return _through(self.after, output)

    def __getattr__(self, name: str) -> Any:
        # Some versions read `decoder_layer.attention_type` before the call.
        return getattr(self.block, name)


class PhysicalLayers(nn.ModuleList):
    """All L blocks in their places, which is what iteration and indexing give; only `[:K]` gives the K `Stage`s."""

    def __init__(self, modules: Iterable[Any] | None = None, drop: Sequence[int] = ()):
        super().__init__(modules)
        self.drop = tuple(sorted(drop))

    def __getitem__(self, index: int | slice) -> Any:
        kept = len(self) - len(self.drop)
        if self.drop and isinstance(index, slice) and (index.start, index.stop, index.step) == (None, kept, None):
            return self.stages()
        return super().__getitem__(index)

    def __setitem__(self, index: int, module: Any) -> None:
        # vLLM cuts the list for pipeline parallelism by the number of attentions, and so in the wrong place.
        if self.drop and type(module).__name__ == "PPMissingLayer":
            raise ValueError(
                "a pruned model cannot be cut into pipeline stages: its layers outnumber its attentions, by which they "
                "are cut; use tensor parallelism"
            )
        super().__setitem__(index, module)

    def stages(self) -> list[Stage]:
        """The K kept blocks, each with its attention-free followers; those in front of the first go with it too."""
        blocks = list(self._modules.values())
        kept = [index for index in range(len(blocks)) if index not in self.drop]
        ends = [*kept[1:], len(blocks)]
        starts = [0, *kept[1:]]
        return [
            Stage(blocks[start:index], blocks[index], blocks[index + 1 : end])
            for start, index, end in zip(starts, kept, ends, strict=True)
        ]


def _through(blocks: list[Any], hidden_states: Any) -> Any:
    for block in blocks:
        output = block(hidden_states)
        hidden_states = output[0] if isinstance(output, tuple) else output
    return hidden_states


def _blank_block(stock_class: type) -> Any:
    return object.__new__(attention_free_class(stock_class))


def attention_free_class(stock_class: type) -> type:
    """The subclass of a stock block class whose instances have no attention."""
    if stock_class not in _classes:
        name = f"{AttentionFree.__name__}{stock_class.__name__}"
        members = {"__module__": __name__, "stock_class": stock_class}
        _classes[stock_class] = type(name, (AttentionFree, stock_class), members)
    return _classes[stock_class]


def returns_tuple(stock_class: Any, default: bool) -> bool:
    """Whether a stock block returns `(hidden_states, ...)`. Read from the code that runs, because the same architecture
    has it one way in some versions of Transformers and the other way in others; `default` where there is no source.
    """
    try:
        source = inspect.getsource(inspect.unwrap(stock_class.forward))
    except (OSError, TypeError):
        return default
    return re.search(r"^\s+return (outputs\b|\(?\w+,)", source, re.MULTILINE) is not None


def check_shape(block: Any, shape: Mapping[str, Any]) -> None:
    """Raise ValueError unless the block has all the modules that `shape` names."""
    for name in (*shape["attention"], *shape["before"], *shape["branch"], *shape["after"]):
        if not hasattr(block, name):
            raise ValueError(f"{type(block).__name__} has no {name!r}, which the shape of its block names")


def remove_attention(block: Any, shape: Mapping[str, Any], config: Any) -> None:
    """Turn a stock block, in place, into its attention-free form; `shape` is the record's `block`."""
    check_shape(block, shape)
    stock_class = type(block)
    for name in shape["attention"]:
        delattr(block, name)
    block.before, block.branch, block.after = tuple(shape["before"]), tuple(shape["branch"]), tuple(shape["after"])
    block.branch_dropout = getattr(config, shape["dropout"]) if shape["dropout"] else 0.0
    block.returns_tuple = returns_tuple(stock_class, shape.get("returns") == "tuple")
    block.__class__ = attention_free_class(stock_class)
    if lacks_mlp(block, shape):
        remove_mlp(block, shape)


def lacks_mlp(block: Any, shape: Mapping[str, Any]) -> bool:
    """Whether a block has lost its MLP, with its attention or without."""
    if isinstance(block, AttentionFree):
        return not block.branch or isinstance(getattr(block, block.branch[-1]), ZeroBranch)
    return isinstance(getattr(block, shape["branch"][-1], None), ZeroBranch)


def remove_mlp(block: Any, shape: Mapping[str, Any]) -> None:
    """Take the MLP out of a block, in place; `shape` is the record's `block`.

    A block that kept its attention stays of its stock class, whose forward pass runs as it is: the last of the modules
    that go gives way to `ZeroBranch`, those in front of it to modules that let the stream through. Norms that the
    attention reads too are not among them. Of a block without attention the whole branch goes.
    """
    if isinstance(block, AttentionFree):
        for name in block.branch:
            delattr(block, name)
        block.branch = ()
        return
    check_shape(block, shape)
    for name in shape["mlp"]:
        setattr(block, name, nn.Identity())
    setattr(block, shape["mlp"][-1], ZeroBranch())


def remove_sublayers(block: Any, shape: Mapping[str, Any], config: Any, sublayers: Iterable[str]) -> None:
    """Take what is still there of `sublayers` ("attention", "mlp") out of a block, in place."""
    sublayers = set(sublayers)
    if "mlp" in sublayers and not lacks_mlp(block, shape):
        remove_mlp(block, shape)
    if "attention" in sublayers and not isinstance(block, AttentionFree):
        remove_attention(block, shape, config)


def read_record(config: Any) -> dict[str, Any]:
    """The checked `gatenorm` key of a configuration. Raises ValueError for anything that this file cannot carry out."""
    record = getattr(config, "gatenorm", None)
    if not isinstance(record, dict):
        raise ValueError(
            f"{type(config).__name__} has no 'gatenorm' record: expected the config.json of a pruned model"
        )
    if record.get("schema") != SCHEMA:
        raise ValueError(f"schema {record.get('schema')!r} of a pruned model is unknown here: expected {SCHEMA!r}")
    missing = [key for key in ("base_model_type", "layers", "edits", "block", "plan") if key not in record]
    if missing:
        raise ValueError(f"the 'gatenorm' record lacks {', '.join(missing)}")
    layers = record["layers"]
    for sublayer in ("attention", "mlp"):
        named = edited_layers(record, sublayer)
        if len(set(named)) != len(named) or not set(named) <= set(range(layers)):
            raise ValueError(
                f"the edits of {sublayer} name layers {named}: expected numbers from 0 to {layers - 1}, each once"
            )
        if len(named) == layers:
            raise ValueError(f"the edits take the {sublayer} of all {layers} layers: at least one must stay")
    kept = layers - len(edited_layers(record, "attention"))
    if config.num_hidden_layers != kept:
        raise ValueError(
            f"num_hidden_layers is {config.num_hidden_layers}: expected the {kept} layers that kept their attention "
            f"({layers} layers, {layers - kept} of them without)"
        )
    return record


def edited_layers(record: Mapping[str, Any], sublayer: str) -> list[int]:
    """The layers whose `sublayer` ("attention", "mlp") is edited."""
    return [edit["layer"] for edit in record["edits"] if edit["sublayer"] == sublayer]


def edited(record: Mapping[str, Any], layer: int) -> tuple[str, ...]:
    """The edited sublayers of a layer: "attention", "mlp"."""
    return tuple(edit["sublayer"] for edit in record["edits"] if edit["layer"] == layer)


def locate_blocks(model: Any, path: str) -> tuple[Any, str]:
    """The module that holds the block list, and the list's name in it. `path` is that in the causal model; a base model
    (AutoModel) is what lies below its `base_model_prefix`.
    """
    if not hasattr(model, model.base_model_prefix):
        path = path.removeprefix(model.base_model_prefix + ".")
    owner, _, name = path.rpartition(".")
    return model.get_submodule(owner), name


def install(model: Any, blocks: Sequence[Any], record: Mapping[str, Any]) -> None:
    """Put the L blocks in their places, and tell device maps that a block without attention is a block as well."""
    owner, name = locate_blocks(model, record["block"]["path"])
    setattr(owner, name, PhysicalLayers(blocks, edited_layers(record, "attention")))
    names = {type(block).__name__ for block in blocks}
    for module in model.modules():
        if isinstance(module, transformers.PreTrainedModel):
            module._no_split_modules = sorted(names.union(module._no_split_modules or ()))
            if hasattr(module, "get_head_mask"):
                module.get_head_mask = functools.partial(head_masks, record["layers"])


def head_masks(layers: int, head_mask: Any, attentions: int) -> list[None]:
    """Stands in for what Transformers 4 calls for a mask an attention, and from which it then takes one a block."""
    if head_mask is not None:
        raise ValueError(f"head_mask is given: a pruned model of {attentions} attentions in {layers} blocks takes none")
    return [None] * layers


class PrunedModel(nn.Module):
    """Mixin in front of a stock model class: its K layers, with the attention-free blocks put between them."""

    stock_class: Any

    def __init__(self, config: Any, *args: Any, **kwargs: Any):
        record = read_record(config)
        super().__init__(config, *args, **kwargs)
        owner, name = locate_blocks(self, record["block"]["path"])
        kept = list(getattr(owner, name))
        stock_class, blocks = type(kept[0]), []
        without_attention = edited_layers(record, "attention")
        for index in range(record["layers"]):
            # Any layer number will do for the others: it only matters to the attention, which goes at once.
            blocks.append(stock_class(config, 0) if index in without_attention else kept.pop(0))
            remove_sublayers(blocks[-1], record["block"], config, edited(record, index))
        install(self, blocks, record)
        # Again, now that all modules are there: initial weights for the new blocks, and what device maps go by.
        self.post_init()

    @classmethod
    def _can_set_attn_implementation(cls) -> bool:
        # Transformers reads this off the source that a class is written in: here, that of its stock class.
        return bool(cls.stock_class._can_set_attn_implementation())


class PrunedConfig:
    """Mixin in front of a stock configuration class: what it writes loads again, here and where gatenorm is unknown."""

    # Makes `save_pretrained` copy this file into the directory.
    _auto_class = "AutoConfig"

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        record = read_record(self)
        self.auto_map = auto_map(record["base_model_type"])
        Path(save_directory).mkdir(parents=True, exist_ok=True)
        plan = json.dumps(record["plan"], indent=2, ensure_ascii=False)
        Path(save_directory, "gatenorm.json").write_text(plan + "\n", encoding="utf-8")
        super().save_pretrained(save_directory, *args, **kwargs)  # type: ignore[misc]


def class_names(base_model_type: str) -> dict[str, str]:
    """The class names of an architecture: of its configuration, its base model and its causal language model."""
    from transformers.models.auto import configuration_auto, modeling_auto

    tables = {
        "AutoConfig": configuration_auto.CONFIG_MAPPING_NAMES,
        "AutoModel": modeling_auto.MODEL_MAPPING_NAMES,
        "AutoModelForCausalLM": modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    }
    if any(base_model_type not in table for table in tables.values()):
        version = transformers.__version__
        raise ValueError(f"model type {base_model_type!r} is no causal language model of Transformers {version}")
    return {auto: PREFIX + table[base_model_type] for auto, table in tables.items()}


def auto_map(base_model_type: str) -> dict[str, str]:
    """The `auto_map` of config.json: which class of this file each Auto class is to take."""
    return {auto: f"modeling_gatenorm.{name}" for auto, name in class_names(base_model_type).items()}


def inherit_renamings(name: str, stock: Any) -> None:
    """Let tensors that Transformers renames while it loads the stock class be renamed for the class `name` too: files
    of GPT-NeoX call the head `embed_out`. Transformers 4 has no such table.
    """
    try:
        from transformers import conversion_mapping as table
    except ImportError:
        return
    renamings = table.get_checkpoint_conversion_mapping(stock.__name__)
    renamings = renamings or table.get_checkpoint_conversion_mapping(stock.config_class.model_type)
    if renamings is not None:
        table.register_checkpoint_conversion_mapping(name, renamings, overwrite=True)


def __getattr__(name: str) -> Any:
    """Derive, once, `GatenormX` from the class X of Transformers: a configuration, or a model that has one."""
    if name in _classes:
        return _classes[name]
    stock: Any = getattr(transformers, name.removeprefix(PREFIX), None) if name.startswith(PREFIX) else None
    bases = stock.__mro__ if isinstance(stock, type) else ()
    members: dict[str, Any] = {"__module__": __name__, "__qualname__": name}
    if transformers.PretrainedConfig in bases and stock.model_type:
        members["model_type"] = f"{PREFIX.lower()}_{stock.model_type}"
        _classes[name] = type(name, (PrunedConfig, stock), members)
    elif transformers.PreTrainedModel in bases and stock.config_class is not None:
        members |= {"stock_class": stock, "config_class": __getattr__(PREFIX + stock.config_class.__name__)}
        # Named once more as a base of its own, which is where Transformers looks for it in classes like these.
        generation = (transformers.GenerationMixin,) if transformers.GenerationMixin in bases else ()
        _classes[name] = type(name, (PrunedModel, stock, *generation), members)
        inherit_renamings(name, stock)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _classes[name]

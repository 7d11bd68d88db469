"""Causal language models in which gatenorm removed or replaced whole sublayers (attention, MLP), for Transformers.

A copy of this file lies in every checkpoint that gatenorm writes; `auto_map` in config.json names the classes here, so
`AutoModelForCausalLM.from_pretrained(directory, trust_remote_code=True)` needs PyTorch and Transformers, nothing else.

How it works. config.json describes the stock model that the remaining K attentions make up, numbered 0 to K-1. Hence
the cache has K layers, masks and sliding windows are right, and the stock forward pass runs unchanged. Between those K
blocks are the others, at their places in the original model (tensors keep their original layer numbers): stock blocks
too, but without the attention and the norms that served only it. A block that lost its MLP and kept its attention is a
stock block whose MLP puts out zeros. An operation may put a function of its own in a sublayer's place: see
`Replacement`.

Blocks of some architectures hold more than an attention and an MLP, or their configuration counts blocks in ways that
no renumbering can follow. There (`in_place`) every block stays what and where it is: the configuration and the cache
have all L layers, and an attention that is gone gives way to a `StandIn`, which adds nothing.

The key `gatenorm` of the configuration says what was changed:

    schema           "gatenorm/pruned/1"
    base_model_type  "llama", say; the classes here are named after its classes: GatenormLlamaForCausalLM
    layers           the number of layers of the original model
    edits            what was changed: objects with `layer`, `sublayer` ("attention" or "mlp") and `operation`
    block            where the blocks are, what is left of one without attention (see `AttentionFree`), under `mlp` the
                     modules that go with the MLP where the attention stays (see `edit_mlp`), under `norm` the norm in
                     front of the attention, and whether attention and MLP read the same stream (`parallel`)
    original         of architectures whose blocks are made after their number: the keys of config.json that speak of
                     layers, as they were in the original model; absent elsewhere
    operations       of operations that compute something: `normed`, whether they read the output of that norm, and
                     `tensors`, the shapes of what they store; or `folded`: they left nothing behind, and what the
                     sublayer did is in the weights of an MLP. Absent where there are none
    plan             the plan that gatenorm carried out, as it stands in gatenorm.json

One file serves every architecture: the classes are derived from the stock ones when they are asked for by name.
"""

from __future__ import annotations

import ast
import copy
import functools
import importlib
import inspect
import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

SCHEMA = "gatenorm/pruned/1"
PREFIX = "Gatenorm"
# The one operation that leaves nothing in a sublayer's place.
REMOVE = "remove"

# How attentions call their own number, by which they find their cache layer.
_LAYER_NUMBERS = ("layer_idx", "layer_id")

# What this file has derived: classes by name, and attention-free block classes by stock class. For as long as the
# process lives, since `isinstance`, pickles and the Auto classes need the same class each time.
_classes: dict[Any, type] = {}


class AttentionFree(nn.Module):
    """What a decoder block computes without its attention: the residual stream, plus its MLP branch.

    For `x` [batch, tokens, width]: what `replacement` makes of `x`, behind the norm called `norm_name`, is added in the
    attention's place. Then the norms `before` run on the stream itself (post-norm models), the modules of `branch` one
    after the other beside it, and `x + multiplier * branch(x)` goes through the norms `after`. In `parallel` blocks the
    branch reads what the attention read. Where the MLP is removed too, or is a block of its own, `branch` is empty and
    `x` goes on as it is. Mixed into the stock block class, so that whatever looks for blocks by class (hidden states,
    checkpointing, sharding) finds these too.
    """

    replacement: str
    norm_name: str
    parallel: bool
    before: tuple[str, ...]
    branch: tuple[str, ...]
    after: tuple[str, ...]
    branch_dropout: float
    multiplier: float
    returns_tuple: bool
    stock_class: type

    def forward(self, hidden_states: Any, *args: Any, **kwargs: Any) -> Any:
        entering = hidden_states
        if self.replacement:
            read = getattr(self, self.norm_name)(entering) if self.norm_name else entering
            hidden_states = hidden_states + self.multiplier * getattr(self, self.replacement)(read)
        for name in self.before:
            hidden_states = getattr(self, name)(hidden_states)
        if self.branch:
            branch = entering if self.parallel else hidden_states
            for name in self.branch:
                branch = _stream(getattr(self, name)(branch))
            branch = nn.functional.dropout(branch, p=self.branch_dropout, training=self.training)
            hidden_states = hidden_states + self.multiplier * branch
        for name in self.after:
            hidden_states = getattr(self, name)(hidden_states)
        return (hidden_states, None) if self.returns_tuple else hidden_states

    def __reduce__(self) -> tuple[Any, ...]:
        # The class is made on the fly, so a pickle names the stock class that it is made from.
        return _blank_block, (self.stock_class,), self.__getstate__()


class StandIn(nn.Module):
    """In the place of a sublayer that is gone, in a block whose stock forward pass runs on: zeros.

    In an attention's place, with the number of its layer in the cache, it puts one element a token there: caches tell
    by a layer, the first one as a rule, how many tokens they hold.
    """

    returns_tuple = False
    cached_as: int | None = None

    def forward(self, hidden_states: Any, *args: Any, past_key_values: Any = None, **kwargs: Any) -> Any:
        update = self.make(hidden_states)
        if past_key_values is not None and self.cached_as is not None:
            cell = hidden_states[:, None, :, :1]
            past_key_values.update(cell, cell, self.cached_as)
        return (update, None) if self.returns_tuple else update

    def make(self, hidden_states: Any) -> Any:
        # A tensor of its own: Falcon adds the attention's output into it in place.
        return torch.zeros_like(hidden_states)


class Replacement(StandIn):
    """What an operation puts in a sublayer's place: its `update(x, weights)`, from tensors of its own."""

    def __init__(self, operation: str, shapes: Mapping[str, Sequence[int]]):
        super().__init__()
        # Looked up here, since torch.compile cannot trace the search.
        self.update = update_of(operation)
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(*shape)))

    def make(self, hidden_states: Any) -> Any:
        return self.update(hidden_states, dict(self.named_parameters()))


class Through(nn.Module):
    """In the place of what stood in front of a sublayer that is gone: the stream, whatever else comes with it."""

    def forward(self, hidden_states: Any, *args: Any, **kwargs: Any) -> Any:
        return hidden_states


def function_name(operation: str) -> str:
    """What the `update` of an operation is called here; behind a colon its name carries a rank."""
    return "update_" + operation.partition(":")[0].replace("-", "_")


def update_of(operation: str) -> Any:
    """The function `update(x, weights)` of an operation: at the end of this file in directories, or gatenorm's own."""
    name = function_name(operation)
    if name in globals():
        return globals()[name]
    try:  # by name: Transformers refuses files that import what is not installed
        return importlib.import_module("gatenorm.surgery.operation").operation_named(operation).update
    except ImportError:
        raise ValueError(f"the operation {operation!r} is not known to this file: install gatenorm") from None


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
    """All L blocks in their places, which is what iteration and indexing give; only `[:K]` gives the K `Stage`s.

    Where a stock forward pass takes entries of lists by layer by a block's position, iteration gives the stages too
    while it runs: `by_position` is then set.
    """

    by_position = False

    def __init__(self, modules: Iterable[Any] | None = None, drop: Sequence[int] = ()):
        super().__init__(modules)
        self.drop = tuple(sorted(drop))

    def __getitem__(self, index: int | slice) -> Any:
        kept = len(self) - len(self.drop)
        if self.drop and isinstance(index, slice) and (index.start, index.stop, index.step) == (None, kept, None):
            return self.stages()
        return super().__getitem__(index)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.stages()) if self.by_position and self.drop else super().__iter__()

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
        hidden_states = _stream(block(hidden_states))
    return hidden_states


def _stream(output: Any) -> Any:
    """What a module makes of the stream, of all that it returns (some mixtures of experts return their choice too)."""
    return output[0] if isinstance(output, tuple) else output


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
        source = textwrap.dedent(inspect.getsource(inspect.unwrap(stock_class.forward)))
    except (OSError, TypeError):
        return default
    nodes = list(ast.walk(ast.parse(source)))
    tuples: set[str] = set()  # names that a tuple is assigned to

    def is_tuple(value: Any) -> bool:
        if isinstance(value, ast.BinOp):  # (hidden_states,) + outputs[1:]
            return is_tuple(value.left) or is_tuple(value.right)
        if isinstance(value, ast.IfExp):
            return is_tuple(value.body) or is_tuple(value.orelse)
        return isinstance(value, ast.Tuple) or (isinstance(value, ast.Name) and value.id in tuples)

    for node in nodes:
        if isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign)) and is_tuple(node.value):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            tuples.update(target.id for target in targets if isinstance(target, ast.Name))
    return any(isinstance(node, ast.Return) and is_tuple(node.value) for node in nodes)


def check_shape(block: Any, shape: Mapping[str, Any], edits: Iterable[str]) -> None:
    """Raise ValueError unless the block has all the modules that `shape` names, of the attention where it is edited:
    blocks with another mixer have none, but an MLP.
    """
    attention = shape["attention"] if "attention" in edits else ()
    for name in (*attention, *shape["before"], *shape["branch"], *shape["after"]):
        if not hasattr(block, name):
            raise ValueError(f"{type(block).__name__} has no {name!r}, which the shape of its block names")


def edit_block(
    block: Any, shape: Mapping[str, Any], config: Any, edits: Mapping[str, str], operations: Mapping[str, Any]
) -> None:
    """Edit a stock block, or one edited before, in place.

    `shape` is the record's `block`, `edits` names the operation of every edited sublayer ("attention", "mlp"), of which
    those that were edited before are left as they are; `operations` are the record's.
    """
    if "mlp" in edits and not lacks_mlp(block, shape):
        edit_mlp(block, shape, edits["mlp"], operations)
    if "attention" in edits and not lacks_attention(block, shape):
        edit_attention(block, shape, config, edits["attention"], operations)


def edit_attention(
    block: Any, shape: Mapping[str, Any], config: Any, operation: str, operations: Mapping[str, Any]
) -> None:
    """Turn a stock block, in place, into its attention-free form."""
    check_shape(block, shape, ["attention"])
    stock_class, without_mlp = type(block), lacks_mlp(block, shape)
    described = description(operation, operations)
    norm = shape["norm"] if described is not None and described["normed"] else None
    if shape.get("in_place"):
        _put_in_place(block, [name for name in shape["attention"] if name != norm], operation, described)
        return
    for name in shape["attention"]:
        if name != norm:
            delattr(block, name)
    block.before, block.branch, block.after = tuple(shape["before"]), tuple(shape["branch"]), tuple(shape["after"])
    block.branch_dropout = getattr(config, shape["dropout"]) if shape["dropout"] else 0.0
    block.multiplier = getattr(config, shape["multiplier"]) if shape.get("multiplier") else 1.0
    block.returns_tuple = returns_tuple(stock_class, shape.get("returns") == "tuple")
    block.norm_name, block.parallel, block.replacement = norm or "", shape["parallel"], ""
    if described is not None:
        block.replacement = shape["attention"][0]
        setattr(block, block.replacement, Replacement(operation, described["tensors"]))
    block.__class__ = attention_free_class(stock_class)
    if without_mlp:
        last = getattr(block, shape["mlp"][-1])
        _drop_branch(block, shape, last if isinstance(last, Replacement) else None)


def _put_in_place(block: Any, modules: Sequence[str], operation: str, described: Any) -> None:
    """Let the stock forward pass of a block run on without its attention, the first of `modules`."""
    stock = getattr(block, modules[0])
    stand_in = StandIn() if described is None else Replacement(operation, described["tensors"])
    stand_in.returns_tuple = True
    # Some attentions read the keys and values of another layer, and have no place in the cache.
    if not getattr(stock, "is_kv_shared_layer", False):
        stand_in.cached_as = next(getattr(stock, key) for key in _LAYER_NUMBERS if hasattr(stock, key))
    for name in modules:
        setattr(block, name, Through())
    setattr(block, modules[0], stand_in)


def lacks_attention(block: Any, shape: Mapping[str, Any]) -> bool:
    """Whether the attention of a block is edited."""
    return isinstance(block, AttentionFree) or isinstance(getattr(block, shape["attention"][0], None), StandIn)


def description(operation: str, operations: Mapping[str, Any]) -> Any:
    """What the record says of an operation that computes something; None of one that leaves nothing in its place."""
    described = operations.get(operation)
    return None if described is None or described.get("folded") else described


def lacks_mlp(block: Any, shape: Mapping[str, Any]) -> bool:
    """Whether the MLP of a block is edited, whether or not its attention is."""
    if isinstance(block, AttentionFree) and not block.branch:
        return True
    return any(isinstance(getattr(block, name, None), StandIn) for name in shape["branch"][-1:])


def edit_mlp(block: Any, shape: Mapping[str, Any], operation: str, operations: Mapping[str, Any]) -> None:
    """Take the MLP out of a block, in place.

    A block that kept its attention stays of its stock class, whose forward pass runs unchanged: the last of the modules
    that go gives way to a `StandIn` or a `Replacement`, those in front of it to modules that let the stream through.
    Norms that the attention reads too are not among them. Of a block without attention the whole branch goes.
    """
    described = description(operation, operations)
    replacement = None if described is None else Replacement(operation, described["tensors"])
    if isinstance(block, AttentionFree):
        _drop_branch(block, shape, replacement)
        return
    check_shape(block, shape, ["mlp"])
    stock_class = type(getattr(block, shape["mlp"][-1]))
    for name in shape["mlp"]:
        setattr(block, name, StandIn() if name in shape.get("beside", ()) else Through())
    last = replacement or StandIn()
    # Llama 4's mixtures hand back more than the stream, its dense MLPs do not.
    last.returns_tuple = returns_tuple(stock_class, shape.get("mlp_returns") == "tuple")
    setattr(block, shape["mlp"][-1], last)


def _drop_branch(block: Any, shape: Mapping[str, Any], replacement: Any) -> None:
    """Remove the branch of an attention-free block; a replacement reads what is left of it: norms of both sublayers."""
    shared = [name for name in block.branch if name not in shape["mlp"]]
    for name in block.branch:
        if name != block.norm_name and not (replacement is not None and name in shared):
            delattr(block, name)
    block.branch = ()
    if replacement is not None:
        setattr(block, shape["mlp"][-1], replacement)
        block.branch = (*shared, shape["mlp"][-1])


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
    without = sorted({edit["operation"] for edit in record["edits"]} - {REMOVE} - set(record.get("operations", {})))
    if without:
        raise ValueError(f"the 'gatenorm' record does not describe the operation {without[0]!r}")
    layers = record["layers"]
    for sublayer in ("attention", "mlp"):
        named = edited_layers(record, sublayer)
        if len(set(named)) != len(named) or not set(named) <= set(range(layers)):
            raise ValueError(
                f"the edits of {sublayer} name layers {named}: expected numbers from 0 to {layers - 1}, each once"
            )
        if len(named) == layers:
            raise ValueError(f"the edits take the {sublayer} of all {layers} layers: at least one must stay")
    gone = 0 if record["block"].get("in_place") else len(edited_layers(record, "attention"))
    kept, counted = layers - gone, config.get_text_config().num_hidden_layers
    if counted != kept:
        raise ValueError(
            f"num_hidden_layers is {counted}: expected the {kept} layers that kept their attention "
            f"({layers} layers, {gone} of them without)"
        )
    return record


def edited_layers(record: Mapping[str, Any], sublayer: str) -> list[int]:
    """The layers whose `sublayer` ("attention", "mlp") is edited."""
    return [edit["layer"] for edit in record["edits"] if edit["sublayer"] == sublayer]


def edits_of(record: Mapping[str, Any], layer: int) -> dict[str, str]:
    """The operations in the place of a layer's edited sublayers ("attention", "mlp")."""
    return {edit["sublayer"]: edit["operation"] for edit in record["edits"] if edit["layer"] == layer}


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
    in_place = record["block"].get("in_place")
    layers = PhysicalLayers(blocks, () if in_place else edited_layers(record, "attention"))
    setattr(owner, name, layers)
    if record["block"].get("by_position") and not getattr(owner, "walks_stages", False):
        owner.walks_stages = True
        owner.register_forward_pre_hook(functools.partial(_walk, name, True))
        owner.register_forward_hook(functools.partial(_walk, name, False), always_call=True)
    names = {type(block).__name__ for block in blocks}
    for module in model.modules():
        if isinstance(module, transformers.PreTrainedModel):
            module._no_split_modules = sorted(names.union(module._no_split_modules or ()))
            if hasattr(module, "get_head_mask"):
                module.get_head_mask = functools.partial(head_masks, record["layers"])


def _walk(name: str, begins: bool, owner: Any, *_: Any) -> None:
    getattr(owner, name).by_position = begins


def head_masks(layers: int, head_mask: Any, attentions: int) -> list[None]:
    """Stands in for what Transformers 4 calls for a mask an attention, and from which it then takes one a block."""
    if head_mask is not None:
        raise ValueError(f"head_mask is given: a pruned model of {attentions} attentions in {layers} blocks takes none")
    return [None] * layers


def original_config(config: Any, record: Mapping[str, Any]) -> Any:
    """The configuration of the unpruned model, where blocks are made after their number in it; else None."""
    if "original" not in record:
        return None
    original = copy.deepcopy(config)
    for key, value in record["original"].items():
        setattr(original, key, value)
    return original


def replace_config(model: Any, old: Any, new: Any) -> None:
    """Give every module that holds the old configuration object the new one, under whatever name it holds it."""
    for module in model.modules():
        for key, value in list(vars(module).items()):
            if value is old:
                setattr(module, key, new)


def renumber(block: Any, number: int) -> None:
    """Tell the modules of a block the number of its layer in the cache."""
    for module in block.modules():
        for key in _LAYER_NUMBERS:
            if hasattr(module, key):
                setattr(module, key, number)


class PrunedModel(nn.Module):
    """Mixin in front of a stock model class: its K layers, with the attention-free blocks put between them."""

    stock_class: Any

    def __init__(self, config: Any, *args: Any, **kwargs: Any):
        record = read_record(config)
        super().__init__(config, *args, **kwargs)
        owner, name = locate_blocks(self, record["block"]["path"])
        config = owner.config  # of the language model, which may be a part of the whole
        kept = list(getattr(owner, name))
        stock_class, blocks = type(kept[0]), []
        without_attention = () if record["block"].get("in_place") else edited_layers(record, "attention")
        original = original_config(config, record)
        for index in range(record["layers"]):
            if original is not None:
                blocks.append(stock_class(original, index))
                replace_config(blocks[-1], original, config)
                renumber(blocks[-1], sum(layer not in without_attention for layer in range(index)))
            else:
                # Any layer number will do for the others: it only matters to the attention, which goes at once.
                blocks.append(stock_class(config, 0) if index in without_attention else kept.pop(0))
            edit_block(blocks[-1], record["block"], config, edits_of(record, index), record.get("operations", {}))
        install(self, blocks, record)
        # Again, now that all modules are there: initial weights for the new blocks, and what device maps go by.
        self.post_init()

    @classmethod
    def _can_set_attn_implementation(cls) -> bool:
        # Transformers reads this off the source that a class is written in: here, that of its stock class.
        return bool(cls.stock_class._can_set_attn_implementation())

    @classmethod
    def is_custom_code(cls) -> bool:
        # Of such classes Transformers initialises modules with tensors of their own only: Falcon-H1's model has none,
        # and makes buffers of its blocks.
        return False


class PrunedConfig:
    """Mixin in front of a stock configuration class: what it writes loads again, here and where gatenorm is unknown."""

    # Makes `save_pretrained` copy this file into the directory.
    _auto_class = "AutoConfig"

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        record = read_record(self)
        Path(save_directory).mkdir(parents=True, exist_ok=True)
        plan = json.dumps(record["plan"], indent=2, ensure_ascii=False)
        Path(save_directory, "gatenorm.json").write_text(plan + "\n", encoding="utf-8")
        super().save_pretrained(save_directory, *args, **kwargs)  # type: ignore[misc]
        # Transformers has copied this file, which may lack the functions of operations.
        operations = record.get("operations", {})
        missing = [n for n in operations if description(n, operations) and function_name(n) not in globals()]
        if missing:
            source = importlib.import_module("gatenorm.surgery.config").modelling_source(missing)
            Path(save_directory, "modeling_gatenorm.py").write_text(source, encoding="utf-8")


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

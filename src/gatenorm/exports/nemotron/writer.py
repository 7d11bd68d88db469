"""``nemotron-nas`` directories: Llama with a description of every block, in which attention, MLP or both may be no-ops.

vLLM, SGLang, TensorRT-LLM, ExLlamaV3 and MLX-LM read them as they are. Tensors keep Llama's names and the layer numbers
of the source; ``block_configs`` in ``config.json`` says which blocks have attention, and which an MLP.

A linear map in an attention's place becomes a block of its own in front of its layer, with the map in the place of its
MLP (``replace_with_linear``); the blocks behind it are numbered anew. In an attention's place MLX-LM reads one too, but
gives it a key/value cache that stays empty, on which its batches and its server fail.

Three more things are not as in the source. All are exact:

* A block's MLP width is not written down but computed by the readers, which round it up to a multiple of 256. An MLP of
  another width is filled up with hidden units whose weights are zero: ``silu(0) * 0 = 0``.
* One switch puts biases on q, k, v and o together. Where the source has some of them, the others are written as zeros.
* Where layer 0 lost its attention, it gets one that computes zero. vLLM (0.32) crashes on a model whose first block has
  no attention, since that is where it starts the residual stream.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gatenorm.checkpoint import TRANSFORMERS, open_store
from gatenorm.checkpoint.dtypes import STORAGE_TYPES
from gatenorm.engines.vllm import plugin
from gatenorm.errors import EvaluationError
from gatenorm.exports import llama_like
from gatenorm.exports.nemotron import tensors
from gatenorm.exports.registry import Variant
from gatenorm.families import Layout, Rotary
from gatenorm.families.family import value
from gatenorm.files import new_directory, write_json
from gatenorm.progress import Progress
from gatenorm.records import ATTENTION, MLP, Edits, ModelIdentity, Written, spans, to_json
from gatenorm.surgery.card import export_card
from gatenorm.surgery.config import MODELLING_FILE, tokenizer_config
from gatenorm.surgery.disk import carry_over
from gatenorm.surgery.exported import export_entries

SCHEMA = "gatenorm/nemotron-nas/1"
CONFIGURATION = Path(plugin.__file__).with_name("configuration_decilm.py")

_NO_OP = {"attention": {"no_op": True, "replace_with_linear": False, "n_heads_in_group": None}}
_WRITTEN = {"config.json", "README.md", CONFIGURATION.name, MODELLING_FILE.name}
# What transformers takes where config.json names no token, of the families that can be written so and take any. As
# defaults of a family they would be inherited by all that are like it, most of which take others.
_SPECIAL_TOKENS = {"llama": {"bos_token_id": 1, "eos_token_id": 2}, "mistral": {"bos_token_id": 1, "eos_token_id": 2}}


def obstacles(layout: Layout) -> list[str]:
    """Why this model cannot be written so, one line a reason; empty when it can."""
    reasons = llama_like.obstacles(layout)
    if layout.checkpoint.form != TRANSFORMERS:
        reasons.append("its tensors lie in one file, in an order of its own: convert it to a directory first")
    if reasons:
        return reasons
    return llama_like.foreign(
        layout, {source for source, _ in tensors.tensors(layout, read=False) if source is not None}, tensors.FORM
    )


def remarks(layout: Layout) -> list[str]:
    """What whoever serves it should know, one line each."""
    return list(_remarks(layout))


def write(layout: Layout, out: Path, *, dtype: str, progress: Progress | None) -> Written:
    """Write the directory, whole or not at all; the stored type stays as it is, so ``dtype`` is ``auto``.

    Raises:
        OutputError: ``out`` is taken, cannot be written, or the disk is full.
        CheckpointError: the source lacks a tensor.
    """
    weights, notes = tensors.weight_files(layout), tuple(remarks(layout))
    config, tokenizer = nemotron_config(layout), tokenizer_config(layout)
    with new_directory(out, weights.size) as temporary:
        weights.write(temporary, progress)
        carried, left_out = carry_over(layout.checkpoint, temporary, _WRITTEN)
        write_json(temporary / "config.json", config)
        if tokenizer is not None:
            write_json(temporary / "tokenizer_config.json", tokenizer)
        shutil.copyfile(CONFIGURATION, temporary / CONFIGURATION.name)
        (temporary / "README.md").write_text(export_card(layout, tensors.FORM, notes, carried), encoding="utf-8")
    return Written(out=str(out), bytes=weights.size, notes=notes, left_out=tuple(left_out))


def recognises(path: Path) -> bool:
    """Whether it is a directory of this model type."""
    return (path / "config.json").is_file() and open_store(path).config.get("model_type") == tensors.FORM


def read(path: Path) -> Variant:
    """What a directory says of the model in it.

    Raises:
        CheckpointError, EvaluationError: it is damaged, or does not describe its blocks.
    """
    checkpoint = open_store(path)
    config = checkpoint.config
    blocks = config.get("block_configs") or []
    try:
        if "gatenorm" in config:  # blocks say only what is gone; an attention that computes zero is none that is gone
            written, zero = Edits.from_json(config["gatenorm"]["edits"]), config["gatenorm"]["zero_attention"]
            edits = Edits(edit for edit in written if edit.sublayer != ATTENTION or edit.layer not in zero)
            layers = int(config["gatenorm"]["layers"])
        else:
            edits = Edits.of(ATTENTION, (i for i, block in enumerate(blocks) if block["attention"]["no_op"]))
            edits |= Edits.of(MLP, (i for i, block in enumerate(blocks) if block["ffn"]["no_op"]))
            layers = len(blocks)
    except (TypeError, KeyError, ValueError, OverflowError):
        problem = f"{path}/config.json: block_configs do not say what was removed"
        raise EvaluationError("config-wrong", problem) from None
    identity = ModelIdentity(
        name=checkpoint.name,
        model_type=tensors.FORM,
        layers=layers,
        config_sha256=checkpoint.config_sha256,
        files=checkpoint.files,
        sample_sha256=checkpoint.sample_sha256(),
    )
    context = config.get("max_position_embeddings")
    return Variant(path, tensors.FORM, identity, edits, context if isinstance(context, int) else None)


def nemotron_config(layout: Layout) -> dict[str, Any]:
    """The ``config.json``: Llama's keys in the spelling of transformers 4, which all readers know, and the blocks."""
    config, data, rotary = layout.config, layout.data, layout.rotary
    assert rotary is not None  # or there are obstacles
    embedding = layout.checkpoint.spec(llama_like.outer(layout, "embedding"))
    widths = {layer: tensors.widened(tensors.mlp_width(layout, layer)) for layer in layout.mlp_layers}
    attending = {*layout.attention_layers, *tensors.zero_attention(layout)}
    special = _SPECIAL_TOKENS.get(layout.model_type, {})
    blocks = [
        _block(layout, block.layer, block.layer in attending, widths.get(block.layer))
        if block.apart is None
        else _NO_OP | {"ffn": {**block.apart[0].settings}}
        for block in tensors.blocks(layout)
    ]
    return {
        "architectures": ["DeciLMForCausalLM"],
        "model_type": tensors.FORM,
        "auto_map": {"AutoConfig": f"{CONFIGURATION.stem}.DeciLMConfig"},
        "vocab_size": embedding.shape[0],
        "hidden_size": layout.width,
        "intermediate_size": max(widths.values()),
        "num_hidden_layers": len(blocks),
        "num_attention_heads": layout.heads,
        # Said block by block; the models that readers were written for have null here.
        "num_key_value_heads": None,
        "head_dim": layout.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": layout.context,
        "rms_norm_eps": value(config, data, "rms_norm_eps"),
        "rope_theta": rotary.theta,
        **_rope_scaling(rotary),
        "attention_bias": tensors.biased(layout),
        "mlp_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": llama_like.tied(layout),
        **{key: config.get(key, special.get(key)) for key in ("bos_token_id", "eos_token_id", "pad_token_id")},
        "torch_dtype": STORAGE_TYPES[embedding.dtype].torch,
        "use_cache": True,
        "block_configs": blocks,
        "gatenorm": {
            "schema": SCHEMA,
            "base_model_type": layout.model_type,
            "layers": layout.layers,
            "edits": to_json(layout.edits),
            "zero_attention": list(tensors.zero_attention(layout)),
        },
    }


def _remarks(layout: Layout) -> Iterator[str]:
    width = tensors.mlp_width(layout, layout.mlp_layers[0])
    written, kept = tensors.widened(width), len(layout.attention_layers)
    yield f"start engines with --trust-remote-code: config.json needs {CONFIGURATION.name}, which lies beside it"
    apart = [block.layer for block in tensors.blocks(layout) if block.apart is not None]
    if apart:
        yield (
            f"what replaced the attention of layers {spans(apart)} is written as blocks of their own, which makes "
            f"{layout.layers + len(apart)} blocks, numbered anew; vLLM reads them only where gatenorm is installed"
        )
    if tensors.zero_attention(layout):
        yield (
            "layer 0 has no attention in the source and was written with one that computes zero (exact), since stock "
            f"vLLM crashes without any. It costs the compute and the key/value cache of one attention: {kept + 1} of "
            f"{layout.layers} layers keep a cache, not {kept}"
        )
    if written != width:
        yield (
            f"the MLP was widened with zeros from {width:,} to {written:,} hidden units (exact), since readers know "
            f"multiples of {tensors.MULTIPLE} only: its weights are {written / width - 1:.1%} larger"
        )
    if tensors.biased(layout):
        yield "its attention has biases, which TensorRT-LLM leaves out: do not serve it there"
    if layout.heads * layout.head_dim != layout.width:
        yield (
            f"its {layout.heads} heads of {layout.head_dim} are not as wide as the model ({layout.width}): MLX-LM "
            "refuses that"
        )


def _block(layout: Layout, layer: int, attends: bool, width: int | None) -> dict[str, Any]:
    group = layout.heads // layout.kv_heads
    no_linear = {"replace_with_linear": False}
    settings = {
        sublayer: entry.settings
        for sublayer, (entry, _) in export_entries(layout, tensors.FORM, layer).items()
        if not entry.own_block
    }
    return {
        "attention": {
            "no_op": not attends,
            **no_linear,
            "n_heads_in_group": group if attends else None,
            **settings.get(ATTENTION, {}),
        },
        "ffn": {
            "no_op": width is None,
            **no_linear,
            "ffn_mult": None if width is None else tensors.ffn_mult(width, layout.width),
            **settings.get(MLP, {}),
        },
    }


def _rope_scaling(rotary: Rotary) -> dict[str, Any]:
    if rotary.kind == "default":
        return {}
    scaling = {"rope_type": rotary.kind, "factor": rotary.scaling["factor"]}
    if rotary.kind == "llama3":
        scaling |= {key: rotary.scaling[key] for key in ("low_freq_factor", "high_freq_factor")}
        # Spelled out: readers differ in what they take where it is missing.
        scaling |= {(key := "original_max_position_embeddings"): rotary.scaling.get(key, rotary.context)}
    return {"rope_scaling": scaling}

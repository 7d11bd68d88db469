"""What engines can express whose model code is Llama's with attention left out of some layers, and what they cannot.

llama.cpp's architecture ``deci`` and the ``nemotron-nas`` directories of vLLM, SGLang, TensorRT-LLM, ExLlamaV3 and
MLX-LM both describe such a model. They know one block: an RMSNorm before each branch, rotary attention, a SiLU-gated
MLP. Whatever else a model does they would load without a word and compute otherwise, so it is refused here, by name.
"""

import math
from collections.abc import Iterator, Set
from typing import Any

from gatenorm.errors import GatenormError
from gatenorm.families import Layout
from gatenorm.families.family import positive, value
from gatenorm.records import spans
from gatenorm.surgery.exported import export_entries, unexportable

ROPE_KINDS = ("default", "linear", "llama3")
_HALF = -0.5
# Config keys by which relatives of Llama compute otherwise, and the values under which they do not.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("attention_multiplier", "embedding_multiplier", "residual_multiplier"), (None, 1)),
    **dict.fromkeys(("logits_scaling", "logit_scale"), (None, 1)),
    **dict.fromkeys(("no_rope_layers", "no_rope_layer_interval", "clip_qkv"), (None,)),
    **dict.fromkeys(("attn_logit_softcapping", "final_logit_softcapping"), (None,)),
    **dict.fromkeys(("use_qk_norm", "qk_norm", "mlp_bias"), (None, False)),
}
# Tensors of old releases that hold no weights.
_BUFFERS = ("rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached")


def obstacles(layout: Layout) -> list[str]:
    """Why this model is not Llama-like, one line a reason; empty when it is."""
    return list(_obstacles(layout))


def outer(layout: Layout, module: str) -> str:
    """The weight of a module around the blocks (``embedding``, ``norm``, ``head``).

    A base model's files lack the first component of its name; those of a tied model may hold the one matrix under the
    head's name alone, as ``safetensors.torch.save_model`` writes them.
    """
    assert layout.data.outer is not None  # or there are obstacles
    checkpoint, head = layout.checkpoint, f"{layout.data.outer.head}.weight"
    name = f"{getattr(layout.data.outer, module)}.weight"
    name = name.split(".", 1)[1] if layout.base_only and module != "head" else name
    shared = module == "embedding" and name not in checkpoint and head in checkpoint
    return head if shared and value(layout.config, layout.data, "tie_word_embeddings") else name


def tied(layout: Layout, read: bool = True) -> bool:
    """Whether the output matrix is the embedding: the config says so, and no other one lies beside it.

    A matrix that does lie beside it is read and compared, once for each checkpoint; without ``read`` it is taken for
    another one, which is enough to say what could be written, and costs nothing where weights lie on the hub.
    """
    checkpoint, name = layout.checkpoint, outer(layout, "head")
    if not value(layout.config, layout.data, "tie_word_embeddings"):
        return False
    if name not in checkpoint or name == outer(layout, "embedding"):
        return True
    # transformers 5 unties a model whose file has another output matrix.
    return read and checkpoint.equal(name, outer(layout, "embedding"))


def window(layout: Layout) -> int | None:
    """How many tokens back attention looks at most, where that is less than the context; ``None`` where it sees all."""
    # Lists by layer decide where there are some: a window that no layer uses binds nobody.
    kinds, size = layout.config.get("layer_types"), layout.window
    if size is None or (isinstance(kinds, list) and "sliding_attention" not in kinds):
        return None
    return size if size < (layout.context or math.inf) else None


def _obstacles(layout: Layout) -> Iterator[str]:
    config, data, norms, mlp = layout.config, layout.data, layout.norms, layout.data.mlp
    if data.unlike_llama:
        yield f"{layout.model_type}: {data.unlike_llama}"
        return
    if data.outer is None or mlp is None:
        yield f"{layout.model_type} blocks are not Llama's (RMSNorm, rotary attention, SiLU-gated MLP)"
        return
    if layout.checkpoint.quantised_by:
        yield f"its weights are quantised by {layout.checkpoint.quantised_by}: export the unquantised model"
        return
    if layout.assumed:
        yield (
            f"its model_type is {config.get('model_type')!r}, and that it computes like {layout.model_type} is only "
            "assumed"
        )
    changed = [key for key, neutral in _NEUTRAL.items() if config.get(key) not in neutral]
    if changed:
        yield f"config.json sets {', '.join(changed)}, which these engines' Llama does not know"
    own = [key for key in config if "." in key]
    if own:
        yield f"it sets {', '.join(own)}, which these engines' Llama does not know"
    if layout.shape != "sequential":
        yield f"its blocks are {layout.shape}: their norms are placed differently from Llama's"
    if norms.kind != "rms" or norms.gain_offset:
        yield "its norms are not Llama's RMSNorm"
    if norms.q or norms.k:
        yield "it normalises queries and keys (QK-norm), which this format cannot express"
    if layout.roles.qkv or mlp.gate is None:
        yield "its query, key and value weights (or the MLP's) lie fused in one tensor, which is not taken apart yet"
    activation = value(config, data, mlp.activation)
    if activation not in ("silu", "swish"):
        yield f"its MLP's activation is {activation}, not SiLU"
    if layout.softcap:
        yield f"its attention logits are capped at {layout.softcap:g}"
    if not math.isclose(layout.scale, layout.head_dim**_HALF, rel_tol=1e-6):
        yield f"its attention logits are scaled by {layout.scale:g}, not by head_dim ** -0.5"
    if layout.rotary is None:
        yield "its positions are not rotary"
    else:
        if layout.other_rotary:
            yield f"the heads of layers {spans(layout.other_rotary)} turn otherwise than those of the rest"
        if layout.rotary.interleaved:
            yield "its rotary dimensions turn in interleaved pairs"
        if layout.rotary.dims != layout.head_dim:
            yield f"only {layout.rotary.dims} of a head's {layout.head_dim} dimensions are rotary"
        if layout.rotary.kind not in ROPE_KINDS:
            yield f"rope type {layout.rotary.kind}: only {', '.join(ROPE_KINDS)} can be written"
    size = window(layout)
    if size is not None:
        all_of_it = f" of {layout.context:,}" if layout.context else ""
        yield f"its attention looks back {size:,} tokens{all_of_it} (sliding window): these engines see all"
    embedding, head = outer(layout, "embedding"), outer(layout, "head")
    if embedding not in layout.checkpoint:
        yield f"there is no tensor {embedding}"
    if head not in layout.checkpoint and not value(config, data, "tie_word_embeddings"):
        yield f"there is no tensor {head}, and config.json does not say that it is the embedding (a base model?)"
    elif embedding in layout.checkpoint:
        rows, said = layout.checkpoint.spec(embedding).shape[0], config.get("vocab_size", None)
        if said is not None and said != rows:
            yield f"config.json says vocab_size {said!r:.40}, but {embedding} has {rows:,} rows"
    try:
        positive("rms_norm_eps", value(config, data, "rms_norm_eps"))
        if layout.rotary is not None and layout.rotary.kind in ROPE_KINDS:
            layout.rotary.frequencies()
    except GatenormError as error:
        yield str(error)


def foreign(layout: Layout, placed: Set[str], form: str) -> list[str]:
    """Why tensors stand in the way that would be left out without a word: all but the ``placed`` ones.

    Where an operation cannot be written in this form, that is the reason, and its tensors are none.
    """
    if unexportable(layout.edits, form):
        return []
    # The head of a tied model goes on purpose.
    exported = (one for layer in layout.edits.layers for one in export_entries(layout, form, layer).values())
    known = {*placed, outer(layout, "head"), *(name for _, parts in exported for one in parts for name in one.stored)}
    left = sorted(
        t.name for t in layout.checkpoint.specs.values() if t.name not in known and not t.name.endswith(_BUFFERS)
    )
    return [f"it holds {len(left)} tensors for which Llama has no place, the first of them {left[0]}"] if left else []

"""Proofs by transformers itself: that a written directory loads whole, and that an assumed family computes the same."""

import importlib.util
import math
import re
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec import structs

from gatenorm.checkpoint import ModelConfig, TensorSpec, open_store
from gatenorm.checkpoint.companions import SINGLE
from gatenorm.checkpoint.formats.safetensors.header import write_header
from gatenorm.checkpoint.quantisation import without_settings
from gatenorm.errors import FamilyError, PlanError, first_line
from gatenorm.families import family
from gatenorm.families.config_keys import unread_keys
from gatenorm.families.schema import Family, Number
from gatenorm.files import write_json
from gatenorm.surgery.config import auto_classes

# Largest difference of log-probabilities, in nats, that the order of additions makes in float32.
_TOLERANCE = 1e-3
# Buffers that are made anew, whether or not a file holds them: causal masks, and the frequencies of rotary positions.
_MADE_ANEW = re.compile(r"\.(attn|attention)\.(masked_)?bias$|\.inv_freq$")
# What the tiny model of a proof keeps of the checkpoint's config is all but its size. Eight layers, since some families
# treat every fourth or sixth layer differently; a window and a context of a few tokens, so that both matter.
_LAYERS, _TOKENS, _VOCABULARY, _WINDOW = 8, 24, 64, 8
# How many keys that nobody reads are named.
_SHOWN = 8
_SIZES = {"width": 64, "heads": 4, "head_dim": 16}


def can_prove() -> bool:
    """Whether torch and transformers are installed, without which nothing is proved."""
    return all(importlib.util.find_spec(name) is not None for name in ("torch", "transformers"))


def check_loads(directory: Path, data: Family, *, base_only: bool) -> None:
    """Refuse a directory that transformers cannot load whole, before it appears.

    The loader itself reads names and shapes, renames and joins tensors as it does for the architecture, and puts them
    on the meta device: no weight is read, whatever the model's size. Of quantised weights it is shown what they stand
    for: whether their parts can be read depends on packages that are installed elsewhere.

    Args:
        data: its family's.
        base_only: it holds a base model, without a language modelling head.

    Raises:
        PlanError: it cannot be loaded, or tensors are missing, left over or of another shape.
    """
    import transformers

    from gatenorm.surgery.registration import register_types

    register_types()
    auto = getattr(transformers, "AutoModel" if base_only else auto_classes(data)[0])
    try:
        with _quiet(), _as_whole(directory) as (shown, more):
            _, report = auto.from_pretrained(
                shown, device_map="meta", output_loading_info=True, use_safetensors=True, trust_remote_code=False
            )
    except Exception as error:  # whatever classes of other people raise
        raise _unloadable(first_line(error)) from error
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        names = sorted(name for name in map(str, report[kind]) if name not in more and not _MADE_ANEW.search(name))
        if names:
            what = kind.removesuffix("_keys")
            raise _unloadable(f"{len(names)} tensors are {what}, the first of them {names[0]}")


@contextmanager
def _as_whole(directory: Path) -> Iterator[tuple[Path, Collection[str]]]:
    """The directory, or where weights are quantised one for the time being in which they seem to be stored whole.

    With the names of tensors for which only a quantised module has a place: GPTQ writes biases of zeros where a model
    has none, and others the scales of caches.
    """
    checkpoint = open_store(directory)
    if not checkpoint.quantised_by:
        yield directory, ()
        return
    quantised = [name for name, spec in checkpoint.specs.items() if spec.dtype == checkpoint.quantised_by]
    more = {name.removesuffix("weight") + "bias" for name in quantised}
    more.update(name for name in checkpoint.specs if name.endswith(("_scale", "_zero_point")))
    with tempfile.TemporaryDirectory(prefix=".whole-", dir=directory) as place:
        tensors = [TensorSpec(t.name, "BF16", t.shape, 2 * math.prod(t.shape)) for t in checkpoint.specs.values()]
        with (Path(place) / SINGLE).open("wb") as file:
            file.write(header := write_header(tensors, {"format": "pt"}))
            file.truncate(len(header) + sum(t.nbytes for t in tensors))  # a hole: nobody reads what is in there
        write_json(Path(place) / "config.json", without_settings(checkpoint.config))
        yield Path(place), more


def _unloadable(why: str) -> PlanError:
    return PlanError("not-loadable", f"transformers could not load what would be written: {why}", field="model")


def assumption(config: ModelConfig, layers: int, assumed: str) -> str:
    """What is known of the assumption that a model of this config computes like family ``assumed``, for people.

    A tiny random model of the checkpoint's own ``model_type``, with all of its config but the sizes, is run through its
    own class and through the family's, with the same weights.

    Raises:
        FamilyError: they differ; by how much.
    """
    model_type = str(config.get("model_type"))
    said = f"family {assumed} is assumed for model_type {model_type!r:.60}"
    if not can_prove():
        return f"{said}, unproved: torch and transformers are not installed"
    if not _is_known(model_type):
        return f"{said}, unproved: transformers has no class of that type"
    try:
        found = difference(config, layers, assumed)
    except Exception as error:
        raise _different(
            f"cannot be compared with model_type {model_type!r}: {first_line(error):.200}", assumed
        ) from error
    if not found < _TOLERANCE:
        raise _different(
            f"is not what model_type {model_type!r} computes, by a tiny random model: {_by(found)}", assumed
        )
    return f"{said}: equal on a tiny random model, within {found:.0e} nats"


def foreign_keys(config: ModelConfig, data: Family, model_type: str) -> str:
    """What is said of a config that names code of its own, which is never run, or has keys that nobody reads.

    Empty where it does neither. Where keys are not known, transformers' own class is asked too, if it is installed: it
    may be newer than what is known here.
    """
    keys = unread_keys(config, data, model_type)
    own = str(config.get("model_type"))
    if keys and can_prove() and _is_known(own):
        keys = tuple(key for key in keys if key not in _keys_of_class(own))
    listed = ", ".join(f"{key!r:.40}" for key in keys[:_SHOWN]) + (" ..." if len(keys) > _SHOWN else "")
    if "auto_map" in config:
        said = f"config.json names code of its own, which is not run: it is read as {model_type}"
        return f"{said}, without {listed}" if keys else said
    return f"config.json is read as {model_type}, which does not know what these keys ask for: {listed}" if keys else ""


def _keys_of_class(model_type: str) -> set[str]:
    import transformers

    stock = transformers.AutoConfig.for_model(model_type)
    return {*stock.to_dict(), *stock.attribute_map}


def is_proved(config: ModelConfig, layers: int, assumed: str) -> bool:
    """Whether a tiny model of this config was compared with family ``assumed``, and computes the same."""
    try:
        known = can_prove() and _is_known(str(config.get("model_type")))
        return known and difference(config, layers, assumed) < _TOLERANCE
    except Exception:  # whatever classes of other people raise
        return False


def _by(difference: float) -> str:
    return (
        "its tensors differ" if math.isinf(difference) else f"log-probabilities differ by up to {difference:.2g} nats"
    )


def _different(problem: str, assumed: str) -> FamilyError:
    return FamilyError("family-differs", problem, field="family", given=assumed)


def _is_known(model_type: str) -> bool:
    from transformers.models.auto import modeling_auto

    return model_type in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES


def difference(config: ModelConfig, layers: int, assumed: str) -> float:
    """The largest difference of log-probabilities, in nats, between a tiny model and the assumed family's class.

    Infinite where their tensors have other names or shapes.
    """
    import torch
    import transformers

    small = tiny_config(config, layers, family(assumed, config))
    with _quiet():
        models = []
        for model_type in (small["model_type"], assumed):
            made = transformers.AutoConfig.for_model(**{**small, "model_type": model_type})
            # A window that is only a default of the class: wider than any text here, it would not show.
            if isinstance(getattr(made, "sliding_window", None), int):
                made.sliding_window = _WINDOW
            models.append(transformers.AutoModelForCausalLM.from_config(made, attn_implementation="eager"))
    own, other = models
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in own.parameters():
            noise = torch.randn(parameter.shape, generator=draw)
            matrix = parameter.ndim > 1
            parameter.copy_(noise * 1.5 / parameter.shape[-1] ** 0.5 if matrix else 0.3 * noise + 1.0)
    stored = own.state_dict()
    shapes = {name: tensor.shape for name, tensor in stored.items()}
    if shapes != {name: tensor.shape for name, tensor in other.state_dict().items()}:
        return math.inf
    other.load_state_dict(stored)
    ids = torch.randint(4, _VOCABULARY, (2, _TOKENS), generator=draw)
    with torch.no_grad():
        left, right = (model.eval()(input_ids=ids, use_cache=False).logits.log_softmax(-1) for model in (own, other))
    return float((left - right).abs().nan_to_num(nan=math.inf).max())


def tiny_config(config: ModelConfig, layers: int, data: Family) -> dict[str, Any]:
    """The config of a tiny model: that of the checkpoint with other sizes, its lists by layer cut short."""
    small: dict[str, Any] = {}
    for key, given in config.items():
        if isinstance(given, list) and len(given) == layers:
            small[key] = given[:_LAYERS]
        elif isinstance(given, bool) or not isinstance(given, int):
            small[key] = given
        elif key.endswith("_token_id"):
            small[key] = 0
        elif "intermediate_size" in key:
            small[key] = 48
        elif key == "sliding_window":
            small[key] = _WINDOW
        elif "expert" in key and "per" not in key:
            small[key] = min(given, 4)
        elif "expert" in key:
            small[key] = min(given, 2)
        else:
            small[key] = given
    keys = {name: _keys(number) for name, number in structs.asdict(data.dimensions).items()}
    given = {name: next((config[key] for key in keys[name] if config.get(key) is not None), None) for name in keys}
    few = 4 if given["kv_heads"] in (None, given["heads"]) else 2
    for name, size in {**_SIZES, "layers": min(layers, _LAYERS), "kv_heads": few}.items():
        small.update({key: size for key in keys[name] if isinstance(config.get(key), int)})
    small |= {"vocab_size": _VOCABULARY, keys["heads"][0]: 4, "model_type": config["model_type"]}
    for key in ("architectures", "auto_map", "quantization_config", "gatenorm"):
        small.pop(key, None)
    return small


def _keys(number: Number) -> list[str]:
    """The single keys that a number may come from."""
    return [] if isinstance(number, int) else [key for key in number if isinstance(key, str)]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' bars and remarks, which are about models that nobody sees."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()

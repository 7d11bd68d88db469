"""Loading with transformers: dense checkpoints as they are, pruned ones through the classes that gatenorm registers."""

from __future__ import annotations

import json
import os
import string
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatenorm.checkpoint import open_store
from gatenorm.checkpoint.code import kernel_named
from gatenorm.checkpoint.dtypes import COMPUTED
from gatenorm.checkpoint.quantisation import methods, settings_of
from gatenorm.errors import CheckpointError, EvaluationError, GatenormError, first_line, needing
from gatenorm.families import Layout, families, family, refuse_dropped
from gatenorm.models.companions import check_companions
from gatenorm.models.processor import is_cpu
from gatenorm.models.tokenizer_growth import PARTS, check_growth
from gatenorm.records import PRUNED_PREFIX
from gatenorm.surgery.config import auto_classes
from gatenorm.surgery.registration import register_types

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# A text to try a tokenizer on: one that cannot cut it can cut nothing. And characters, of which none may become many.
_PROBE, _MOST_TOKENS = "The 1st e", 200
# Of a token, which a model may write again and again; runs of spaces have a thousand characters in published ones.
_LONGEST_TOKEN = 10_000
_CHARACTERS = string.printable + "\u00e9\u00df\u2019\u4e2d\U0001f600"
DTYPES = ("auto", *COMPUTED)


def load(directory: str | os.PathLike[str], **arguments: Any) -> PreTrainedModel:
    """The causal language model in ``directory``, dense or pruned, in evaluation mode.

    ``arguments`` go to ``from_pretrained`` (``dtype``, ``device_map``, ``attn_implementation``, ...). Only safetensors
    are read and no code out of the directory is run, unless ``trust_remote_code=True`` is among them.

    Raises:
        CheckpointError: the directory is no readable checkpoint, or its weights are not whole.
        FamilyError: its config names parts that do not run, or other weights.
        MissingExtraError: torch or transformers is not installed.
    """
    transformers = _transformers()
    store = open_store(directory)  # headers are checked before transformers believes them
    for name, spec in store.specs.items():
        if spec.dtype in methods():  # its parts are looked at, not only their headers
            store.float32(name, slice(0, 1))
    config = store.config
    name = str(config.get("model_type")).removeprefix(PRUNED_PREFIX)
    data = families().get(name)
    if data is not None:
        stock = {**config, "model_type": name}
        refuse_dropped(stock, family(name, stock), name)
    elif config.get("transformers_weights"):
        problem = f"{directory}: config.json names weights of its own, whose header nobody has looked at"
        raise CheckpointError("weights-elsewhere", problem, hint="take the entry transformers_weights out")
    check_companions(Path(directory), ("generation_config.json",))
    kernel = kernel_named(config)
    if kernel is not None and "attn_implementation" not in arguments:
        problem = f"{directory}: config.json asks for {kernel}, a kernel of the hub, which would be fetched and run"
        hint = "take that entry out, or give attn_implementation in Python"
        raise CheckpointError("kernel-named", problem, hint=hint)
    arguments.setdefault("use_safetensors", True)
    # Left to itself, transformers asks on the terminal whether to run code out of the directory.
    arguments.setdefault("trust_remote_code", False)
    auto = getattr(transformers, auto_classes(data)[0])
    try:
        model, report = auto.from_pretrained(Path(directory), output_loading_info=True, **arguments)
    except (GatenormError, MemoryError):
        raise
    except Exception as error:  # strangers' files in somebody else's classes: there is no end to what they raise
        raise CheckpointError(
            "transformers-cannot-load", f"transformers cannot load {directory}: {first_line(error)}", field="model"
        ) from error
    missing = sorted(report["missing_keys"])
    if missing:
        # transformers fills these with random numbers and goes on: every figure after that would be wrong.
        problem = f"lacks {len(missing)} tensors that it needs to run, the first of them {missing[0]}"
        hint = "it can only be scored from its weights"
        raise CheckpointError("tensors-missing", problem, field="model", given=str(directory), hint=hint)
    # Buffers of old releases are harmless; a weight that the class has no place for means that it is another model.
    foreign = sorted(k for k in report["unexpected_keys"] if not k.endswith(("inv_freq", "masked_bias", "attn.bias")))
    if foreign:
        raise CheckpointError(
            "tensors-foreign",
            f"holds {len(foreign)} tensors that {type(model).__name__} has no place for, the first of them "
            f"{foreign[0]}: config.json and weights are not of one model",
            field="model",
            given=str(directory),
        )
    if settings_of(config) is not None and arguments.get("dtype", "auto") != "auto":
        _unify_dtype(model, arguments["dtype"])
    for module in model.modules():
        if isinstance(module, transformers.PreTrainedModel):  # outputs are read by name, whatever config.json asks for
            module.config.return_dict = True
    return model.eval()


def _unify_dtype(model: PreTrainedModel, dtype: Any) -> None:
    """Where transformers decodes weights on a processor, these and the rest have types of their own: make them alike.

    Norms that a family keeps in float32 stay so.
    """
    import torch

    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            wide = parameter.dtype is torch.float32 and not isinstance(module, torch.nn.Linear)
            if parameter.dtype in (torch.float32, torch.bfloat16, torch.float16) and not wide:
                parameter.data = parameter.data.to(dtype)


def load_tokenizer(directory: str | os.PathLike[str]) -> PreTrainedTokenizerBase:
    """The tokenizer that lies beside a model.

    Raises:
        EvaluationError: there is none, or it cannot be read.
        MissingExtraError: torch or transformers is not installed.
    """
    AutoTokenizer = _transformers().AutoTokenizer
    path = Path(directory)
    try:
        check_companions(path)
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        _check_rules(tokenizer)
        ids = tokenizer(_PROBE, verbose=False)["input_ids"]
        grown = _grown(tokenizer)
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # tokenizers raises bare exceptions for damaged files, and panics outside of them
        raise EvaluationError(
            "tokenizer-unreadable", f"{directory} has no tokenizer that can be read: {first_line(error):.200}"
        ) from error
    if grown is not None or not 0 < len(ids) <= _MOST_TOKENS:
        what = f"{len(ids):,} tokens of {_PROBE!r}" if grown is None else f"over {_MOST_TOKENS:,} tokens of {grown!r}"
        problem = f"{directory} has a tokenizer that makes {what}"
        raise EvaluationError("tokenizer-unusable", problem, hint="fetch its files again")
    return tokenizer


def _check_rules(tokenizer: Any) -> None:
    """Raise CheckpointError for rules, out of whichever file, by which texts grow, and for tokens that are texts."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        rules = {part: getattr(backend, part, None) for part in PARTS}
        check_growth({part: json.loads(rule.__getstate__()) for part, rule in rules.items() if rule is not None})
    longest = max(map(len, tokenizer.get_vocab()), default=0)
    if longest > _LONGEST_TOKEN:
        problem = f"a token of it has {longest:,} characters"
        raise CheckpointError("tokenizer-grows", problem, expected=f"at most {_LONGEST_TOKEN:,}")


def _grown(tokenizer: Any) -> str | None:
    """The first character that becomes a whole text; they are tried one at a time, since one alone fills no memory."""
    for character in _CHARACTERS:
        with suppress(Exception):  # it may know only others
            if len(tokenizer(character, verbose=False)["input_ids"]) > _MOST_TOKENS:
                return character
    return None


def configuration(layout: Layout) -> Any:
    """The transformers configuration in the checkpoint's directory, of a dense model or a pruned one.

    Raises:
        CheckpointError: transformers cannot read it.
        MissingExtraError: transformers is not installed.
    """
    AutoConfig = _transformers().AutoConfig
    directory = layout.checkpoint.directory
    try:
        return AutoConfig.from_pretrained(directory, trust_remote_code=False)
    except Exception as error:  # strict dataclasses, JSON and value errors of many kinds
        problem = f"transformers cannot read the config of {directory}: {first_line(error):.200}"
        raise CheckpointError("config-unreadable", problem, field="model") from error


def _transformers() -> Any:
    """The transformers package with gatenorm's classes made known to it.

    Raises:
        MissingExtraError: torch or transformers is not installed.
    """
    with needing("running a model", "torch with transformers", "torch"):
        import torch  # noqa: F401 - transformers can be there without it
        import transformers
    register_types()
    return transformers


def check_hardware(device: str, dtype: str) -> None:
    """Raise EvaluationError for a device or data type that cannot be used (``auto`` always can), and MissingExtraError
    where torch or transformers is not installed.
    """
    _check_name(dtype)
    _transformers()
    import torch

    try:
        torch.zeros(1, device="cpu" if device == "auto" else device).item()  # a meta tensor has no item
    except (RuntimeError, AssertionError) as error:
        problem = f"cannot be used: {first_line(error)}"
        expected = "cpu, cuda, ..."
        raise EvaluationError("device-unusable", problem, field="device", given=device, expected=expected) from None
    dtype_for(dtype, device)


def _check_name(dtype: str) -> None:
    if dtype not in DTYPES:
        expected = f"one of {', '.join(DTYPES)}"
        hint = "types of stored weights, such as q8_0, are chosen when a model is exported"
        raise EvaluationError("dtype-unknown", "is not known", field="dtype", given=dtype, expected=expected, hint=hint)


def dtype_for(name: str, device: str) -> Any:
    """The torch dtype to compute in; ``auto`` is float32 on a CPU (float16 is a trap there), else the checkpoint's.

    Raises:
        EvaluationError: an unknown name.
    """
    _check_name(name)
    import torch

    if name == "auto":
        return torch.float32 if is_cpu(device) else "auto"
    return getattr(torch, name)

"""A script for any transformers: is each pruned directory its dense model with silent or replaced sublayers?

    python silenced_equality.py DIRECTORY CASE ...

A case is a folder with ``dense`` and ``pruned``. The pruned one is loaded by the code that lies in it, as where
gatenorm was never installed. The last line printed is JSON: the largest difference of two logits by case and way of
decoding, or what was raised.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM

WAYS: dict[str, dict[str, Any]] = {
    "dynamic cache": {},
    "static cache": {"cache_implementation": "static"},
    "no cache": {"use_cache": False},
}


def left_padded(vocabulary: int) -> dict[str, torch.Tensor]:
    """Two texts of different lengths, longer than any sliding window here."""
    ids = torch.randint(4, vocabulary, (2, 30), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    ids[1, :7], mask[1, :7] = 0, 0
    return {"input_ids": ids, "attention_mask": mask}


def replace(model: Any, pruned: Any, record: dict[str, Any]) -> None:
    """Let the dense model's sublayers put out what the operations of the pruned one compute, or zeros."""
    block, operations = record["block"], record.get("operations", {})
    layers = model.get_submodule(block["path"])
    for edit in record["edits"]:
        if edit["operation"] in operations:
            weights = {
                name: pruned.get_parameter(f"{block['path']}.{edit['layer']}.{block['attention'][0]}.{name}")
                for name in operations[edit["operation"]]["tensors"]
            }
            attention = layers[edit["layer"]].get_submodule(block["attention"][0])
            attention.register_forward_hook(partial(put, weights), with_kwargs=True)
    record = {**record, "edits": [edit for edit in record["edits"] if edit["operation"] not in operations]}
    silence(model, record)


def put(weights: dict[str, torch.Tensor], _: Any, positional: Any, keywords: dict[str, Any], output: Any) -> Any:
    x = positional[0] if positional else keywords["hidden_states"]
    if "value" in weights:
        x = weights["value"].expand_as(x)
    for name in ("matrix", "down", "up"):
        x = x @ weights[name].T if name in weights else x
    return x, *output[1:]


def silence(model: Any, record: dict[str, Any]) -> None:
    block = record["block"]
    layers = model.get_submodule(block["path"])
    for index in (edit["layer"] for edit in record["edits"] if edit["sublayer"] == "attention"):
        attention = layers[index].get_submodule(block["attention"][0])
        attention.register_forward_hook(lambda _, __, output: (torch.zeros_like(output[0]), *output[1:]))
    for index in (edit["layer"] for edit in record["edits"] if edit["sublayer"] == "mlp"):
        last = layers[index].get_submodule(block["branch"][-1])
        last.register_forward_hook(lambda _, __, output: torch.zeros_like(output))


def decode(model: Any, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Chosen tokens, and the raw logits of every step."""
    out = model.generate(
        **left_padded(model.config.vocab_size), max_new_tokens=8, min_new_tokens=8, do_sample=False, pad_token_id=0,
        output_logits=True, return_dict_in_generate=True, **options,
    )  # fmt: skip
    return out.sequences, torch.stack(out.logits, 1)


def compare(folder: Path) -> dict[str, Any]:
    pruned = AutoModelForCausalLM.from_pretrained(folder / "pruned", trust_remote_code=True).eval()
    if not type(pruned).__module__.startswith("transformers_modules."):
        raise RuntimeError(f"{type(pruned).__module__} was loaded, not the code in the directory")
    dense = AutoModelForCausalLM.from_pretrained(folder / "dense").eval()
    replace(dense, pruned, pruned.config.gatenorm)
    found: dict[str, Any] = {}
    for way, options in WAYS.items():
        try:
            expected_tokens, expected = decode(dense, **options)
        except (ValueError, AttributeError) as error:
            found[way] = f"not for the dense model either: {type(error).__name__}"
            continue
        tokens, logits = decode(pruned, **options)
        found[way] = float((logits - expected).abs().max()) if torch.equal(tokens, expected_tokens) else "other tokens"
    return found


def main(root: Path, names: list[str]) -> None:
    sys.modules["gatenorm"] = None  # type: ignore[assignment]  # importing it fails from here on
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    results: dict[str, Any] = {}
    with torch.no_grad():
        for name in names:
            try:
                results[name] = compare(root / name)
            except Exception as error:  # whatever it is, the others shall be tried too
                results[name] = {"loading": f"{type(error).__name__}: {error}"}
    print(json.dumps({"transformers": transformers.__version__, "torch": torch.__version__, "results": results}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

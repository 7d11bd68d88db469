"""Every way to serve a pruned model that can be tried here, model by model; the table in the documents comes of it.

Four columns: a GGUF file in llama.cpp, a nemotron-nas directory in stock vLLM and in MLX-LM, and the pruned directory
as it is in vLLM's Transformers backend. What a combination cannot do it refuses, and the table says why.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

import gatenorm
from gatenorm.engines import engine_named, engines
from gatenorm.errors import OutputError
from gatenorm.exports.registry import export_form
from tests.engines.elsewhere import ROOT, TIE, TOKENS, Answer, ask, largest_difference, prompts, python_with
from tests.export import gguf_models, llama_like_models as tiny
from tests.replaced import write_replaced

pytestmark = [pytest.mark.engines, pytest.mark.shared]

TABLE = ROOT / "docs/runtimes/combinations.md"
LARGEST = 1e-3
TRAINED = ("stories260K", "stories3M")
RANDOM = {
    "llama": "Llama, 2 key heads for 4, llama3 rope scaling, MLP width 336",
    "qwen2": "Qwen2 with its biases, MLP width 336",
    "mistral": "Mistral, 1 key head for 4, MLP width 336",
}
LAYERS = {"middle layers": (1, 2), "layer 0": (0,), "layer 0 and the last": (0, -1)}
# What takes the place of their attention. Operations that no export form knows are tried once.
OPERATIONS = {"remove": "nothing", "linear": "linear", "linear:8": "linear:8", "constant": "constant"}
CELLS = [f"{name}/{layers}/remove" for name in (*TRAINED, *RANDOM) for layers in LAYERS]
CELLS += [f"{name}/{layers}/linear" for name in (*TRAINED, *RANDOM) for layers in ("middle layers", "layer 0")]
CELLS += [f"stories3M/middle layers/{operation}" for operation in ("linear:8", "constant")]
# vLLM's attention on CPUs has no head size below 32; those of stories260K have 8.
TOO_NARROW = "stories260K"


@dataclass(frozen=True)
class Way:
    """A form and the engine that serves it: the interpreter and the module that asks it."""

    title: str
    form: str
    package: str
    environment: str
    asker: tuple[str, ...]
    variables: dict[str, str]


WAYS = {
    "llamacpp": Way("llama.cpp, GGUF f32", "gguf", "xllamacpp", ".venv", ("tests.engines.asked", "llamacpp"), {}),
    "nemotron": Way(
        "stock vLLM, nemotron-nas", "nemotron-nas", "vllm", ".venv-vllm", ("tests.engines.served_as_is",), {}
    ),
    "as-is": Way(
        "stock vLLM, the pruned directory", "transformers", "vllm", ".venv-vllm", ("tests.engines.served_as_is",), {}
    ),
    "mlx": Way("MLX-LM, nemotron-nas", "nemotron-nas", "mlx_lm", ".venv-mlx", ("tests.engines.asked", "mlx"), {}),
}


@pytest.fixture(scope="module")
def pruned(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pruned directory of every cell."""
    place = tmp_path_factory.mktemp("pruned")
    sources = {name: shared / "models" / name for name in TRAINED}
    for name in RANDOM:
        tiny.build(name).save_pretrained(place / name)
        gguf_models.write_tokenizer(gguf_models.CASES["llama3" if name == "llama" else name], place / name)
        sources[name] = place / name
    found = {}
    for number, cell in enumerate(CELLS):
        name, layers, operation = cell.split("/")
        count = gatenorm.open_model(sources[name]).layers
        edited = [i % count for i in LAYERS[layers]]
        found[cell] = write_replaced(sources[name], place / "cells" / str(number), edited, operation)
    return found


Answers = dict[str, Answer]


@pytest.fixture(scope="module")
def answers(pruned: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Answers]:
    """``answers(way)``: what the engine of that way answers for every cell; asked once."""
    known: dict[str, Answers] = {}

    def of(name: str) -> Answers:
        if name not in known:
            known[name] = asked(WAYS[name], pruned, tmp_path_factory.mktemp(name))
        return known[name]

    return of


def asked(way: Way, pruned: dict[str, Path], place: Path) -> Answers:
    python = python_with(way.package, way.environment)
    written, refused = {}, {}
    for cell, directory in pruned.items():
        try:
            written[cell] = written_as(way.form, directory, place / "written" / directory.name)
        except OutputError as error:
            refused[cell] = Answer(np.empty(0), np.empty(0), 0, (), str(error))
    vocabularies = {cell: vocabulary(directory) for cell, directory in pruned.items()}
    modules = {"HF_MODULES_CACHE": str(place / "modules")}
    return refused | ask(python, way.asker, written, vocabularies, place, modules | way.variables)


def written_as(form: str, directory: Path, out: Path) -> Path:
    if form == "transformers":
        return directory
    out.parent.mkdir(parents=True, exist_ok=True)
    out = out.with_suffix(".gguf") if form == "gguf" else out
    export_form(form).write(gatenorm.open_model(directory), out, dtype="f32" if form == "gguf" else "auto")
    return out


def vocabulary(directory: Path) -> int:
    return int(gatenorm.open_model(directory).checkpoint.config["vocab_size"])


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("way", WAYS)
def test_it_computes_what_the_pruned_model_computes(
    way: str, cell: str, answers: Callable[[str], Answers], pruned: dict[str, Path]
):
    answer, layout = answers(way)[cell], gatenorm.open_model(pruned[cell])
    reason = refusal(WAYS[way], cell)
    assert reason in answer.refused
    if reason:
        return
    assert not answer.refused
    assert difference(answer, pruned[cell]) < LARGEST
    zero = WAYS[way].form == "nemotron-nas" and 0 in layout.edits.attention and cell.endswith("remove")
    assert answer.cached_layers == len(layout.attention_layers) + zero


def refusal(way: Way, cell: str) -> str:
    """What the answer says where this cannot be done; nothing where it can."""
    name, _, operation = cell.split("/")
    if operation == "constant" and way.form != "transformers":
        return f"has {operation} in place of its attention"
    if way.package == "vllm" and way.form == "nemotron-nas" and operation in ("linear", "linear:8"):
        return "a linear map takes this place, and vLLM needs gatenorm's plugin"
    return "head_dim" if way.package == "vllm" and name == TOO_NARROW else ""


def difference(answer: Answer, directory: Path) -> float:
    """Of two log-probabilities; where an engine is silent about the unlikeliest tokens, of those that it tells."""
    return largest_difference(answer, directory, prompts(vocabulary(directory)), whole=False)


def test_the_table_in_the_documents_is_what_was_measured(answers: Callable[[str], Answers], pruned: dict[str, Path]):
    """``make combinations`` writes it. Held against what is measured now, figures aside: rounding may differ."""
    table = combinations_table({way: answers(way) for way in WAYS}, pruned)
    if os.environ.get("GATENORM_WRITE_TABLES"):
        TABLE.write_text(table, encoding="utf-8")
    assert outcomes(TABLE.read_text(encoding="utf-8")) == outcomes(table)


def outcomes(table: str) -> list[list[str]]:
    rows = [[cell.strip() for cell in line.split("|")] for line in table.splitlines() if line.startswith("|")]
    return [["same" if "e-" in cell else cell for cell in row] for row in rows]


def combinations_table(found: dict[str, Answers], pruned: dict[str, Path]) -> str:
    lines = [
        "# Engines and pruned models",
        "",
        "<!-- Written by `make combinations`. -->",
        "",
        "Largest difference of two log-probabilities, in nats, between the engine and transformers",
        f"{version('transformers')} on the pruned directory, both in float32, over {TOKENS} greedy tokens after each",
        "of 3 prompts (1, 7 and 33 tokens) and the whole vocabulary. (llama.cpp reports the 1,000 most likely",
        "tokens, and all of them for the first token of each prompt.) The tokens are the same until the two most",
        f"likely ones are within {TIE:g}. In brackets: layers with a key/value cache, of all layers. llama.cpp runs",
        "without flash attention, vLLM without the plugin. The trained models are story models with SentencePiece",
        "tokenizers; the others are tiny random models with byte-level tokenizers. What replaces an attention",
        "has random weights here.",
        "",
        "| model | attention of | replaced by | " + " | ".join(way.title for way in WAYS.values()) + " |",
        "|---|---|---|" + "---|" * len(WAYS),
    ]
    for cell in CELLS:
        name, edited, operation = cell.split("/")
        layers = gatenorm.open_model(pruned[cell]).layers
        told = [said(found[way][cell], pruned[cell], layers) for way in WAYS]
        heading = (RANDOM.get(name, name), edited, OPERATIONS[operation])
        lines.append("| " + " | ".join((*heading, *told)) + " |")
    return "\n".join(lines) + "\n"


def said(answer: Answer, directory: Path, layers: int) -> str:
    if answer.refused:
        return "refused: " + re.sub("^.* cannot be written as [^ ]+: ", "", " ".join(answer.refused.split()))[:160]
    return f"{difference(answer, directory):.0e} ({answer.cached_layers} of {layers})"


def test_every_engine_has_its_column():
    assert {way.package for way in WAYS.values()} | {"transformers"} == {
        engine_named(name).package for name in engines()
    }

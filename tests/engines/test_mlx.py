"""MLX-LM itself, on its CPU backend, computes from a nemotron-nas directory what the pruned model computes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

import gatenorm
from gatenorm.exports.registry import export_form
from gatenorm.models import loading as runtime
from tests.engines.asked import TEXT
from tests.engines.elsewhere import ask, largest_difference, prompts, python_with
from tests.export import llama_like_models as tiny
from tests.replaced import write_replaced

pytestmark = pytest.mark.engines

DROPS = dict.fromkeys(tiny.CASES, ((2,), (0, 4)))
DROPS["llama"] = tiny.DROPS
TINY = [f"{name}-{'-'.join(map(str, drop)) or 'dense'}" for name, drops in DROPS.items() for drop in drops]
TRAINED = {"stories260K": (0, 3), "stories3M": (1, 4)}
REFUSED = [name for name in TINY if name.startswith("llama-narrow-heads")]


def export(source: Path, out: Path) -> Path:
    export_form("nemotron-nas").write(gatenorm.open_model(source), out)
    return out


def answered(sources: dict[str, Path], place: Path) -> dict[str, Any]:
    """Name to (pruned directory, its prompts, what MLX-LM answers for what was written from it)."""
    python = python_with("mlx_lm", ".venv-mlx")
    directories = {name: export(source, place / "exported" / name) for name, source in sources.items()}
    vocabularies = {name: int(gatenorm.open_model(s).checkpoint.config["vocab_size"]) for name, s in sources.items()}
    answers = ask(python, ("tests.engines.asked", "mlx"), directories, vocabularies, place)
    return {name: (source, prompts(vocabularies[name]), answers[name]) for name, source in sources.items()}


@pytest.fixture(scope="module")
def tiny_answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    place = tmp_path_factory.mktemp("mlx")
    cases = [(name, drop) for name, drops in DROPS.items() for drop in drops]
    sources = {case: tiny.write(name, place / case, drop) for case, (name, drop) in zip(TINY, cases, strict=True)}
    return answered(sources, place)


@pytest.fixture(scope="module")
def trained_answers(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> dict[str, Any]:
    place = tmp_path_factory.mktemp("mlx-trained")
    sources = {}
    for name, drop in TRAINED.items():
        plan = gatenorm.plan(shared / "models" / name, drop=drop)
        sources[name] = gatenorm.prune(shared / "models" / name, place / "pruned" / name, plan).path
    return answered(sources, place)


@pytest.mark.parametrize("name", [name for name in TINY if name not in REFUSED])
def test_it_computes_what_the_pruned_model_computes(name: str, tiny_answers: dict[str, Any]):
    source, asked, answer = tiny_answers[name]
    assert not answer.refused
    assert largest_difference(answer, source, asked) < 1e-3
    layout = gatenorm.open_model(source)
    assert answer.cached_layers == len(layout.attention_layers) + (0 in layout.edits.attention)


@pytest.mark.shared
@pytest.mark.parametrize("name", TRAINED)
def test_trained_models_continue_as_they_did(name: str, trained_answers: dict[str, Any]):
    source, asked, answer = trained_answers[name]
    assert largest_difference(answer, source, asked) < 1e-3
    tokenizer = runtime.load_tokenizer(source)
    assert answer.cut == tuple(tokenizer(TEXT, add_special_tokens=False)["input_ids"])


BATCH = """
import sys
from mlx_lm import batch_generate, generate, load

model, tokenizer = load(sys.argv[1], tokenizer_config={"trust_remote_code": True})
texts = ["Once upon a time", "The dog", "One day, a little girl named Lily found a needle in her room. She"]
one_at_a_time = [generate(model, tokenizer, tokenizer.encode(text), max_tokens=24) for text in texts]
together = batch_generate(model, tokenizer, [tokenizer.encode(text) for text in texts], max_tokens=24)
assert together.texts == one_at_a_time, (together.texts, one_at_a_time)
assert all(one_at_a_time)
"""


@pytest.mark.shared
@pytest.mark.parametrize("layers", [(1, 4), (0, 2)])
def test_batches_of_a_model_with_linear_maps_are_what_single_texts_are(
    layers: tuple[int, ...], shared: Path, tmp_path: Path
):
    source = write_replaced(shared / "models" / "stories3M", tmp_path / "replaced", layers, "linear")
    directory = export(source, tmp_path / "exported")
    command = [python_with("mlx_lm", ".venv-mlx"), "-c", BATCH, str(directory)]
    variables = {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "modules")}
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.parametrize("name", REFUSED)
def test_heads_that_are_not_as_wide_as_the_model_are_refused(name: str, tiny_answers: dict[str, Any]):
    # as the note that goes with the directory says
    assert "MLX-LM cannot load" in tiny_answers[name][2].refused
    assert "hape" in tiny_answers[name][2].refused

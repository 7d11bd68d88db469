"""Pruned directories: what is in them, what is not, and that they appear whole or not at all."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs
from safetensors import safe_open
from safetensors.numpy import load_file

from gatenorm import api
from gatenorm.calibration.samples import Calibration
from gatenorm.checkpoint import open_store
from gatenorm.errors import OutputError, PlanError, RecordError
from gatenorm.families import detect_layout
from gatenorm.records import Edits, Plan, from_json, to_json
from gatenorm.surgery.disk import write_pruned
from tests.errors import refused
from tests.tiny_models import CASES

TinyModels = Callable[..., Path]


def pruned(model: Path, out: Path, drop: list[int]) -> Path:
    return api.prune(model, out, api.plan(model, drop=drop)).path


@pytest.mark.parametrize("name", CASES)
def test_the_tensors_that_stay_are_byte_for_byte_the_sources(name: str, tiny_models: TinyModels, tmp_path: Path):
    source = tiny_models(name)
    layout = detect_layout(open_store(source))
    out = pruned(source, tmp_path / "out", [0, 2])
    gone = tuple(p for i in (0, 2) for p in layout.removed_with(i))
    before, after = open_store(source), open_store(out)
    assert set(after.specs) == {n for n in before.specs if not n.startswith(gone)}
    assert len(after.specs) < len(before.specs)
    for tensor in after.specs.values():
        assert after.raw(tensor.name).tobytes() == before.raw(tensor.name).tobytes()
        assert (tensor.shape, tensor.dtype) == (before.spec(tensor.name).shape, before.spec(tensor.name).dtype)
    # and the library that everybody reads them with agrees
    for file in out.glob("*.safetensors"):
        with safe_open(file, "np") as opened:
            assert opened.metadata() == {"format": "pt"}
            assert set(opened.keys()) == {name for name in after.specs if after.byte_range(name).file == file}


def test_shards_keep_their_names_and_the_index_speaks_of_what_is_left(tiny_models: TinyModels, tmp_path: Path):
    source = tiny_models("llama-gqa", max_shard_size="40KB")
    out = pruned(source, tmp_path / "out", [1, 3])
    index = json.loads((out / "model.safetensors.index.json").read_text())
    sizes = {}
    for file in set(index["weight_map"].values()):
        sizes |= {name: array.nbytes for name, array in load_file(out / file).items()}
    assert set(sizes) == set(index["weight_map"])
    assert index["metadata"]["total_size"] == sum(sizes.values())
    assert {p.name for p in out.glob("*.safetensors")} == set(index["weight_map"].values())
    assert open_store(out).files.keys() <= open_store(source).files.keys()
    assert len(index["weight_map"]) < len(open_store(source).specs)


def test_a_shard_of_nothing_but_removed_attention_is_left_out(tiny_models: TinyModels, tmp_path: Path):
    from safetensors.numpy import save_file

    source = shutil.copytree(tiny_models("llama-gqa"), tmp_path / "model")
    tensors = load_file(source / "model.safetensors")
    attention = {n: a for n, a in tensors.items() if n.startswith(("model.layers.2.self_attn", "model.layers.2.input"))}
    rest = {n: a for n, a in tensors.items() if n not in attention}
    (source / "model.safetensors").unlink()
    files = {"model-00001-of-00002.safetensors": rest, "model-00002-of-00002.safetensors": attention}
    for file, content in files.items():
        save_file(content, source / file)
    weight_map = {name: file for file, content in files.items() for name in content}
    (source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    out = pruned(source, tmp_path / "out", [2])
    assert [p.name for p in sorted(out.glob("*.safetensors"))] == ["model-00001-of-00002.safetensors"]
    assert set(open_store(out).specs) == set(rest)


def test_small_files_are_carried_over_and_other_weights_are_not(tiny_models: TinyModels, tmp_path: Path):
    source = shutil.copytree(tiny_models("llama-gqa"), tmp_path / "model")
    for name in ("tokenizer.json", "chat_template.jinja", "LICENSE", "vocab.txt"):
        (source / name).write_text(f"{name}\n")
    for name in ("pytorch_model.bin", "consolidated.00.pth", "model.gguf", "pytorch_model.bin.index.json", ".hidden"):
        (source / name).write_text("weights")
    (source / "original").mkdir()
    (source / "original" / "consolidated.00.pth").write_text("weights")
    outside = tmp_path / "secret.txt"
    outside.write_text("not part of the model")
    (source / "notes.txt").symlink_to(outside)
    (source / "README.md").write_text("---\nlicense: mit\nlicense_name: the-mit-one\n---\n# Parent\n")
    out = pruned(source, tmp_path / "out", [1])
    names = {p.name for p in out.iterdir()}
    assert names == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "gatenorm.json",
        "modeling_gatenorm.py",
        "README.md",
        "tokenizer.json",
        "chat_template.jinja",
        "LICENSE",
        "vocab.txt",
    }
    card = (out / "README.md").read_text()
    assert "license: mit" in card
    assert "[LICENSE](LICENSE)" in card
    assert stat.S_IMODE(out.stat().st_mode) == 0o777 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_the_card_names_the_base_model_of_a_hub_snapshot(tiny_models: TinyModels, tmp_path: Path):
    repository = tmp_path / "models--someone--small-llama"
    snapshot = repository / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for number, path in enumerate(sorted(tiny_models("llama-gqa").iterdir())):
        shutil.copyfile(path, repository / "blobs" / str(number))
        (snapshot / path.name).symlink_to(Path("../../blobs") / str(number))
    out = pruned(snapshot, tmp_path / "out", [1])
    assert "base_model: someone/small-llama" in (out / "README.md").read_text()
    assert (out / "generation_config.json").is_file()
    assert not (out / "generation_config.json").is_symlink()
    again = pruned(out, tmp_path / "again", [0])
    assert "base_model: someone/small-llama" in (again / "README.md").read_text()


def test_gatenorm_json_is_the_plan(tiny_models: TinyModels, tmp_path: Path):
    source = tiny_models("llama-gqa")
    plan = api.plan(source, layers=2)
    out = api.prune(source, tmp_path / "out", plan).path
    assert from_json(Plan, json.loads((out / "gatenorm.json").read_text()), "a plan") == plan
    assert json.loads((out / "config.json").read_text())["gatenorm"]["plan"] == to_json(plan)


def test_pruning_again_composes_in_original_indices(tiny_models: TinyModels, tmp_path: Path):
    source = tiny_models("llama-mha")  # five layers
    once = pruned(source, tmp_path / "once", [1])
    plan = api.plan(once, drop=[3])
    assert (plan.edits.attention, plan.added.attention, plan.previous.edits.attention) == ((1, 3), (3,), (1,))
    twice = api.prune(once, tmp_path / "twice", plan).path
    at_once = pruned(source, tmp_path / "at_once", [1, 3])
    assert (twice / "model.safetensors").read_bytes() == (at_once / "model.safetensors").read_bytes()
    first, second = (json.loads((d / "config.json").read_text()) for d in (twice, at_once))
    for config in (first, second):
        del config["gatenorm"]["plan"]
    assert first == second
    assert detect_layout(open_store(twice)).attention_layers == (0, 2, 4)
    scored = api.score(twice)
    assert [s.layer for s in scored.layers] == [0, 2, 4]
    whole = {s.layer: s.score for s in api.score(source).layers}
    assert [s.score for s in scored.layers] == pytest.approx([whole[i] for i in (0, 2, 4)], rel=1e-9)
    with refused("layer-edited-before", "drop", PlanError):
        api.plan(twice, drop=[1])
    with refused("count-out-of-range", "layers", PlanError):
        api.plan(twice, layers=3)


def test_what_a_directory_says_of_its_past_does_not_grow_with_every_pruning(tiny_models: TinyModels, tmp_path: Path):
    source, sizes = tiny_models("llama-mha"), []
    for layer in range(4):
        source = pruned(source, tmp_path / str(layer), [layer])
        sizes.append((source / "config.json").stat().st_size)
    assert sizes[3] - sizes[2] < sizes[2] - sizes[1] + 20
    assert detect_layout(open_store(source)).pruned.plan.previous.previous is None


@pytest.mark.parametrize("change", [{"operation": "constant"}, {"layer": 2}, {"artifact": "0" * 64}])
def test_a_record_that_contradicts_its_plan_is_refused(change: dict[str, Any], tiny_models: TinyModels, tmp_path: Path):
    out = pruned(tiny_models("llama-mha"), tmp_path / "out", [1])
    config = json.loads((out / "config.json").read_text())
    config["gatenorm"]["edits"][0] |= change
    (out / "config.json").write_text(json.dumps(config))
    with refused("record-contradicts", kind=RecordError):
        api.open_model(out)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"linear:2": {"normed": False, "tensors": {"down": [2, 32], "up": [32, 2]}}},
        {"linear:2": {"normed": True, "tensors": {"down": [10**6, 10**6], "up": [-1, 2]}}},
        {"linear:2": {"normed": True, "tensors": {str(i): [1] for i in range(10**5)}}},
        {"constant": {"normed": False, "tensors": {"constant": [32]}}},
    ],
)
def test_a_record_that_describes_other_operations_is_refused(
    change: dict[str, Any], tiny_models: TinyModels, tmp_path: Path
):
    """Whoever runs the model would build them as the record says."""
    source, out = tiny_models("llama-mha"), tmp_path / "out"
    plan = api.plan(source, drop=[1], replace="linear:2")
    api.prune(source, out, api.fit(source, plan, [Calibration("random", 20, 16)], judges=()))
    assert api.open_model(out).pruned
    config = json.loads((out / "config.json").read_text())
    sound = config["gatenorm"]["operations"]
    assert [*sound] == ["linear:2"]
    config["gatenorm"]["operations"] = {**sound, **change} if change else {}
    (out / "config.json").write_text(json.dumps(config))
    with refused("record-contradicts", kind=RecordError):
        api.open_model(out)


def test_per_layer_lists_are_renumbered(tiny_models: TinyModels, tmp_path: Path):
    out = pruned(tiny_models("gemma2"), tmp_path / "gemma", [0])
    assert json.loads((out / "config.json").read_text())["layer_types"] == [
        "full_attention",
        "sliding_attention",
        "full_attention",
    ]
    out = pruned(tiny_models("gpt_neo"), tmp_path / "neo", [1])
    config = json.loads((out / "config.json").read_text())
    assert config["attention_types"] == [[["global", "global", "local"], 1]]
    assert config["num_layers"] == 3


def test_a_layer_that_scales_by_its_index_is_not_pruned(tiny_models: TinyModels, tmp_path: Path):
    source = shutil.copytree(tiny_models("gpt2"), tmp_path / "model")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "scale_attn_by_inverse_layer_idx": True}))
    with refused("model-not-prunable", "model", PlanError) as caught:
        pruned(source, tmp_path / "out", [1])
    assert "scale_attn_by_inverse_layer_idx" in caught.value.problem
    assert not (tmp_path / "out").exists()


def test_another_head_is_not_pruned(tiny_models: TinyModels, tmp_path: Path):
    source = shutil.copytree(tiny_models("llama-gqa"), tmp_path / "model")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "architectures": ["LlamaForSequenceClassification"]}))
    with refused("model-not-prunable", "model", PlanError) as caught:
        pruned(source, tmp_path / "out", [1])
    assert "LlamaForSequenceClassification" in caught.value.problem


@pytest.mark.parametrize("kind", ["full", "file"])
def test_an_output_that_is_taken_is_left_alone(kind: str, tiny_models: TinyModels, tmp_path: Path):
    out = tmp_path / "out"
    if kind == "full":
        out.mkdir()
        (out / "mine").write_text("mine")
    else:
        out.write_text("mine")
    with refused("out-taken", "out", OutputError):
        pruned(tiny_models("llama-gqa"), out, [1])
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("target", ["nowhere", "there"])
def test_an_output_that_is_a_link_is_refused_before_the_work(target: str, tiny_models: TinyModels, tmp_path: Path):
    (tmp_path / "there").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / target)
    with refused("out-irreplaceable", "out", OutputError):
        pruned(tiny_models("llama-gqa"), tmp_path / "out", [1])


def test_a_plan_is_checked_before_it_is_carried_out(tiny_models: TinyModels, tmp_path: Path):
    source = tiny_models("llama-gqa")
    plan = api.plan(source, drop=[1])
    for drop, code in [
        ((0, 1, 2, 3), "none-would-stay"),
        ((40,), "layer-unknown"),
        ((), "layers-missing"),
    ]:
        with refused(code, "drop", PlanError):
            api.prune(source, tmp_path / "out", structs.replace(plan, edits=Edits.of("attention", drop)))
    with refused("plan-of-another-model", "plan", PlanError):
        api.prune(tiny_models("mistral"), tmp_path / "out", plan)
    once = api.prune(source, tmp_path / "once", plan).path
    forgetful = structs.replace(api.plan(once, drop=[2]), edits=Edits.of("attention", [2]))
    with refused("plan-omits-edits", "plan", PlanError):
        api.prune(once, tmp_path / "out", forgetful)
    assert [p.name for p in tmp_path.iterdir()] == ["once"]


def test_links_lead_no_foreign_file_into_the_output(tiny_models: TinyModels, tmp_path: Path):
    source = shutil.copytree(tiny_models("qwen2"), tmp_path / "model")
    (source / "tokenizer.json").write_text("{}")
    secret = tmp_path / "secret" / "credentials.json"
    secret.parent.mkdir()
    secret.write_text('{"password": "open sesame"}')
    (source / "tokenizer_config.json").symlink_to(secret)
    plan = api.plan(source, drop=[1])
    written = write_pruned(detect_layout(open_store(source)), plan, tmp_path / "out")
    assert written.left_out == ("tokenizer_config.json is a link out of the checkpoint",)
    assert not any("sesame" in p.read_text(errors="ignore") for p in (tmp_path / "out").iterdir())


def test_a_directory_of_links_to_another_one_is_refused(tiny_models: TinyModels, tmp_path: Path):
    """Links to files of its own are fine, and so is a link to the directory."""
    source = shutil.copytree(tiny_models("llama-gqa"), tmp_path / "model")
    (source / "config.json").rename(source / "first.json")
    (source / "config.json").symlink_to("first.json")
    (tmp_path / "link").symlink_to("model")
    pruned(tmp_path / "link", tmp_path / "out", [1])
    (tmp_path / "links").mkdir()
    for path in source.iterdir():
        (tmp_path / "links" / path.name).symlink_to(path)
    with refused("file-elsewhere"):
        pruned(tmp_path / "links", tmp_path / "again", [1])


def test_a_polite_request_to_stop_leaves_nothing_behind(tiny_models: TinyModels, tmp_path: Path):
    """SIGTERM while the weights are written: the progress callback is where the process meets it."""
    code = (
        "import os, signal, sys\n"
        "from gatenorm.cli import console, main\n"
        "from contextlib import contextmanager\n"
        "@contextmanager\n"
        "def bar(what, unit='layers'):\n"
        "    yield lambda done, total: os.kill(os.getpid(), signal.SIGTERM) if what == 'writing' else None\n"
        "console.progress_bar = bar\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    arguments = ["prune", str(tiny_models("llama-gqa")), "--drop", "1", "-o", str(tmp_path / "out")]
    run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (143, "interrupted; nothing half-written was left behind\n")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_behind_is_removed_by_the_next(tiny_models: TinyModels, tmp_path: Path):
    """But neither what somebody still writes, nor what has only just been made, nor what is called otherwise."""
    names = ("out.partial-abandone", "out.partial-heldheld", "out.partial-youngest", "out.partial-1")
    abandoned, held, young, other = (tmp_path / f".{name}" for name in names)
    for path in (abandoned, held, young, other):
        path.mkdir()
        (path / "model.safetensors").write_bytes(b"half")
        os.utime(path, (0, 0))
    os.utime(young)
    descriptor = os.open(held, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    pruned(tiny_models("llama-gqa"), tmp_path / "out", [1])
    os.close(descriptor)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([held.name, young.name, other.name, "out"])


def test_an_empty_directory_is_a_fine_output(tiny_models: TinyModels, tmp_path: Path):
    (tmp_path / "out").mkdir()
    assert (pruned(tiny_models("llama-gqa"), tmp_path / "out", [1]) / "config.json").is_file()


LIMITED = """
import resource, signal, sys
from gatenorm.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
sys.exit(main(sys.argv[1:]))
"""


def test_a_full_disk_leaves_nothing_behind(tiny_models: TinyModels, tmp_path: Path):
    """A limit on file sizes makes the kernel refuse a write half-way, as a full disk does."""
    source, out = tiny_models("llama-gqa"), tmp_path / "there" / "out"
    arguments = ["prune", str(source), "--drop", "1", "-o", str(out)]
    run = subprocess.run([sys.executable, "-c", LIMITED, *arguments], capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert run.stderr == f"error: {out} could not be written: the disk is full; nothing was left behind\n"
    assert list(tmp_path.iterdir()) == []  # the folder that it made for the output is gone too


def test_further_chat_templates_are_carried_over(tiny_models: TinyModels, tmp_path: Path):
    source = shutil.copytree(tiny_models("llama-gqa"), tmp_path / "model")
    secret = tmp_path / "secret"
    secret.write_text("of somebody else")
    (source / "additional_chat_templates").mkdir()
    (source / "additional_chat_templates/tool_use.jinja").write_text("{{ messages }}")
    (source / "additional_chat_templates/link.jinja").symlink_to(secret)
    written = write_pruned(api.open_model(source), api.plan(source, drop=[1]), tmp_path / "out")
    assert (tmp_path / "out/additional_chat_templates/tool_use.jinja").read_text() == "{{ messages }}"
    assert written.left_out == ("additional_chat_templates/link.jinja is a link out of the checkpoint",)


def test_too_little_room_is_said_before_anything_is_written(tiny_models: TinyModels, tmp_path: Path):
    """A sparse checkpoint of many terabytes costs nothing to make and cannot be copied anywhere."""
    source = shutil.copytree(tiny_models("llama-gqa"), tmp_path / "model")
    width = 1 << 20
    header = json.loads((source / "config.json").read_text())
    assert header["hidden_size"] == 64
    path = source / "model.safetensors"
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    table = json.loads(content[8 : 8 + length])
    end = max(t["data_offsets"][1] for n, t in table.items() if n != "__metadata__")
    rows = shutil.disk_usage(tmp_path).free // (4 * width) + 1024
    table["huge"] = {"dtype": "F32", "shape": [rows, width], "data_offsets": [end, end + rows * width * 4]}
    text = json.dumps(table).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    try:
        os.truncate(path, 8 + len(text) + end + rows * width * 4)
    except OSError:
        pytest.skip("this file system has no files that large")
    with pytest.raises(OutputError) as error:
        pruned(source, tmp_path / "out", [1])
    assert error.value.code == "disk-full"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model"]


def test_an_interrupted_run_leaves_nothing_behind(tiny_models: TinyModels, tmp_path: Path):
    source, out = tiny_models("llama-gqa"), tmp_path / "out"

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        api.prune(source, out, api.plan(source, drop=[1]), progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_copying_works_where_the_kernel_cannot(
    tiny_models: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source = tiny_models("llama-gqa")
    inside = pruned(source, tmp_path / "inside", [1])
    monkeypatch.delattr(os, "copy_file_range")
    outside = pruned(source, tmp_path / "outside", [1])
    assert (inside / "model.safetensors").read_bytes() == (outside / "model.safetensors").read_bytes()


def test_progress_ends_at_the_whole(tiny_models: TinyModels, tmp_path: Path):
    source, calls = tiny_models("llama-gqa"), []
    out = api.prune(source, tmp_path / "out", api.plan(source, drop=[1]), progress=lambda *c: calls.append(c)).path
    assert calls[-1] == ((out / "model.safetensors").stat().st_size,) * 2
    assert all(np.diff([done for done, _ in calls]) > 0)


def test_what_was_found_out_about_the_source_stays_with_it(tmp_path: Path):
    api.prune("demo", tmp_path / "out", api.plan("demo", drop=[3]))
    assert (tmp_path / "out" / "tokenizer.json").is_file()
    assert not {"SHA256SUMS", "measured.json"} & {path.name for path in (tmp_path / "out").iterdir()}


@pytest.mark.parametrize(
    ("name", "size"),
    [
        *((name, 100 << 20) for name in ("LICENSE", "notes.txt", "additional_chat_templates/tool.jinja", "data.json")),
        *((name, 20 << 20) for name in ("generation_config.json", "preprocessor_config.json", "tokenizer_config.json")),
        ("preprocessor_config.json", 0),
    ],
)
def test_companions_that_are_no_part_of_a_sound_model_are_left_out_by_name(
    name: str, size: int, tiny_models: TinyModels, tmp_path: Path
):
    """Too large for whatever reads them, or no JSON: no reason to write nothing, and nothing to fill a disk with."""
    source = shutil.copytree(tiny_models("llama-gqa"), tmp_path / "model")
    (source / name).parent.mkdir(exist_ok=True)
    (source / name).touch()
    os.truncate(source / name, size)
    written = write_pruned(detect_layout(open_store(source)), api.plan(source, drop=[1]), tmp_path / "out")
    assert [what.split(" ")[0] for what in written.left_out] == [name]
    assert not (tmp_path / "out" / name).exists()


def test_a_giant_card_is_replaced_as_any_other(tiny_models: TinyModels, tmp_path: Path):
    source = shutil.copytree(tiny_models("llama-gqa"), tmp_path / "model")
    (source / "README.md").touch()
    os.truncate(source / "README.md", 100 << 20)
    assert (pruned(source, tmp_path / "out", [1]) / "README.md").stat().st_size < 1 << 20

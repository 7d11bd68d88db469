"""Directories that try to make a reader follow links, wait, fill memory, run code, or believe two things at once."""

from __future__ import annotations

import json
import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gatenorm import api
from gatenorm.checkpoint import open_store
from gatenorm.checkpoint.companions import is_companion
from gatenorm.demo.package import MODEL
from gatenorm.errors import GatenormError, RecordError
from gatenorm.families import detect_layout
from gatenorm.files import parse_json, read_small
from gatenorm.models.loading import configuration, load, load_tokenizer
from gatenorm.records import read_json
from gatenorm.surgery.disk import write_pruned
from tests.checkpoint.files import write_checkpoint
from tests.checkpoint.test_checkpoint import ONE
from tests.command_line import answer
from tests.errors import refused

TinyModels = Callable[..., Path]


@pytest.fixture
def model(tiny_models: TinyModels, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_models("llama-gqa"), tmp_path / "model")


def pruned(model: Path, out: Path) -> Path:
    return api.prune(model, out, api.plan(model, drop=[1])).path


def edit_config(model: Path, **entries: object) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, **entries}))


# ---- links


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "model.safetensors.index.json"])
def test_what_must_be_read_is_not_read_through_a_link_that_leads_elsewhere(tmp_path: Path, name: str):
    files = {"a.safetensors": ONE} if name.endswith("index.json") else {"model.safetensors": ONE}
    directory = write_checkpoint(tmp_path / "model", files, {"weight_map": {"one": "a.safetensors"}})
    elsewhere = (directory / name).rename(tmp_path / "elsewhere")
    (directory / name).symlink_to(elsewhere)
    with refused("file-elsewhere"):
        open_store(directory)


def test_a_foreign_config_makes_no_other_foreign_file_trusted(model: Path, tmp_path: Path):
    private = tmp_path / "private"
    private.mkdir()
    (private / "secret.json").write_text('{"password": "open sesame"}')
    (model / "config.json").rename(private / "config.json")
    (model / "config.json").symlink_to(private / "config.json")
    (model / "tokenizer.json").symlink_to(private / "secret.json")
    with refused("file-elsewhere"):
        pruned(model, tmp_path / "out")


def test_downloads_of_old_that_link_into_the_hubs_cache_are_whole(model: Path, tmp_path: Path):
    blobs = tmp_path / "cache" / "models--someone--small" / "blobs"
    blobs.mkdir(parents=True)
    (model / "tokenizer.json").write_text("{}")
    for number, path in enumerate(sorted(model.iterdir())):
        path.rename(blobs / str(number))
        path.symlink_to(blobs / str(number))
    out = pruned(model, tmp_path / "out")
    assert (out / "tokenizer.json").read_text() == "{}"


def test_the_licence_of_a_foreign_card_is_not_stated(model: Path, tmp_path: Path):
    (tmp_path / "card.md").write_text("---\nlicense: secret-terms\n---\n")
    (model / "README.md").symlink_to(tmp_path / "card.md")
    assert "secret-terms" not in (pruned(model, tmp_path / "out") / "README.md").read_text()


@pytest.mark.parametrize(
    "value",
    ["*f", "[" * 30 + "]" * 30, "[" * 3000 + "]" * 3000, "z" * (1 << 18), "!!bool x", '"\\ud800"', "0x" + "f" * 5000],
    ids=["grows", "deep", "endless", "long", "tag", "half", "number"],
)
def test_a_card_that_would_take_too_much_is_none(value: str, model: Path, tmp_path: Path):
    """Written out, the licence behind the first would have 10^9 words."""
    before = ["x", "*a", "*b", "*c", "*d", "*e"] if value == "*f" else []
    grows = [f"{name}: &{name} [{','.join([of] * 32)}]" for name, of in zip("abcdef", before, strict=False)]
    (model / "README.md").write_text("\n".join(["---", *grows, f"license: {value}", "---", ""]))
    card = (pruned(model, tmp_path / "out") / "README.md").read_text()
    assert "The source states no licence in its card" in card


def test_the_licence_of_a_card_is_stated(model: Path, tmp_path: Path):
    for number, ends in enumerate(("\n", "\r\n")):
        (model / "README.md").write_bytes(ends.join(["---", "license: mit", "---", "# m", "---", ""]).encode())
        assert "the source states it: `mit`" in (pruned(model, tmp_path / f"out{number}") / "README.md").read_text()


# ---- names that are no UTF-8


def test_names_that_are_no_utf_8_are_written_and_hashed(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    odd = model.rename(tmp_path / os.fsdecode(b"bad\xff"))
    before = open_store(odd).fingerprint()
    (odd / os.fsdecode(b"\xfe.dat")).write_bytes(b"more")
    assert open_store(odd).fingerprint() != before
    for command in ("score", "inspect"):
        assert answer(capsys, command, odd, "--json", tmp_path / f"{command}.json").status == 0
        assert "bad?" in (tmp_path / f"{command}.json").read_text(encoding="utf-8")
    out = tmp_path / "out"
    assert answer(capsys, "prune", odd, "--drop", 1, "-o", out).status == 0
    assert open_store(out).config["gatenorm"]


# ---- files that are none, or not small


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "model.safetensors.index.json", "tokenizer.json"])
def test_a_fifo_is_not_waited_for(model: Path, name: str):
    if name.endswith("index.json"):
        (model / "model.safetensors").unlink()
    (model / name).unlink(missing_ok=True)
    os.mkfifo(model / name)
    with refused("json-unreadable" if name.endswith("index.json") else "file-unreadable") as caught:
        open_store(model)
    assert str(model / name) in caught.value.problem
    assert "no regular file" in caught.value.problem


def test_a_fifo_that_nothing_reads_counts_for_nothing(model: Path):
    before = open_store(model).fingerprint()
    os.mkfifo(model / "optimizer.dat")
    assert open_store(model).fingerprint() == before


def test_a_device_is_not_read(tmp_path: Path):
    (tmp_path / "config.json").symlink_to("/dev/zero")
    with refused("json-unreadable", kind=RecordError) as caught:
        read_json(tmp_path / "config.json", "a configuration")
    assert "no regular file" in caught.value.problem


def test_a_sparse_gigabyte_is_not_read(model: Path):
    os.truncate(model / "config.json", 1 << 30)
    tracemalloc.start()
    try:
        with refused("json-unreadable", kind=GatenormError) as caught:
            open_store(model)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    assert "larger than" in caught.value.problem


def test_files_without_a_size_are_read_whole(tmp_path: Path):
    if Path("/proc/self/status").exists():
        assert b"VmRSS" in read_small(Path("/proc/self/status"))
    (tmp_path / "four").write_bytes(b"1234")
    assert read_small(tmp_path / "four", 4) == b"1234"
    with pytest.raises(OSError, match="larger than 3 bytes"):
        read_small(tmp_path / "four", 3)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"[" + b"[]," * 600_000 + b"[]]", "more than 1,048,576 values"),
        (b"[" * 101 + b"]" * 101, "nested too deeply"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "nested too deeply"),
        (b'["\\ud800"]', "surrogate"),
        (b'{"\\uD800": 1}', "surrogate"),
    ],
)
def test_json_that_would_take_too_much(content: bytes, why: str):
    with pytest.raises(ValueError, match=why):
        parse_json(content)


def test_json_within_the_limits_is_read():
    assert parse_json(b'["\\ud83d\\ude00", ' + b"[" * 98 + b"]" * 98 + b"]")[0] == "\N{GRINNING FACE}"


# ---- code


def test_no_code_of_others_is_carried_along(model: Path, tmp_path: Path):
    (model / "evil.py").write_text("print('owned')")
    edit_config(model, _attn_implementation="org/kernel", auto_map={"AutoModelForCausalLM": "evil.Evil"})
    tokenizer = {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}, "model_max_length": 5}
    (model / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    written = write_pruned(api.open_model(model), api.plan(model, drop=[1]), tmp_path / "out")
    assert not list((tmp_path / "out").glob("evil*"))
    texts = [path.read_text() for path in (tmp_path / "out").glob("*.json")]
    assert not any("org/kernel" in text or "evil" in text for text in texts)
    assert json.loads((tmp_path / "out/tokenizer_config.json").read_text()) == {"model_max_length": 5}
    assert any("evil.py" in what for what in written.left_out)
    assert any("tokenizer_config.json names code" in what for what in written.left_out)


def test_no_code_of_a_pruned_directory_is_carried_along_by_the_next_pruning(model: Path, tmp_path: Path):
    """Its modelling file gives the blocks what the record says of the original configuration."""
    write_pruned(api.open_model(model), api.plan(model, drop=[1]), tmp_path / "out")
    record = json.loads((tmp_path / "out/config.json").read_text())["gatenorm"]
    original = {"_attn_implementation": "org/kernel", "text_config": {"auto_map": {"AutoModel": "evil.Evil"}}}
    edit_config(tmp_path / "out", gatenorm={**record, "original": {**original, "num_hidden_layers": 4}})
    again = api.plan(tmp_path / "out", drop=[2])
    write_pruned(api.open_model(tmp_path / "out"), again, tmp_path / "again")
    text = (tmp_path / "again/config.json").read_text()
    assert "org/kernel" not in text
    assert "evil" not in text
    assert json.loads(text)["gatenorm"]["original"]["num_hidden_layers"] == 4


def test_code_beside_a_model_of_a_known_kind_is_neither_run_nor_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Whoever is asked says yes."""
    model, ran = shutil.copytree(MODEL.checked_directory(), tmp_path / "model"), tmp_path / "ran"
    (model / "evil.py").write_text(f"open({str(ran)!r}, 'w')\n")
    edit_config(model, auto_map={"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"})
    settings = json.loads((model / "tokenizer_config.json").read_text())
    settings["auto_map"] = {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    for use in (load, load_tokenizer, lambda path: configuration(api.open_model(path))):
        use(model)
        assert not ran.exists()


@pytest.mark.parametrize("key", ["_attn_implementation", "attn_implementation", "experts_implementation"])
def test_a_kernel_that_a_config_names_is_not_fetched(model: Path, key: str):
    edit_config(model, text_config={key: {"": "org/kernel"}})
    with refused("kernel-named"):
        load(model)


# ---- two meanings


def test_an_adapter_beside_whole_weights_is_refused_by_everything(model: Path, tmp_path: Path):
    (model / "adapter_config.json").write_text("{}")
    for use in (api.score, load, lambda path: pruned(path, tmp_path / "out")):
        with refused("adapter-beside-weights"):
            use(model)


@pytest.mark.parametrize(
    "key", ["drop_attn_list", "drop_mlp_list", "pruned_heads", "transformers_weights", "layers_to_skip"]
)
def test_parts_that_only_other_code_leaves_out_are_no_dense_model(model: Path, key: str):
    edit_config(model, **{key: []})
    detect_layout(open_store(model))
    edit_config(model, **{key: [1, 2]})
    for use in (lambda path: detect_layout(open_store(path)), load):
        with refused("structure-foreign", "model"):
            use(model)


def test_no_config_of_an_unknown_kind_leads_to_other_weights(model: Path):
    edit_config(model, model_type="unknown", transformers_weights="other.safetensors")
    with refused("weights-elsewhere"):
        load(model)


def test_outputs_have_names_whatever_a_config_says(model: Path):
    edit_config(model, return_dict=False)
    loaded = load(model)
    assert loaded(loaded.dummy_inputs["input_ids"]).logits is not None
    assert loaded.model(loaded.dummy_inputs["input_ids"]).last_hidden_state is not None


def test_a_config_that_names_code_of_its_own_is_read_without_it_and_says_so(model: Path):
    assert api.open_model(model).assumption == ""
    edit_config(model, auto_map={"AutoModelForCausalLM": "modeling_x.X"}, skip_every=2)
    said = api.open_model(model).assumption
    assert said == "config.json names code of its own, which is not run: it is read as llama, without 'skip_every'"
    assert said in api.score(model).notes


def test_keys_that_nobody_reads_are_named_wherever_a_model_is_opened(model: Path, tmp_path: Path, capsys: Any):
    edit_config(model, skip_every=2, note="", **{"x" * 50: 1, "\x1b[31m": 1})
    said = "config.json is read as llama, which does not know what these keys ask for: 'skip_every', 'xxx"
    assert api.open_model(model).assumption.startswith(said)
    for command in (["score", model], ["inspect", model], ["prune", model, "--drop", 1, "-o", tmp_path / "out"]):
        found = answer(capsys, *command)
        assert found.status == 0
        assert "'skip_every'" in found.out + found.err
        assert "\x1b" not in found.out + found.err
    assert "skip_every" in (tmp_path / "out/README.md").read_text()
    assert "skip_every" in api.open_model(tmp_path / "out").assumption


def test_a_list_of_parts_that_do_not_run_is_refused_inside_of_a_larger_model_too(
    tiny_models: TinyModels, tmp_path: Path
):
    model = shutil.copytree(tiny_models("llava"), tmp_path / "whole")
    edit_config(model, skipped_layers=[1])
    with refused("structure-foreign", "model"):
        api.open_model(model)


@pytest.mark.parametrize(
    ("name", "belongs"),
    [
        *((name, True) for name in ("config.json", "tokenizer.model", "vocab.txt", "chat_template.jinja", "LICENSE")),
        *((name, True) for name in ("additional_chat_templates/tool_use.jinja", "README.md", "merges.txt")),
        *((name, False) for name in ("modeling_x.py", "LICENSE.py", ".gitattributes", "pytorch_model.bin")),
        *((name, False) for name in ("original/params.json", "model.safetensors.index.json", "x.so", "a/b/c.json")),
    ],
)
def test_which_files_go_with_weights(name: str, belongs: bool):
    assert is_companion(name) == belongs


# ---- sources that change while they are read


def test_a_source_that_changes_is_noticed_at_the_end(model: Path, tmp_path: Path):
    layout, plan = api.open_model(model), api.plan(model, drop=[1])

    def change(done: int, total: int) -> None:
        with (model / "model.safetensors").open("r+b") as file:
            file.seek(-4, os.SEEK_END)
            file.write(b"\1\2\3\4")
        os.utime(model / "model.safetensors")

    with refused("file-changed"):
        write_pruned(layout, plan, tmp_path / "out", change)
    assert not (tmp_path / "out").exists()


def test_a_source_that_was_cut_short_does_not_end_the_process(model: Path):
    store = open_store(model)
    name = next(iter(store.specs))
    store.raw(name)
    os.truncate(model / "model.safetensors", 4096)
    for read in (store.raw, store.loaded, store.float32):
        with refused("file-changed"):
            read(name)

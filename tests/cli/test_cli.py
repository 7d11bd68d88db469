"""The command line as a person or a script meets it: exit status, one-line errors, real processes where it matters."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gatenorm.cli import app, main
from tests.command_line import answer, refused

TinyModels = Callable[..., Path]


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_the_installed_command_answers():
    command = Path(sys.executable).with_name("gatenorm")
    for arguments in (["--help"], [], ["score", "--help"]):
        answer = subprocess.run([command, *arguments], capture_output=True, text=True, check=True)
        assert "Example: gatenorm" in answer.stdout
        assert answer.stderr == ""
    assert (
        subprocess.run([command, "--version"], capture_output=True, text=True, check=True).stdout == "gatenorm 0.1.0\n"
    )


def test_asking_for_help_imports_nothing_heavy():
    code = (
        "import sys; from gatenorm.cli import app, main; main(['--help'])\n"
        "heavy = {'torch', 'transformers', 'huggingface_hub', 'altair'}\n"
        "assert not {*heavy, 'numpy'} & {*sys.modules}\n"
        "for command in app.registered_commands:\n"
        "    main([command.name, '--help'])\n"
        "    assert not heavy & {*sys.modules}, command.name\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_core_works_without_torch(tiny_models: TinyModels, tmp_path: Path):
    """Scoring, planning and pruning with torch and transformers made impossible to import."""
    code = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'altair'): sys.modules[name] = None\n"
        "from gatenorm.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )

    def core(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    model, out = tiny_models("llama-gqa", dtype="bfloat16"), tmp_path / "out"
    assert core("score", model).returncode == 0
    assert core("inspect", model).returncode == 0
    assert core("prune", model, "--layers", 1, "-o", out).returncode == 0
    assert (out / "config.json").is_file()
    data = tmp_path / "text.txt"
    data.write_text("a text")
    failed = core("eval", out, "--data", data)
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr.endswith("is not installed: pip install 'gatenorm[torch]'\n")
    failed = core("score", model, "--plot", tmp_path / "scores.png")
    assert failed.returncode == 2
    assert "pip install 'gatenorm[report]'" in failed.stderr
    failed = core("audit", "demo", "-o", tmp_path / "audit")
    assert failed.returncode == 2
    assert "pip install 'gatenorm[audit]'" in failed.stderr  # all that is missing, and not piece by piece


def test_inspect_shows_what_was_understood(tiny_models: TinyModels, capsys: pytest.CaptureFixture[str]):
    status, out, _ = run(capsys, "inspect", tiny_models("qwen3"))
    assert status == 0
    for shown in ("qwen3", "sequential", "2 key/value", "q norm", "model.layers.0.self_attn.q_proj.weight"):
        assert shown in out
    status, out, _ = run(capsys, "inspect", tiny_models("falcon-40b"), "--json", "-")
    assert json.loads(out)["block_shape"] == "parallel"


def test_score_is_a_table_for_people_and_json_for_machines(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    model = tiny_models("llama-mha")
    status, out, err = run(capsys, "score", model)
    assert (status, err) == (0, "")
    assert all(f"│     {layer} │" in out for layer in range(5))
    assert "clear cluster of weak late layers" in out
    assert "heuristic" in out
    status, out, _ = run(capsys, "score", model, "--json", "-", "--criterion", "gate-norm-heads")
    scores = json.loads(out)
    assert (status, scores["schema"], scores["criterion"]) == (0, "gatenorm/scores/1", "gate-norm-heads")
    assert sorted(scores["ranking"]) == [s["layer"] for s in scores["layers"]] == list(range(5))
    assert len(scores["layers"][0]["heads"]) == 8
    status, out, _ = run(capsys, "score", model, "--json", tmp_path / "scores.json")
    assert "rank" in out
    assert json.loads((tmp_path / "scores.json").read_text())["schema"] == "gatenorm/scores/1"


def test_prune_writes_says_and_records(tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model, out = tiny_models("gpt2"), tmp_path / "out"
    status, said, err = run(capsys, "prune", model, "--drop", "0,2-3", "-o", out, "--json", tmp_path / "plan.json")
    assert (status, err) == (0, "")
    assert "attention removed in 3 of 4 layers: 0, 2, 3" in said
    assert [edit["layer"] for edit in json.loads((tmp_path / "plan.json").read_text())["edits"]] == [0, 2, 3]
    status, said, _ = run(capsys, "prune", model, "--plan", tmp_path / "plan.json", "-o", tmp_path / "again")
    assert status == 0
    assert (tmp_path / "again/model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()


@pytest.mark.shared
def test_eval_compares_with_a_baseline(
    shared: Path, whole_stories: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source, out = shared / "models/stories260K", tmp_path / "out"
    assert run(capsys, "prune", source, "--drop", "2", "-o", out)[0] == 0
    arguments = ["eval", out, "--baseline", source, "--tasks", "perplexity", "--data", whole_stories]
    status, said, _ = run(capsys, *arguments, "--documents", "<|endoftext|>", "--limit", "40")
    assert status == 0
    for shown in ("4.651", "5.299", "+13.9", "15,202", "bos True", "cut at 512"):
        assert shown in said
    status, said, _ = run(capsys, *arguments, "--limit", "4", "--json", "-")
    first, second, change = json.loads(said)
    assert change["schema"] == "gatenorm/comparison/1"
    assert [len(first["edits"]), *(edit["layer"] for edit in second["edits"])] == [0, 2]
    assert first["protocol"]["window"] == 512
    assert first["tokens"] == 4 * 511
    assert first["data"]["sha256"] == hashlib.sha256(whole_stories.read_bytes()).hexdigest()


def bad(tmp_path: Path, model: Path) -> dict[str, tuple[list[object], str]]:
    """Wrong inputs and what the one line must say."""
    truncated = shutil.copytree(model, tmp_path / "safetensors-damaged")
    content = (truncated / "model.safetensors").read_bytes()
    (truncated / "model.safetensors").write_bytes(content[: len(content) // 2])
    no_attention = shutil.copytree(model, tmp_path / "no_attention")
    config = json.loads((no_attention / "config.json").read_text())
    (no_attention / "config.json").write_text(json.dumps({**config, "model_type": "gpt2", "n_head": 4}))
    another_head = shutil.copytree(model, tmp_path / "another_head")
    changed = json.dumps({**config, "architectures": ["LlamaForSequenceClassification"]})
    (another_head / "config.json").write_text(changed)
    out, taken = tmp_path / "out", tmp_path / "taken"
    taken.mkdir()
    (taken / "mine").write_text("mine")
    text = tmp_path / "short.txt"
    text.write_text("short")
    return {
        "no such model": (["score", tmp_path / "none"], "model-missing"),
        "safetensors-damaged": (["score", truncated], "safetensors-damaged"),
        "no q and k": (["score", no_attention], "tensor-missing"),
        "unknown criterion": (["score", model, "--criterion", "gatenorm"], "criterion-unknown criterion"),
        "not rotary": (["score", model, "--family", "opt"], "tensor-missing"),
        "unknown family": (["score", model, "--family", "lama"], "family-unknown family"),
        "plot ending": (
            ["score", model, "--plot", tmp_path / "a.bmp"],
            "plot-format-unknown plot",
        ),
        "plot folder": (["score", model, "--plot", tmp_path / "no/a.png"], "folder-missing plot"),
        "json folder": (["score", model, "--json", tmp_path / "no/a.json"], "not-writable json"),
        "json directory": (["score", model, "--json", tmp_path], "not-writable json"),
        "json empty": (["prune", model, "--drop", 1, "-o", out, "--json", ""], "not-writable json"),
        "json below a file": (["inspect", model, "--json", text / "a.json"], "not-writable json"),
        "json long": (["score", model, "--json", "x" * 300], "not-writable json"),
        "home of nobody": (["score", "~nosuchuser/x"], "model-no-path"),
        "long name": (["score", "x" * 5000], "model-no-path"),
        "impossible id": (["score", "a/b..c"], "model-unavailable"),
        "empty separator": (["eval", model, "--data", text, "--documents", ""], "documents-empty documents"),
        "no such device": (["eval", model, "--data", text, "--device", "cuda:99"], "device-unusable device"),
        "device of nothing": (["eval", model, "--data", text, "--device", "meta"], "device-unusable device"),
        "scores of nothing": (["score", model, "--backend", "torch", "--device", "meta"], "device-unusable device"),
        "no such dtype": (["eval", model, "--data", text, "--dtype", "float12"], "dtype-unknown dtype"),
        "window without text": (["eval", "demo", "--window", 64], "demo-no-text window"),
        "window of none": (["eval", model, "--data", text, "--window", 0], "option-value window"),
        "another head": (["prune", another_head, "--drop", 1, "-o", out], "model-not-prunable model"),
        "protected": (["prune", model, "--drop", 0, "--protect", 0, "-o", out], "layer-protected protect"),
        "too many": (["prune", model, "--layers", 4, "-o", out], "count-out-of-range layers"),
        "nothing asked": (["prune", model, "-o", out], "choice-unclear"),
        "no number": (["prune", model, "--drop", "1,x", "-o", out], "option-value drop"),
        "share": (["prune", model, "--share", "20", "-o", out], "share-out-of-range share"),
        "no output": (["prune", model, "--layers", 1], "out-missing out"),
        "taken": (["prune", model, "--layers", 1, "-o", taken], "out-taken out"),
        "unknown option": (["score", model, "--criterium", "depth"], "usage"),
        "unknown command": (["scroe", model], "usage"),
        "no data": (["eval", model], "data-missing data"),
        "missing text": (["eval", model, "--data", tmp_path / "none.txt"], "data-missing data"),
        "no tokenizer": (["eval", model, "--data", text], "tokenizer-unreadable"),
        "unknown task": (["eval", model, "--data", text, "--tasks", "perplexitty"], "task-unknown tasks"),
        "hub name": (["score", "no body/llama"], "model-missing"),
    }


BAD = [
    "no such model",
    "safetensors-damaged",
    "no q and k",
    "unknown criterion",
    "not rotary",
    "unknown family",
    "plot ending",
    "plot folder",
    "json folder",
    "json directory",
    "json empty",
    "json below a file",
    "json long",
    "home of nobody",
    "long name",
    "impossible id",
    "empty separator",
    "no such device",
    "device of nothing",
    "scores of nothing",
    "no such dtype",
    "window of none",
    "window without text",
    "another head",
    "protected",
    "too many",
    "nothing asked",
    "no number",
    "share",
    "no output",
    "taken",
    "unknown option",
    "unknown command",
    "no data",
    "missing text",
    "no tokenizer",
    "unknown task",
    "hub name",
]


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_status_2(
    case: str, tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    arguments, message = bad(tmp_path, tiny_models("llama-gqa"))[case]
    before = sorted(tmp_path.iterdir())
    refused(capsys, message, *arguments)
    assert sorted(tmp_path.iterdir()) == before
    given = answer(capsys, *arguments)
    assert (given.status, given.out, given.err.count("\n")) == (2, "", 1)
    assert given.err.startswith("error: ")


def test_names_out_of_files_are_shown_as_they_are(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Neither markup nor terminal commands in a name have any effect."""
    model = shutil.copytree(tiny_models("llama-gqa"), tmp_path / "[bold]m[red]")
    status, out, _ = run(capsys, "score", model)
    assert status == 0
    assert "[bold]m[red]: gate-norm" in out
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "model_type": "a\x1b[2Jb"}))
    status, _, err = run(capsys, "score", model)
    assert status == 2
    assert "\x1b" not in err


def test_titles_are_one_line_whatever_a_directory_is_called(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Of tables, drawings, pages and cards; and so is the name in records."""
    model = shutil.copytree(tiny_models("llama-gqa"), tmp_path / "two\nlines\x1b[2J\u202e")
    shown = "two lines?[2J?"
    places = [tmp_path / f"scores.{ending}" for ending in ("html", "svg")]
    for place in places:
        status, out, _ = run(capsys, "score", model, "--plot", place, "--json", tmp_path / "scores.json")
        assert status == 0
        assert f"{shown}: gate-norm" in out
        assert f"{shown}: gate-norm by layer" in place.read_text(encoding="utf-8")
    assert json.loads((tmp_path / "scores.json").read_text())["model"]["name"] == shown
    assert run(capsys, "prune", model, "--drop", 1, "-o", tmp_path / "out")[0] == 0
    assert "# two lines?" in (tmp_path / "out/README.md").read_text(encoding="utf-8")


def test_an_assumed_family_can_be_pruned(tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model = shutil.copytree(tiny_models("llama-gqa"), tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    changed = {**config, "model_type": "foo", "architectures": ["FooForCausalLM"]}
    (model / "config.json").write_text(json.dumps(changed))
    status, _, err = run(capsys, "prune", model, "--drop", 1, "-o", tmp_path / "out")
    assert status == 2
    # transformers has no class of this type, so nothing can be proved and nothing is proposed.
    assert "--family" not in err
    status, _, err = run(capsys, "prune", model, "--drop", 1, "-o", tmp_path / "out", "--family", "llama")
    assert status == 0
    assert "unproved" in (tmp_path / "out/README.md").read_text()
    assert "warning: family llama is assumed for model_type 'foo', unproved: transformers has no class of that" in err
    written = json.loads((tmp_path / "out/config.json").read_text())
    assert written["gatenorm"]["base_model_type"] == "llama"
    # What is measured of it says so below its figures.
    asked = ["--lengths", 8, "--new-tokens", 2, "--rounds", 2]
    status, said, _ = run(capsys, "bench", tmp_path / "out", *asked)
    assert status == 0
    assert "out: family llama is assumed for model_type 'foo'" in " ".join(said.split())


def test_a_full_output_is_one_line(tiny_models: TinyModels):
    code = "import sys; from gatenorm.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "score", str(tiny_models("llama-gqa")), "--json", "-"]
    with Path("/dev/full").open("w") as full:
        answer = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (answer.returncode, answer.stderr) == (2, "error: No space left on device\n")


def test_debug_shows_the_traceback_wherever_it_stands(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    status, _, err = run(capsys, "score", tmp_path / "none", "--debug")
    assert status == 2
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("error: ")


def test_every_subcommand_ends_its_help_with_an_example(capsys: pytest.CaptureFixture[str]):
    names = [command.name for command in app.registered_commands]
    assert names == [
        "inspect",
        "score",
        "compare",
        "prune",
        "export",
        "convert",
        "verify",
        "curve",
        "eval",
        "bench",
        "profile",
        "recover",
        "audit",
        "demo",
        "reproduce",
        "doctor",
    ]
    others = {"demo": "gatenorm demo --", "doctor": "gatenorm doctor", "reproduce": "gatenorm reproduce smollm2-"}
    for name in names:
        status, out, _ = run(capsys, name, "--help")
        assert status == 0
        example = " ".join(out.split()).rpartition("Example: ")[2]
        assert example.startswith(others.get(name, f"gatenorm {name} ./"))


def test_a_fault_of_ours_has_a_status_of_its_own(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("gatenorm.api.inspect", broken)
    status, _, err = run(capsys, "inspect", "demo")
    assert status == 70  # neither bad input (2) nor models that differ (1)
    assert "ZeroDivisionError: a bug" in err

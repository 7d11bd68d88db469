"""The commands of the documents run, on the built-in model in the place of the models that they name, in small.

Each is executed in a folder of its own that holds what it reads: ``./llama`` is the built-in model, ``./llama-8`` that
model pruned, ``text.txt`` a text. What is not run here stands in ``NOT_RUN`` with the reason.
"""

from __future__ import annotations

import doctest
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

import gatenorm
from gatenorm.cli import main
from gatenorm.demo.package import MODEL
from tests.test_documents import ROOT, commands

# Why commands are not run here, by a pattern of them; the first that fits counts.
NOT_RUN = {
    r"novels-16L|novels-8|novels-distill|stories3M|neo\b|llama-24": "a measurement on a model that is not part of this",
    r"smollm2|work/real/|\bsix\b": "a real language model, measured by hand",
    r"reproduce (mine|llama|gemma|qwen)": "tests/study carries recipes out, on the built-in model and on stand-ins",
    r"meta-llama/": "needs the network",
    r"\bmodel\.gguf": "a file of llama.cpp's architecture llama: tests/cli/test_gguf_files.py writes one",
    r"--criterion query-norm": "the criterion that CONTRIBUTING writes: tests/plugin has one of its own",
    r"--engine (vllm|mlx)": "an engine in an environment of its own: make test-engines",
    r"--data demo\b|^gatenorm (curve|compare) demo|^gatenorm eval (demo|d3)": "minutes: a measurement in full",
    r"--plot retrieval": "draws retrieval records, which the built-in model's own items do not give",
    r"zeroshot|--task-data": "needs the tasks' files: tests/cli/test_evaluate.py runs them",
    r"^gatenorm (bench|recover ./llama --study)": "a process for each model: tests/cli runs them",
    r"^gatenorm recover .*distill": "one step makes no better model: tests/cli/test_recover.py takes more",
    r"^gatenorm prune demo --layers 3 --replace linear --fit self": "self text by the thousand tokens",
}
# What makes a run small, or fit for the built-in model of 16 layers: options that are added or get another value. Of
# patterns that fit a command all hold.
SMALL = {
    r"^gatenorm (compare|curve)": "--samples 2 --length 16",
    r"^gatenorm (score|prune) .*(--cross-check|cosine)": "--samples 2 --length 16",
    r"--kind any --replace linear": "--samples 16 --length 16",
    r"^gatenorm prune .*--replace": "--fit-samples 16 --length 32",
    r"^gatenorm prune .*--drop": "--drop 3,4",
    r"^gatenorm curve": "--limit 2 --window 16 --counts 1 --seeds 1",
    r"^gatenorm eval": "--limit 1",
    r"^gatenorm eval .*--data": "--window 16",
    r"^gatenorm recover": "--steps 1 --batch 1 --length 16 --watch-every 1 --watch-windows 1",
    r"^gatenorm profile": "--lengths 8 --new-tokens 1 --rounds 1",
    r"^gatenorm verify": "--tokens 4",
    r"^gatenorm inspect .*--context": "--context 512",
    # The whole workflow has tests of its own: here the options are read and the configuration is made of them.
    r"^gatenorm audit": "--write-config written.yaml",
}
STORY = "The book is allowed. Ida reached London. Clara reached Madrid. Hugo met Nora. Now three pears are left.\n"
TEXTS = ("text.txt", "held-out.txt", "train.txt", "mine.txt", "my-text.txt", "FILE")
# What is read: pruned directories by how they are pruned.
PRUNED = {
    "llama-8": {"layers": 8},
    "llama-half": {"share": 0.5},
    "llama-6": {"layers": 2, "replace": "linear"},
    "llama-fast": {"layers": 2},
}
LINES = sorted({line for _, line in commands()})
RUN = [line for line in LINES if not any(re.search(pattern, line) for pattern in NOT_RUN)]


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the commands read."""
    folder = tmp_path_factory.mktemp("stand-ins")
    for name in ("llama", "MODEL"):
        shutil.copytree(MODEL.directory, folder / name)
    for name in TEXTS:
        (folder / name).write_text(STORY * 200)
    (folder / "wiki.test.raw").write_text(f" = A Story = \n\n {STORY} \n" * 20)
    (folder / "prompts.jsonl").write_text(json.dumps({"prompt": "The book is", "reference": "allowed."}) + "\n")
    fit = gatenorm.Calibration("random", 16, 32)
    for name, how in PRUNED.items():
        plan = gatenorm.plan("demo", **how)
        if gatenorm.unfitted(plan):
            plan = gatenorm.fit("demo", plan, [fit])
        gatenorm.prune("demo", folder / name, plan)
    for name in ("DIR", "DIRECTORY"):
        (folder / name).symlink_to(folder / "llama-8")
    gatenorm.export(folder / "llama-8", "gguf", folder / "llama-8.gguf")
    return folder


def prepared(line: str, stand_ins: Path, folder: Path) -> list[str]:
    """The arguments of a command in small; what it reads is linked into the folder, what it writes is not."""
    _, *arguments = shlex.split(line)
    written = {arguments[n + 1] for n, a in enumerate(arguments) if a in ("-o", "--write", "--json", "--plot")}
    for word in re.split(r"[,=\s]", " ".join(arguments)):
        name = word.removeprefix("./").rstrip("/")
        if name and word not in written and (stand_ins / name).exists() and not (folder / name).exists():
            (folder / name).symlink_to(stand_ins / name)
    more = [word for pattern, options in SMALL.items() if re.search(pattern, line) for word in options.split()]
    for option, value in zip(more[::2], more[1::2], strict=True):
        if option in arguments:
            arguments[arguments.index(option) + 1] = value
        else:
            arguments += [option, value]
    return arguments


@pytest.mark.parametrize("line", RUN)
def test_a_documented_command_runs(
    line: str, stand_ins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    arguments = prepared(line, stand_ins, tmp_path)
    assert main(arguments) == 0, capsys.readouterr().err
    for n, argument in enumerate(arguments):
        if argument in ("-o", "--write") and "--dry-run" not in arguments and arguments[0] != "audit":
            assert (tmp_path / arguments[n + 1]).exists()


def test_every_pattern_is_needed():
    for pattern in (*NOT_RUN, *SMALL):
        assert any(re.search(pattern, line) for line in LINES), pattern


def shown() -> list[tuple[str, str, str]]:
    """Commands on the built-in model that a document shows with their output."""
    found = []
    for path in sorted((ROOT / "docs").rglob("*.md")):
        for block in re.findall(r"^```console\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            for one in re.findall(r"^\$ (gatenorm .*? demo\b.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
                found.append((path.name, *one))
    return found


@pytest.mark.parametrize(("document", "line", "output"), [one for one in shown() if " audit " not in one[1]])
def test_output_in_a_document_is_what_comes_out(
    document: str, line: str, output: str, capsys: pytest.CaptureFixture[str]
):
    assert main(shlex.split(line)[1:]) == 0
    got = re.sub(r" in \d+\.\d+ s\b", " in ... s", capsys.readouterr().out)
    expected = re.sub(r" in \d+\.\d+ s\b", " in ... s", output)
    same = doctest.OutputChecker().check_output(expected, got, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert same, f"{document}:\n{got}"

"""``gatenorm eval``: several tasks in one call, bad input in one line, results kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gatenorm.cli import main
from gatenorm.cli.evaluate import command
from gatenorm.cli.tables.evaluation import show
from gatenorm.evaluation.core.registry import standard_tasks
from gatenorm.evaluation.statistics.paired_statistics import compare
from gatenorm.records.evidence import Comparison, Evidence, Figure, Item, Multistep, Refusal, Retrieval, ZeroShot
from tests.command_line import refused
from tests.report.audits import audit, own_prompts, with_english_tasks


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main([str(a) for a in arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


def kind_of(record: dict[str, Any]) -> str:
    return str(record["schema"]).split("/")[1]


def figures_of(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in ("items", "seconds", "versions")}


@pytest.fixture(scope="module")
def pruned(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pruned") / "less"
    assert main(["prune", str(shared / "models/stories260K"), "--drop", "0,3", "-o", str(out)]) == 0
    return out


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    story = "Once upon a time there was a little dog named Spot. He liked to run in the park with Tim. "
    text, workload = tmp_path / "text.txt", tmp_path / "work.jsonl"
    text.write_text(story * 40)
    rows: list[dict[str, str]] = [
        {"prompt": "Once upon a time, there was", "reference": "a little girl named Lily."},
        {"prompt": "Tom had a red ball. One day"},
    ]
    workload.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"text": text, "workload": workload}


@pytest.mark.shared
def test_one_call_measures_everything(
    shared: Path, pruned: Path, files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    tasks = "perplexity,zeroshot:openbookqa+rte,domain,refusal,retrieval"
    arguments: list[Any] = ["eval", pruned, "--baseline", shared / "models/stories260K", "--tasks", tasks]
    arguments += ["--data", shared / "data/zeroshot", "--data", f"perplexity={files['text']}"]
    arguments += ["--data", f"domain={files['workload']}", "--data", f"retrieval={files['text']}"]
    arguments += ["--limit", 2, "--new-tokens", 6, "--window", 256]
    target, plot = tmp_path / "out.json", tmp_path / "heat.png"
    status, said, err = run(capsys, *arguments, "--json", target, "--plot", plot)
    assert (status, err) == (0, "")
    for shown in ("a word", "openbookqa", "acc_norm", "zero-shot average", "harmful requests refused", "two-hop"):
        assert shown in said
    for shown in ("divergence", "the items that changed most", "loss by position", "change (95%)", "100% deep"):
        assert shown in said
    assert "refuses nothing at all" in said
    assert "within two standard errors of chance" in said
    assert plot.stat().st_size > 5000
    records = json.loads(target.read_text())
    kinds = [kind_of(r) for r in records]
    once = ("perplexity", "refusal", "positions", "zeroshot-average")
    assert all(kinds.count(kind) == 2 for kind in once)
    assert (kinds.count("zeroshot"), kinds.count("retrieval"), kinds.count("domain")) == (4, 4, 1)
    of = [r["of"] for r in records if kind_of(r) == "comparison"]
    assert sorted(set(of)) == ["perplexity", "positions", "refusal", "retrieval", "zeroshot", "zeroshot-average"]
    for record in records:
        assert record["model"]["name"] in ("stories260K", "less")
        assert record["data"]["sha256"]
        assert record["versions"]["torch"]
        if kind_of(record) == "perplexity":
            assert "items" not in record
    # Once more: nothing is measured, and every figure is the same.
    status, said, _ = run(capsys, *arguments, "--json", target, "--items")
    again = json.loads(target.read_text())
    assert [figures_of(r) for r in again] == [figures_of(r) for r in records]
    assert len(again[kinds.index("perplexity")]["items"]) == 2
    assert "15 of 15 measurements came from the cache" in said


@pytest.mark.shared
def test_one_item_has_a_score_and_no_error(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["eval", shared / "models/stories260K", "--data", shared / "data/zeroshot", "--limit", 1]
    status, said, err = run(
        capsys, *arguments, "--tasks", "zeroshot:openbookqa+rte", "--no-cache", "--json", tmp_path / "one.json"
    )
    assert (status, err) == (0, "")
    assert "zero-shot average" in said
    assert "±" not in said
    assert "within two standard errors of chance: openbookqa, rte" in said
    found = {kind_of(r): r for r in json.loads((tmp_path / "one.json").read_text())}
    assert "stderr" not in found["zeroshot-average"]["average"]


@pytest.mark.parametrize(("count", "said"), [(1, "1 item is uncertain by up to 98"), (3, "57"), (24, "20"), (25, "")])
def test_so_few_items_that_they_prove_nothing_are_called_so(count: int, said: str, capsys: pytest.CaptureFixture[str]):
    right = Figure(value=1.0, stderr=0.0)  # the error of three right answers out of three
    of_choices = [
        Multistep(name="sums", metrics={"accuracy": right}, count=count),
        ZeroShot(name="rte", metrics={"acc": right}, count=count),
    ]
    made_up = with_english_tasks(audit("demo")).baseline
    others = [msgspec.structs.replace(e, count=count) for e in made_up if isinstance(e, (Retrieval, Refusal))]
    show([*of_choices, *others])
    lines = [line for line in capsys.readouterr().out.splitlines() if "too few to judge by" in line]
    assert [line.rpartition(" (")[2] for line in lines] == (
        ["sums)", "rte)", "one hop, two hop)", "refusal)"] if said else []
    )
    assert all(said in line for line in lines)


@pytest.mark.shared
def test_models_with_other_tokenizers_are_shown_side_by_side_and_not_compared(
    shared: Path, files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    models = shared / "models"
    arguments: list[Any] = ["eval", models / "stories3M", "--baseline", models / "stories260K", "--window", 32]
    arguments += ["--tasks", "perplexity,positions", "--data", files["text"], "--no-cache"]
    status, said, err = run(capsys, *arguments, "--json", tmp_path / "out.json")
    assert (status, err) == (0, "")
    assert said.count("different tokens, so figures by token do not compare") == 2
    assert "do not compare; those by word do" in said
    assert "change of the loss" not in said
    kinds = [kind_of(record) for record in json.loads((tmp_path / "out.json").read_text())]
    assert kinds == ["perplexity", "positions"] * 2
    status, said, err = run(capsys, *arguments, "--limit", 2)
    assert "nor those by word: --limit takes other parts of the text" in said
    arguments[arguments.index("--tasks") + 1] = "perplexity,domain"
    status, said, err = run(capsys, *arguments)
    assert (status, said) == (2, "")
    assert err == (
        "error: stories3M and stories260K have different tokenizers: their distributions cannot be compared\n"
    )


@pytest.mark.shared
def test_bad_input_gets_one_line(
    shared: Path, pruned: Path, files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    model, text = shared / "models/stories260K", files["text"]
    long, empty = tmp_path / "long.jsonl", tmp_path / "empty.jsonl"
    long.write_text(json.dumps({"prompt": "word " * 900}) + "\n")
    empty.write_text("")
    base = ["--baseline", model]
    for arguments, message in [
        (["--tasks", "domain", "--data", text], "baseline-missing baseline"),
        (["--tasks", "domain", *base, "--data", empty], "data-empty data"),
        (["--tasks", "domain", *base, "--data", long], "prompt-too-long"),
        (["--tasks", "domain", *base], "data-missing data"),
        (["--tasks", "zeroshot", "--data", tmp_path], "task-file-missing data"),
        (["--tasks", "refusal", "--data", empty], "data-empty data"),
        (["--tasks", "perplexity", "--data", text, "--batch-size", "some"], "option-value batch_size"),
        (["--tasks", "perplexity", "--data", text, "--plot", tmp_path / "a.gif"], "plot-format-unknown plot"),
        (["--tasks", "perplexity", "--data", text, "--plot", tmp_path / "a.png"], "plot-without-retrieval plot"),
    ]:
        refused(capsys, message, "eval", pruned, *arguments)


def test_a_plot_of_a_language_of_its_own_is_refused_before_any_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["demo", "--tasks", "retrieval", "--plot", tmp_path / "a.png"]
    refused(capsys, "plot-own-language plot", "eval", *arguments)


def test_help_names_every_task(capsys: pytest.CaptureFixture[str]):
    assert main(["eval", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for name in standard_tasks():
        assert name in said
    assert command.__doc__


@pytest.mark.shared
def test_an_interrupted_run_says_what_it_keeps(
    shared: Path, files: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    from gatenorm.evaluation.tasks import refusal

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(refusal, "greedy", stop)
    arguments = ["eval", shared / "models/stories260K", "--tasks", "perplexity,refusal", "--data", files["text"]]
    status, _, err = run(capsys, *arguments, "--window", 61)
    assert status == 130
    assert "1 finished results are kept" in err


def test_own_prompts_are_shown_with_what_was_asked(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "400")
    show([own_prompts()])
    said = capsys.readouterr().out
    assert "the items that changed most (5 of 6; --json lists them all)" in said
    assert "… word word" in said
    assert "word asks for 1 " in said
    assert "before word word" in said
    assert "word …" in said
    assert "read: prompts\n" in said
    assert "False" not in said
    show([own_prompts(5)])
    assert "of 5" not in capsys.readouterr().out


def test_a_reply_that_changed_is_shown_before_and_after(capsys: pytest.CaptureFixture[str]):
    evidence = with_english_tasks(audit("demo")).variants[0].evidence
    show([e for e in evidence if isinstance(e, Refusal) or (isinstance(e, Comparison) and e.of == "refusal")])
    assert "changed: a: refuses ('No') -> answers ('Yes')" in capsys.readouterr().out


class Oddness(Evidence, frozen=True, kw_only=True, tag="gatenorm/oddness/1"):
    """A kind of record that has a number and items, and no tasks."""

    odd: float
    items: tuple[Item, ...]

    def numbers(self) -> dict[str, float]:
        return {"odd": self.odd}


def test_the_change_of_a_kind_without_tasks_is_shown(capsys: pytest.CaptureFixture[str]):
    def of(name: str, *odd: float) -> Oddness:
        items = tuple(Item(id=n, metrics={"odd": value}) for n, value in enumerate(odd))
        model = msgspec.structs.replace(audit("demo").model, name=name)
        return Oddness(model=model, odd=sum(odd) / len(odd), items=items)

    before, after = of("whole", 2.0, 4.0), of("less", 2.5, 4.5)
    comparison = compare(before, after)
    assert comparison is not None
    show([before, after, comparison])
    said = capsys.readouterr().out
    assert "3.0000" in said
    assert "+0.5000" in said

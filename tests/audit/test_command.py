"""What ``gatenorm audit`` says on a terminal: the table with its marks, and what is kept when it is stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

import gatenorm.api
from gatenorm.audit import main as running
from gatenorm.audit.plan.config import Config, config_from
from gatenorm.audit.plan.parts import Part
from gatenorm.audit.plan.prepare import prepare
from gatenorm.audit.run import progress
from gatenorm.audit.run.workflow import RECOVERS
from gatenorm.cli import audit as command, main
from gatenorm.cli.audit_options import namer, remedy
from gatenorm.cli.tables.audit import show
from gatenorm.records.audit import FAILS, INCONCLUSIVE, PASSES, Audit, GateResult, NotExamined, Setting, StepName
from gatenorm.report.page.content import report
from gatenorm.report.page.markdown import markdown
from tests.report.audits import audit


def judged(*gates: tuple[float | None, str]) -> Audit:
    """The demo's audit with one candidate, and task drops of which so much is said."""
    one = audit("demo")
    results = tuple(
        GateResult(gate="task-drop", limit=2.0, unit="points", value=v, outcome=o, detail="", reason="", low=v, high=v)
        for v, o in gates
    )
    variants = tuple(replace(one.variants[0], name=f"v{n}", gates=(r,)) for n, r in enumerate(results))
    return replace(one, variants=variants, chosen=None, warnings=(), not_examined=())


def shown(one: Audit, capsys: pytest.CaptureFixture[str]) -> str:
    show(one, Path("nowhere"), str)
    return capsys.readouterr().out


def test_every_mark_in_the_table_is_explained(capsys: pytest.CaptureFixture[str]):
    said = shown(judged((-5.357, INCONCLUSIVE), (7.5, FAILS), (1.0, PASSES), (None, INCONCLUSIVE)), capsys)
    assert "5.36 points gained ?" in said
    assert "7.5 points lost !" in said
    assert "1 point lost " in said
    assert "\nmarks: ! fails, ? inconclusive, - not measured\n" in said


def test_marks_that_are_not_there_are_not_explained(capsys: pytest.CaptureFixture[str]):
    one = judged((1.0, PASSES))
    assert "marks:" not in shown(one, capsys)
    assert "marks: * recommended\n" in shown(replace(one, chosen="v0"), capsys)


def test_what_was_not_examined_is_asked_for_by_options(capsys: pytest.CaptureFixture[str]):
    setting = Setting("evaluation.domain", "a file")
    gaps = (
        NotExamined.unless(StepName.WORKLOAD, "your workload", "no file", setting),
        NotExamined(StepName.SPEED, "speed in run.device", "no file", "give run.device"),
    )
    show(replace(audit("demo"), not_examined=gaps), Path("nowhere"), namer({}, None))
    said = capsys.readouterr().out
    assert "not examined: your workload (no file; set --domain to a file)" in said
    assert "speed in run.device (no file; give run.device)" in said


OFF = {"retrieval": False, "multistep": False, "refusal": "none"}


def test_what_would_make_an_audit_look_is_given_as_an_option(tmp_path: Path):
    """Every setting that it names can be typed as it stands, words for files apart."""
    plans = [prepare("demo", tmp_path, Config()), prepare("demo", tmp_path, config_from({"evaluation": OFF}))]
    gaps = [gap for plan in plans for gap in plan.missing if gap.setting is not None]
    gaps.append(NotExamined.unless(StepName.RECOVERY, "recovery", "not asked for", RECOVERS))
    told = [remedy(gap, namer({}, None)) for gap in gaps]
    assert {"give --recover", "give --gate speed-up=1.02", "set --retrieval to on"} <= {*told}
    words = NotExamined.unless(
        StepName.SPEED, "exports", "none", Setting("speed.engines", "one that reads files, if any")
    )
    assert remedy(words, namer({}, None)) == "set --engine to one that reads files, if any"
    for line in told:
        verb, option, *rest = line.split(" ", 2)
        value = rest[0].removeprefix("to ") if verb == "set" else " ".join(rest)
        assert option.startswith("--"), line
        written = str(tmp_path / "written.yaml")
        assert main(["audit", "demo", option, *([value] if value else []), "--write-config", written]) == 0, line


def test_a_file_that_is_called_like_a_key_keeps_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    part = Part(StepName.TASKS, "measure perplexity on run.device of each", (), Setting("evaluation.text_limit", "16"))

    def planned(*_: object, listener: progress.Listener, **__: object) -> None:
        progress.Reporter(listener).plan([part.what], part)
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "run_audit", planned)
    assert main(["audit", "-o", str(tmp_path / "audit")]) == 130
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("plan: ")]
    assert said == [
        "plan: measure perplexity on run.device of each",
        "plan: takes longest: measure perplexity on run.device of each; to shorten that: --limit 16",
    ]


def test_the_report_gives_losses_the_same_words():
    text = markdown(report(judged((-5.357, INCONCLUSIVE), (7.5, FAILS), (1.0, PASSES))))
    assert "| 1 point lost |" in text
    assert "| 5.36 points gained | 5.36 points gained to 5.36 points gained |" in text
    assert "| 7.5 points lost |" in text


def test_whoever_stops_it_is_told_that_it_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    def stopped(*_: object, **__: object) -> None:
        (tmp_path / "audit").mkdir(exist_ok=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "run_audit", stopped)
    assert main(["audit", "-o", str(tmp_path / "audit")]) == 130
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"what was finished is kept in {tmp_path / 'audit'}: repeat the command to continue"
    assert second.startswith("interrupted")


def test_a_stopped_curve_goes_on_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    text, state = tmp_path / "t.txt", tmp_path / "state.json"
    text.write_text("Ida\n")
    state.write_text("{}")

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(gatenorm.api, "curve", stopped)
    asked = ["curve", "demo", "--criteria", "depth", "--data", str(text)]
    assert main([*asked, "--state", str(state)]) == 130
    assert f"kept in {state}: repeat the command to continue\n" in capsys.readouterr().err
    assert main(asked) == 130
    assert "goes on" not in capsys.readouterr().err


@pytest.mark.parametrize(("silent", "more"), [(-1.0, ["a job", "a job"]), (600.0, [])])
def test_without_a_terminal_a_long_step_has_lines_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], silent: float, more: list[str]
):
    def one_step(*_: object, listener: progress.Listener, **__: object) -> None:
        reporter = progress.Reporter(listener)
        reporter.step(StepName.TASKS)
        reporter.work("a job", "job")
        reporter.done("a job", "job", 1.0)
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "run_audit", one_step)
    monkeypatch.setattr(command, "_SILENT", silent)
    assert main(["audit", "-o", str(tmp_path / "audit")]) == 130
    lines = [line.partition("): ")[2] for line in capsys.readouterr().err.splitlines() if line.startswith("step ")]
    assert lines == [str(StepName.TASKS), *more]

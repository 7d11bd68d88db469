"""A whole small audit: its figures, what it leaves on disk, what is done again, and what is not."""

from __future__ import annotations

import importlib.util
import json
import resource
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer

import gatenorm
from gatenorm.audit.judge.selection import failed
from gatenorm.audit.main import run_audit
from gatenorm.audit.run.job_runner import JobRunner
from gatenorm.audit.run.jobs import Evaluate, Result
from gatenorm.audit.state import lock
from gatenorm.cli import app, main
from gatenorm.errors import AuditError, EvaluationError, OutputError
from gatenorm.records import read_record, to_json
from gatenorm.records.audit import FAILS, INCONCLUSIVE, PASSES, PRUNED, RECOVERED, Audit
from gatenorm.records.evidence import Perplexity, of_type
from gatenorm.surgery.disk import RECOVERY_FILE
from tests.audit.audits import figures, small
from tests.errors import refused

Events = list[dict[str, Any]]
# Perplexity on the first three held-out stories, float32, one thread.
GOLDEN = {"demo": 1.80680, "gate-norm-2": 1.89462, "depth-2": 1.94874}


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """A disk on which no file can be larger than that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Audit, Events]:
    """The small audit, after a first attempt for which there was no room."""
    out = tmp_path_factory.mktemp("audits") / "audit"
    with largest_file(1 << 20), pytest.raises(OutputError) as error:
        run_audit("demo", out, small())
    assert error.value.code == "no-space"
    assert "which resumes the audit" in str(error.value)
    assert not (out / "audit.json").exists()
    assert list((out / "state" / "measured").iterdir())
    assert not [p for p in out.rglob("*") if "partial" in p.name]
    events: Events = []
    return out, run_audit("demo", out, small(), listener=lambda event: events.append(to_json(event))), events


def measured(events: Events) -> list[str]:
    return [e["what"] for e in events if e["event"] == "done" and e["seconds"] is not None]


def again(out: Path, **sections: Any) -> tuple[Audit, list[str]]:
    events: Events = []
    audit = run_audit("demo", out, small(**sections), listener=lambda event: events.append(to_json(event)))
    return audit, measured(events)


def test_a_small_audit_says_what_it_always_says(finished: tuple[Path, Audit, Events]):
    out, audit, events = finished
    assert read_record(Audit, out / "audit.json", "an audit") == audit
    by_name = {v.name: v for v in audit.variants}
    candidates = {v.name: v.plan.added.attention for v in audit.variants if v.role == "candidate"}
    assert candidates["gate-norm-2"] == (13, 15)
    assert len(candidates["gate-norm-13"]) == 13
    assert {v.criterion for v in audit.variants} == {
        "gate-norm",
        "cosine@random",
        "cosine@self",
        "weight-magnitude",
        "depth",
        "random",
    }
    # Three stories are enough to see that the first layer has gone, and nothing more is asked then.
    assert 0 in candidates["random-13"]
    rejected = by_name["random-13"]
    assert rejected.outcome == FAILS
    assert "a rise by an order of magnitude" in rejected.rejected
    assert {e.kind for e in rejected.evidence} == {"perplexity", "comparison"}
    assert not by_name["gate-norm-13"].rejected
    whole = next(e for e in audit.baseline if e.kind == "perplexity")
    assert whole.numbers()["perplexity"] == pytest.approx(GOLDEN["demo"], rel=1e-3)
    found = {
        name: next(e.numbers()["perplexity"] for e in by_name[name].evidence if e.kind == "perplexity")
        for name in ("gate-norm-2", "depth-2")
    }
    assert found == pytest.approx({name: GOLDEN[name] for name in found}, rel=1e-2)
    results = {g.gate: g for g in by_name["gate-norm-2"].gates}
    assert list(results) == ["perplexity-rise", "task-drop", "refusal-flips", "retrieval-loss"]
    assert results["perplexity-rise"].value == pytest.approx(
        100 * (found["gate-norm-2"] / GOLDEN["demo"] - 1), rel=0.05
    )
    assert results["retrieval-loss"].outcome == INCONCLUSIVE  # three items prove nothing
    assert [j.aspect for j in audit.verdict.judgements] == ["quality", "speed", "safety"]
    assert [j.outcome for j in audit.verdict.judgements if j.aspect == "speed"] == ["not examined"]
    assert "cosine@self" in audit.verdict.ranking
    assert {m.what for m in audit.not_examined} == {
        "your own workload",
        "speed and memory",
        "export and verify",
        "recovery",
    }
    done, not_done = "done", "not examined"
    assert [s.status for s in audit.steps] == [done, done, done, not_done, done, not_done, not_done]
    assert events[-1]["event"] == "finished"
    assert events[-1]["done"] == events[-1]["all"]


def test_the_search_bisects(finished: tuple[Path, Audit, Events]):
    _, audit, _ = finished
    assert audit.search is not None
    probes = audit.search.probes
    assert len(probes) <= 4  # of 15 budgets
    assert probes[0].removed == 8
    assert audit.search.gate == "perplexity-rise"
    passing = [p.removed for p in probes if p.gate.outcome == PASSES]
    assert audit.search.found == max(passing, default=0)


def test_variants_lie_there_with_their_evidence(finished: tuple[Path, Audit, Events]):
    out, audit, _ = finished
    for variant in audit.variants:
        if variant.role == "comparison":
            assert variant.directory == ""
            continue
        directory = out / variant.directory
        assert gatenorm.open_model(directory).edits.attention == variant.plan.edits.attention
        card = (directory / "README.md").read_text()
        assert card.count("## Evidence") == 1
        assert f"**{variant.outcome}**" in card
        assert "Nothing here says how good this model is" not in card


def test_nothing_is_measured_twice(finished: tuple[Path, Audit, Events]):
    out, _, _ = finished
    before = figures(out)
    _, done = again(out)
    assert done == []
    assert figures(out) == before
    _, done = again(out, gates={"perplexity-rise": 1.0, "task-drop": None})
    assert [what for what in done if "stories" not in what] == []  # another limit: the search looks elsewhere
    audit, done = again(out, evaluation={"refusal_limit": 3})
    assert {what.partition(":")[0] for what in done} == {"refusals"}
    assert all(v.gates for v in audit.variants if v.role == "candidate")


def test_a_calibration_under_another_name_is_the_same_measurement(finished: tuple[Path, Audit, Events]):
    out, _, _ = finished
    texts = [out.parent / name for name in ("one.txt", "copy.txt")]
    for text in texts:
        text.write_text("Once there was a fox. Ida was the fox. Ida lived in the wood.\n" * 20)
    again(out, rankings={"calibration": str(texts[0])})
    audit, done = again(out, rankings={"calibration": str(texts[1])})
    assert done == []
    assert "cosine@copy.txt" in audit.verdict.ranking
    assert {v.criterion for v in audit.variants} >= {"cosine@copy.txt", "cosine@random"}


def test_your_own_workload_is_another_measurement_and_nothing_else(finished: tuple[Path, Audit, Events]):
    out, _, _ = finished
    prompts = out.parent / "prompts.jsonl"
    prompts.write_text('{"prompt": "First came Ida Fox. After Ida"}\n{"prompt": "First came Tom Reed. After Tom"}\n')
    asked = {"domain": str(prompts), "new_tokens": 4}
    audit, done = again(out, evaluation=asked, gates={"domain-divergence": 1e-9})
    assert {what.partition(":")[0] for what in done} == {"your workload"}
    gate = next(g for v in audit.variants if v.name == "gate-norm-13" for g in v.gates if g.gate == "domain-divergence")
    # Of two prompts the interval reaches 12.7 standard errors to both sides: beyond the limit, and inconclusive.
    assert (gate.outcome, gate.unit) == (INCONCLUSIVE, "nats")
    low, value, high = (float("nan") if end is None else end for end in (gate.low, gate.value, gate.high))
    assert low <= 1e-9 < value < high


def test_what_was_recovered_is_measured_anew(finished: tuple[Path, Audit, Events]):
    """It lacks the same layers as the variant that it was trained from, and is another model."""
    out, _, _ = finished
    audit, done = again(out, recovery={"enabled": True, "steps": 4, "from_share": 0.5})
    recovered = next(v for v in audit.variants if v.state == RECOVERED)
    pruned = next(v for v in audit.variants if v.state == PRUNED and v.plan.edits == recovered.plan.edits)
    assert "perplexity on held-out stories: gate-norm-13-recovered" in done
    before, after = (next(e for e in v.evidence if e.kind == "perplexity") for v in (pruned, recovered))
    assert after.model.recovered
    assert not before.model.recovered
    assert after.numbers()["nll"] < before.numbers()["nll"]
    training = next(e for e in recovered.evidence if e.kind == "recovery")
    assert training.numbers()["perplexity_merged"] < training.numbers()["perplexity_before"]
    assert again(out, recovery={"enabled": True, "steps": 4, "from_share": 0.5})[1] == []


def test_every_command_it_gives_parses(finished: tuple[Path, Audit, Events]):
    out, _, _ = finished
    audit, _ = again(out)
    group = typer.main.get_command(app)
    lines = [step.command for step in audit.steps if step.command]
    lines += [audit.provenance.command, *(entry.command for entry in audit.provenance.commands)]
    assert audit.verdict.next is not None
    lines.append(audit.verdict.next.command)
    assert len(lines) > 10
    for line in lines:
        program, name, *arguments = shlex.split(line)
        assert program == "gatenorm"
        group.commands[name].make_context(name, arguments)
    _, *whole = shlex.split(audit.provenance.command)
    assert main(whole) == 0
    assert json.loads((out / "audit.json").read_text())["config"] == audit.config


def test_a_known_training_is_repeated_where_another_took_its_place(finished: tuple[Path, Audit, Events]):
    out, _, _ = finished
    model = out / "recovered" / "gate-norm-13-recovered"
    asked = {"enabled": True, "steps": 2, "from_share": 0.5}
    kept = {"rankings": {"criteria": ["gate-norm"]}, "search": {"gate": None}}
    again(out, recovery=asked, **kept)
    again(out, recovery=asked | {"steps": 3}, **kept)
    assert steps_of(model) == 3
    assert "recovering gate-norm-13" in again(out, recovery=asked, **kept)[1]
    assert steps_of(model) == 2


def steps_of(model: Path) -> int:
    return int(json.loads((model / RECOVERY_FILE).read_text())["key"]["asked"]["steps"])


def test_a_damaged_file_is_measured_again(finished: tuple[Path, Audit, Events]):
    out, _, _ = finished
    again(out)
    before = figures(out)
    victim = max((out / "state" / "measured").iterdir(), key=lambda p: p.stat().st_size)
    victim.write_text(victim.read_text()[:100])
    _, done = again(out)
    assert len(done) <= 1
    assert figures(out) == before


def test_speed_is_measured_beside_nothing_else(finished: tuple[Path, Audit, Events]):
    out, _, _ = finished
    how = {"engines": ["transformers"], "lengths": [16], "new_tokens": 2, "rounds": 1}
    audit, done = again(
        out,
        budgets={"shares": [0.125]},
        speed=how,
        search={"gate": None},
        cost={"price_per_hour": 2.0},
        gates={"speed-up": 1.02},
    )
    assert done == [what for what in done if what.startswith("timing")]
    assert len(done) == 1
    timed = next(v for v in audit.variants if v.name == "gate-norm-2")
    gate = next(g for g in timed.gates if g.gate == "speed-up")
    assert timed.cost_benefit is not None
    (case,) = timed.cost_benefit.cases
    assert gate.value == pytest.approx(case.request_speedup)
    ratio = (case.cost_per_million_before or 0.0) / (case.cost_per_million_after or 1.0)
    assert ratio == pytest.approx(case.request_speedup)
    assert timed.cost_benefit.sentence
    assert not any(m.what == "speed and memory" for m in audit.not_examined)


@pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="xllamacpp is not installed")
def test_an_engine_that_reads_exports_is_verified_before_it_is_timed(finished: tuple[Path, Audit, Events]):
    out, _, _ = finished
    how = {"engines": ["llamacpp"], "lengths": [16], "new_tokens": 2, "rounds": 1}
    audit, done = again(out, budgets={"shares": [0.125]}, speed=how, search={"gate": None})
    assert [what.split()[0] for what in done][-1] == "timing"
    variant = next(v for v in audit.variants if v.name == "gate-norm-2")
    verified = next(g for g in variant.gates if g.gate == "verify")
    assert (verified.value, verified.outcome) == (0.0, PASSES)
    files = [part for part in shlex.split(audit.steps[5].command) if part.endswith(".gguf")]
    assert [Path(file).name for file in files] == ["gate-norm-2.gguf", "unpruned.gguf"]
    assert all(Path(file).is_file() for file in files)
    _, done = again(out, budgets={"shares": [0.125]}, speed=how, search={"gate": None})
    assert done == []
    training = {"enabled": True, "steps": 2, "from_share": 0.1}
    audit, done = again(out, budgets={"shares": [0.125]}, speed=how, search={"gate": None}, recovery=training)
    assert "exporting gate-norm-2-recovered" in done
    assert not any(what.startswith("timing") for what in done)  # training changes no shape
    recovered = next(v for v in audit.variants if v.name == "gate-norm-2-recovered")
    outcomes = {g.gate: g.outcome for g in recovered.gates}
    assert outcomes["verify"] == PASSES
    assert any(e.kind == "speed" for e in recovered.evidence)


FEW: dict[str, dict[str, Any]] = {
    "budgets": {"shares": [0.125]},
    "evaluation": {"stories_limit": 1, "zeroshot_limit": 1, "refusal": "none", "retrieval": False},
}


def test_equal_choices_of_two_criteria_are_measured_once_and_recorded_of_both(tmp_path: Path):
    criteria = {"criteria": ["gate-norm-heads", "gate-norm-rope"]}
    audit = run_audit("demo", tmp_path / "audit", small(**FEW, rankings=criteria, search={"gate": None}))
    one, other = (v for v in audit.variants if v.criterion in criteria["criteria"])
    assert one.plan.edits == other.plan.edits
    for variant in (one, other):
        assert {e.model.name for e in of_type(variant.evidence, Perplexity)} == {variant.name}
    assert [e.numbers() for e in one.evidence] == [e.numbers() for e in other.evidence]


def test_a_probe_that_cannot_be_measured_is_inconclusive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    evaluate = JobRunner._evaluate

    def only_on_disk(runner: JobRunner, job: Evaluate) -> Result:
        if job.in_memory:
            raise EvaluationError("broken", "is broken")
        return evaluate(runner, job)

    monkeypatch.setattr(JobRunner, "_evaluate", only_on_disk)
    audit = run_audit("demo", tmp_path / "audit", small(**FEW, rankings={"criteria": ["gate-norm"]}))
    assert audit.search is not None
    assert audit.search.found == 0
    assert {p.gate.outcome for p in audit.search.probes} == {INCONCLUSIVE}
    assert all(p.gate.detail == "not measured: is broken" for p in audit.search.probes)


def test_another_models_directory_is_refused(finished: tuple[Path, Audit, Events], tmp_path: Path, tiny_models: Any):
    out, _, _ = finished
    with refused("other-model", "directory", AuditError):
        run_audit(tiny_models("llama-mha"), out, small())
    (tmp_path / "something").write_text("else")
    with refused("not-empty", "directory", AuditError):
        run_audit("demo", tmp_path, small())


def test_a_second_process_is_told_that_it_is_the_second(finished: tuple[Path, Audit, Events]):
    out, _, _ = finished
    with lock(out), refused("locked", "directory", AuditError):
        run_audit("demo", out, small())


def test_a_gate_becomes_an_exit_status(finished: tuple[Path, Audit, Events], capsys: pytest.CaptureFixture[str]):
    out, _, _ = finished
    audit, _ = again(out)
    assert failed(audit, "any")
    config = out.parent / "small.yaml"
    config.write_text(json.dumps(to_json(small())))  # JSON is YAML too
    arguments = ["audit", "demo", "-o", str(out), "--config", str(config)]
    assert main([*arguments, "--fail-on", "any"]) == 1
    shown = capsys.readouterr()
    assert "gate-norm-2" in shown.out
    assert "--fail-on any: random-13: perplexity" in shown.err
    assert main([*arguments, "--json-lines"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1]["event"] == "finished"
    assert {line["event"] for line in lines} == {"plan", "step", "done", "finished"}


def test_a_model_that_cannot_be_run_is_scored_all_the_same(tiny_models: Any, tmp_path: Path):
    """Without a tokenizer nothing can be read to it, and whoever asks is told."""
    config = small(search={"gate": None}, budgets={"shares": [0.25]}, evaluation={"retrieval": False})
    audit = run_audit(tiny_models("llama-mha"), tmp_path / "audit", config)
    assert {v.outcome for v in audit.variants if v.role == "candidate"} == {INCONCLUSIVE}
    assert audit.cross_check is not None
    assert {"perplexity", "general tasks", "refusal", "your own workload"} <= {m.what for m in audit.not_examined}
    assert audit.chosen is None

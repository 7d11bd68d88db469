"""The evaluation: likelihoods against a plain reckoning, the command, and what the packaged model reaches."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import gatenorm
from gatenorm.analysis.curve import evaluation_samples
from gatenorm.calibration.shared_prefix import SharedPrefix
from gatenorm.cli import main
from gatenorm.criteria.ablation.leave_one_out import leave_one_out
from gatenorm.criteria.activations.cosine import cosine
from gatenorm.criteria.activations.norm_ratio import norm_ratio
from gatenorm.demo import evaluation
from gatenorm.demo.corpus import stories
from gatenorm.demo.package import MODEL
from gatenorm.demo.tasks import ALL_KINDS, KINDS, Item, Kind, items
from gatenorm.demo.tinyworld import END
from gatenorm.errors import EvaluationError
from gatenorm.evaluation.tasks.perplexity import Protocol
from gatenorm.models.model import Model
from tests.analysis.models import stream_statistics
from tests.errors import refused

ITEMS = 16


@pytest.fixture(scope="module")
def demo() -> Model:
    return Model.of_layout(gatenorm.open_model("demo"), dtype="float32")


def plain(model: Model, item: Item, candidate: str) -> float:
    """The log-likelihood of a candidate, one sequence at a time."""
    tokenizer = model.tokenizer
    prompt, whole = tokenizer(item.prompt)["input_ids"], tokenizer(item.prompt + candidate)["input_ids"]
    assert whole[: len(prompt)] == prompt
    with torch.inference_mode():
        logs = model.module(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
    return sum(logs[n - 1, whole[n]].item() for n in range(len(prompt), len(whole)))


def test_the_model_reaches_what_its_card_says(demo: Model):
    """On the first items of each kind, with room for their small number."""
    card = json.loads((MODEL.checked_directory() / "measured.json").read_text())
    records = [evaluation.held_out_perplexity(demo, 6), *(evaluation.task(demo, kind, ITEMS) for kind in ALL_KINDS)]
    for record in records:
        if record.kind == "perplexity":
            assert record.numbers()["nll"] == pytest.approx(card["perplexity"]["nll"], rel=0.08)
            assert record.numbers()["entropy"] == pytest.approx(card["perplexity"]["entropy"], rel=0.06)
            assert record.numbers()["nll"] > 0.99 * record.numbers()["entropy"]
        else:
            stated = card["tasks"][record.task]
            error = (max(stated["accuracy"] * (1 - stated["accuracy"]), 0.02) / ITEMS) ** 0.5
            assert record.numbers()["accuracy"] >= stated["accuracy"] - 3 * error
            assert record.numbers()["chance"] == pytest.approx(stated["chance"])


@pytest.mark.parametrize("kind", ALL_KINDS, ids=lambda kind: kind.name)
def test_how_sure_it_is_comes_out_of_the_likelihoods(kind: Kind, demo: Model):
    """Against a softmax over the candidates of the plain likelihoods."""
    found = evaluation.task(demo, kind, 4)
    for item, record in zip(items(kind, 4), found.items, strict=True):
        logs = torch.tensor([plain(demo, item, c) for c in item.candidates]).double()
        wrong = torch.cat([logs[: item.answer], logs[item.answer + 1 :]])
        expected = logs.log_softmax(0)[item.answer]
        assert record.metrics["log_probability"] == pytest.approx(float(expected), abs=2e-3)
        assert record.metrics["probability"] == pytest.approx(float(expected.exp()), abs=2e-3)
        assert record.metrics["margin"] == pytest.approx(float(logs[item.answer] - wrong.max()), abs=4e-3)
        assert record.metrics["accuracy"] == float(logs.argmax() == item.answer)
    for name in ("probability", "log_probability", "margin"):
        values = torch.tensor([record.metrics[name] for record in found.items], dtype=torch.float64)
        assert found.numbers()[name] == pytest.approx(float(values.mean()))
        assert found.numbers()[f"{name}_stderr"] == pytest.approx(float(values.std()) / 2)


def test_tokens_of_another_vocabulary_are_refused(demo: Model):
    config = demo.module.config.to_dict() | {"vocab_size": 100, "num_hidden_layers": 1}
    small = Model.of_module(type(demo.module)(type(demo.module.config)(**config)), demo.tokenizer)
    with refused("token-outside-vocabulary", kind=EvaluationError):
        evaluation.task(small, KINDS[0], 2)


def test_the_command_compares_a_pruned_version(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(evaluation, "STORIES", 2)
    monkeypatch.setattr(evaluation, "ITEMS", 2)
    out = tmp_path / "demo-2"
    assert main(["prune", "demo", "--layers", "2", "-o", str(out)]) == 0
    capsys.readouterr()
    assert main(["eval", str(out), "--baseline", "demo"]) == 0
    said = capsys.readouterr().out
    for shown in ("2 held-out stories", "own entropy", "recall-long", "refusal", "chance", "demo-2"):
        assert shown in said
    assert main(["eval", str(out), "--json", "-"]) == 0
    records = json.loads(capsys.readouterr().out)
    assert [r["schema"] for r in records] == ["gatenorm/perplexity/1"] + ["gatenorm/demo-task/1"] * len(ALL_KINDS)
    assert all(len(r["edits"]) == 2 and r["model"]["name"] == "demo-2" for r in records)
    assert all(r["count"] == 2 for r in records[1:])


def test_the_card_says_what_the_layers_do():
    """The streams on the card's own stories; the rises, which take a pass a layer, on the first of them."""
    card = json.loads((MODEL.checked_directory() / "measured.json").read_text())
    session = gatenorm.session("demo", dtype="float32")
    text = stories(card["layer_stories"])
    samples, _ = evaluation_samples(session.model, text, Protocol(separator=END))
    seen = stream_statistics(session.module, session.layout, samples)
    assert list(cosine(seen).values()) == pytest.approx(card["cosine"], rel=1e-3)
    assert list(norm_ratio(seen).values()) == pytest.approx(card["norm_ratio"], rel=1e-3)
    losses = SharedPrefix(session.model, evaluation_samples(session.model, stories(1), Protocol(separator=END))[0])
    assert losses([()])[0] == pytest.approx(card["loss"], rel=0.15)
    rise = leave_one_out(losses, session.layout.attention_layers)
    assert rise[0] == pytest.approx(card["rise"][0], rel=0.15)
    assert len(rise) == len(card["rise"]) == 16

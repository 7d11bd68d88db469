"""The evaluation: likelihoods against a plain reckoning, the command, and what the packaged model reaches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import gatenorm
from gatenorm.analysis.curve import evaluation_samples
from gatenorm.cli import main
from gatenorm.criteria.activations.cosine import cosine
from gatenorm.criteria.activations.norm_ratio import norm_ratio
from gatenorm.criteria.streams import stream_statistics
from gatenorm.demo import evaluation
from gatenorm.demo.analysis import stories, sublayers
from gatenorm.demo.hard_tasks import ALL_KINDS, HARDER
from gatenorm.demo.package import MODEL
from gatenorm.demo.tasks import KINDS, Item, items
from gatenorm.demo.tinyworld import END
from gatenorm.errors import EvaluationError
from gatenorm.evaluation.tasks.perplexity import Protocol
from gatenorm.models.loading import load, load_tokenizer

Loaded = tuple[Any, Any]
ITEMS = 16


@pytest.fixture(scope="module")
def demo() -> Loaded:
    return load(MODEL.checked_directory(), dtype=torch.float32), load_tokenizer(MODEL.checked_directory())


def plain(model: Any, tokenizer: Any, item: Item, candidate: str) -> float:
    """The log-likelihood of a candidate, one sequence at a time."""
    prompt, whole = tokenizer(item.prompt)["input_ids"], tokenizer(item.prompt + candidate)["input_ids"]
    assert whole[: len(prompt)] == prompt
    with torch.inference_mode():
        logs = model(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
    return sum(logs[n - 1, whole[n]].item() for n in range(len(prompt), len(whole)))


def test_scores_are_the_likelihoods_of_the_candidates(demo: Loaded):
    model, tokenizer = demo
    asked = [items(kind, 1)[0] for kind in ALL_KINDS]
    # Candidates of several tokens, of unequal number, must do as well.
    asked.append(Item("long", asked[0].prompt, (" Rome. Q: Who", " Xanadu", " the the"), 0))
    for item, found in zip(asked, evaluation.scores(model, tokenizer, asked), strict=True):
        assert found == pytest.approx([plain(model, tokenizer, item, c) for c in item.candidates], abs=2e-3)


def test_the_model_reaches_what_its_card_says(demo: Loaded):
    """On the first items of each kind, with room for their small number."""
    card = json.loads((MODEL.checked_directory() / "measured.json").read_text())
    for record in evaluation.evaluate(*demo, stories=6, count=ITEMS):
        if record.kind == "perplexity":
            assert record.numbers()["nll"] == pytest.approx(card["perplexity"]["nll"], rel=0.08)
            assert record.numbers()["entropy"] == pytest.approx(card["perplexity"]["entropy"], rel=0.06)
            assert record.numbers()["nll"] > 0.99 * record.numbers()["entropy"]
        else:
            stated = card["tasks"][record.task]
            error = (max(stated["accuracy"] * (1 - stated["accuracy"]), 0.02) / ITEMS) ** 0.5
            assert record.numbers()["accuracy"] >= stated["accuracy"] - 3 * error
            assert record.numbers()["chance"] == pytest.approx(stated["chance"])


def test_how_sure_it_is_comes_out_of_the_likelihoods(demo: Loaded):
    """Against a softmax over the candidates of the plain likelihoods."""
    model, tokenizer = demo
    kind = HARDER[0]
    found = evaluation.task(model, tokenizer, kind, 4)
    for item, record in zip(items(kind, 4), found.items, strict=True):
        logs = torch.tensor([plain(model, tokenizer, item, c) for c in item.candidates]).double()
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


def test_tokens_of_another_vocabulary_are_refused(demo: Loaded):
    model, tokenizer = demo
    small = type(model)(type(model.config)(**{**model.config.to_dict(), "vocab_size": 100, "num_hidden_layers": 1}))
    with pytest.raises(EvaluationError, match="outside the model's vocabulary"):
        evaluation.task(small, tokenizer, KINDS[0], 2)


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
    samples = evaluation_samples(session.model, text, Protocol(separator=END))
    seen = stream_statistics(session.module, session.layout, samples)
    assert list(cosine(seen).values()) == pytest.approx(card["cosine"], rel=1e-3)
    assert list(norm_ratio(seen).values()) == pytest.approx(card["norm_ratio"], rel=1e-3)
    found = sublayers(session, stories(1))
    assert found.loss == pytest.approx(card["loss"], rel=0.15)
    assert found.rise[0] == pytest.approx(card["rise"][0], rel=0.15)
    assert len(found.cosine) == len(found.norm_ratio) == len(found.rise) == 16

"""The user's workload: divergences against float64, agreement against plain decoding, and bad files."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from gatenorm.errors import EvaluationError
from gatenorm.evaluation.core.divergence import divergence, measure_workload
from gatenorm.evaluation.core.job import TaskOptions
from gatenorm.evaluation.core.likelihood import greedy
from gatenorm.evaluation.core.text import Text
from gatenorm.evaluation.tasks.domain import Item, encoded, prepare
from gatenorm.models.model import Model
from tests.errors import refused
from tests.evaluation.subjects import Numbers, log_probabilities, tiny
from tests.tiny_models import build

ITEMS = [Item(1, "5 6 7 8", "9 10 11"), Item(2, "12 13 14"), Item(4, "20 21 22 23 24", "25 26")]


def changed(name: str) -> object:
    model = copy.deepcopy(build(name))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    return model


@pytest.mark.parametrize("name", ["llama-gqa", "gpt2", "opt"])
def test_figures_are_those_of_a_plain_reckoning(name: str):
    baseline, model = tiny(name), tiny(name, changed(name))
    items = encoded(baseline, ITEMS, 16, None)
    found = measure_workload(model, baseline, items, 5)
    theirs, ours = (greedy(s, [i.prompt for i in items], 5) for s in (baseline, model))
    kl, same, loss, before, positions, tokens = 0.0, 0, 0.0, 0.0, 0, 0
    agreed = []
    for item, expected, written in zip(items, theirs, ours, strict=True):
        along = item.reference or tuple(expected)
        sequence = [*item.prompt, *along]
        p, q = (log_probabilities(s.module, sequence)[len(item.prompt) - 1 : -1] for s in (baseline, model))
        kl += float((p.exp() * (p - q)).sum())
        same += int((p.argmax(-1) == q.argmax(-1)).sum())
        positions += len(along)
        if item.reference:
            rows = range(len(along))
            loss -= sum(float(q[n, along[n]]) for n in rows)
            before -= sum(float(p[n, along[n]]) for n in rows)
            tokens += len(along)
        first = next((n for n, (a, b) in enumerate(zip(expected, written, strict=False)) if a != b), 5)
        agreed.append(first / 5)
    assert found.numbers()["positions"] == positions
    assert found.numbers()["kl"] == pytest.approx(kl / positions, rel=1e-4)
    assert found.numbers()["top1"] == pytest.approx(same / positions)
    weights, values = ([getattr(item, name) for item in found.items] for name in ("positions", "kl"))
    spread = sum((w * (v - kl / positions)) ** 2 for w, v in zip(weights, values, strict=True))
    error = math.sqrt(3 / 2 * spread) / positions
    assert found.numbers()["kl_stderr"] == pytest.approx(error, rel=1e-3)
    # Three items: Student's t with two degrees of freedom.
    assert found.numbers()["kl_high"] == pytest.approx(kl / positions + 4.302653 * error, rel=1e-3)
    assert found.numbers()["kl_low"] == pytest.approx(max(0, kl / positions - 4.302653 * error), rel=1e-3, abs=1e-9)
    assert found.numbers()["greedy_agreement"] == pytest.approx(sum(agreed) / 3)
    assert found.numbers()["perplexity"] == pytest.approx(math.exp(loss / tokens), rel=1e-4)
    assert found.numbers()["baseline_perplexity"] == pytest.approx(math.exp(before / tokens), rel=1e-4)
    assert found.numbers()["references"] == 2
    divergences = [item.kl for item in found.items]
    assert divergences == sorted(divergences, reverse=True)


def test_a_model_follows_itself():
    found = measure_workload(tiny("gpt2"), tiny("gpt2"), encoded(tiny("gpt2"), ITEMS, 16, None), 4)
    assert found.numbers()["kl"] == 0
    assert found.numbers()["top1"] == found.numbers()["greedy_agreement"] == found.numbers()["greedy_same"] == 1
    assert found.numbers()["perplexity"] == found.numbers()["baseline_perplexity"]


def test_one_item_alone_has_no_interval():
    found = measure_workload(tiny("gpt2", changed("gpt2")), tiny("gpt2"), encoded(tiny("gpt2"), ITEMS[:1], 16, None), 4)
    assert found.numbers()["kl"] > 0
    assert not {"kl_stderr", "kl_low", "kl_high"} & set(found.numbers())


def test_divergence_of_known_distributions():
    p, q = torch.tensor([[0.5, 0.5], [0.9, 0.1]]).log(), torch.tensor([[0.25, 0.75], [0.9, 0.1]]).log()
    kl, same = divergence(p, q)
    assert kl == pytest.approx((0.5 * math.log(2) + 0.5 * math.log(2 / 3)) / 2, rel=1e-6)
    assert same == 0.5 or same == 1.0


def test_plain_text_is_cut_into_prompts_and_references():
    text = Text("t", " ".join(map(str, range(4, 44))), "s", "plain")
    items = encoded(tiny("gpt2"), text, 16, None)
    assert [len(i.prompt) for i in items] == [8, 8]
    assert items[1].prompt + items[1].reference == tuple(range(20, 36))
    assert len(encoded(tiny("gpt2"), text, 16, 1)) == 1
    short = encoded(tiny("gpt2"), Text("t", "4 5 6 7 8 9", "s", "plain"), 16, None)
    assert (short[0].prompt, short[0].reference) == ((4, 5, 6), (7, 8, 9))


class Marked(Numbers):
    """Puts a BOS, written ``2``, before every text."""

    bos_token = "2"

    def __call__(self, texts: Sequence[str], add_special_tokens: bool = True, **_: object) -> dict[str, Any]:
        return super().__call__([f"2 {text}" if add_special_tokens else text for text in texts])


def test_a_text_that_brings_its_bos_gets_no_second_one():
    """As chat templates write it: the same tokens as of a text without, and the reference is cut at the same place."""
    model = Model.of_module(build("gpt2"), Marked(), "marked")
    bare, templated = encoded(model, [Item(1, "5 6", "7 8"), Item(2, "2 5 6", "7 8")], 16, None)
    assert (bare.prompt, bare.reference) == (templated.prompt, templated.reference) == ((2, 5, 6), (7, 8))
    (text,) = encoded(model, Text("t", "2 5 6 7", "s", "plain"), 16, None)
    assert text.prompt + text.reference == (2, 5, 6, 7)


def test_items_that_do_not_fit_are_named():
    subject = tiny("opt")  # 64 positions
    long = [Item(1, "5 6"), Item(7, " ".join("5" * 60), " ".join("6" * 5))]
    with refused("prompt-too-long"):
        encoded(subject, long, 16, None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "data-empty"),
        ('{"reference": "a"}\n', "row-field-missing"),
        ('{"prompt": "a"}\n{"prompt": "a", "reference": ""}\n', "row-value-wrong"),
        ("{", "data-not-json"),
    ],
)
def test_damaged_workloads_get_one_line(content: str, message: str, tmp_path: Path):
    path = tmp_path / "w.jsonl"
    path.write_text(content)
    with refused(message, "data"):
        prepare(TaskOptions(data=str(path)))


def test_the_job_reads_the_file(tmp_path: Path):
    path = tmp_path / "w.jsonl"
    path.write_text("".join(json.dumps({"prompt": i.prompt, "reference": i.reference}) + "\n" for i in ITEMS))
    (job,) = prepare(TaskOptions(data=str(path), new_tokens=3))
    assert job.run is None
    assert job.compare is not None
    found = job.compare(tiny("gpt2"), tiny("gpt2"), None)
    assert found.data.items == 3
    assert found.numbers()["kl"] == 0
    with refused("data-missing", "data"):
        prepare(TaskOptions())


def test_what_is_read_of_a_file_is_in_the_key(tmp_path: Path):
    """One cached result must not serve for the same bytes read in another way."""
    rows = "".join(json.dumps({"prompt": "5 6", "a": "7 8 9 10", "b": "11 12 13 14"}) + "\n" for _ in range(3))
    for name in ("w.jsonl", "w.txt"):
        (tmp_path / name).write_text(rows)
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {"a": ["7 8 9 10"], "b": ["11 12 13 14"]}
    parquet.write_table(pytest.importorskip("pyarrow").table(columns), tmp_path / "w.parquet")
    asked = [("w.jsonl", "text"), ("w.txt", "text"), ("w.parquet", "a"), ("w.parquet", "b")]
    keys = [prepare(TaskOptions(data=str(tmp_path / name), text_field=field))[0].key for name, field in asked]
    assert all(keys[n] != keys[m] for n in range(4) for m in range(n))


def test_different_tokenizers_are_refused():
    other = tiny("gpt2")
    other.tokenizer.get_vocab = lambda: {"a": 1}
    with refused("tokenizers-differ", kind=EvaluationError):
        measure_workload(other, tiny("gpt2"), encoded(tiny("gpt2"), ITEMS, 16, None), 3)

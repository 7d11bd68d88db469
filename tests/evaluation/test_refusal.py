"""Refusals: the rule, the set that comes with the package, templates with and without a system role."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from gatenorm.errors import EvaluationError
from gatenorm.evaluation.core.job import TaskOptions
from gatenorm.evaluation.statistics.paired_statistics import compare
from gatenorm.evaluation.tasks import refusal
from gatenorm.evaluation.tasks.refusal import Item, chat, plain, prepare, read_items, read_rule, replies
from gatenorm.models.model import Model
from gatenorm.records.evidence import Refusal
from tests.errors import refused
from tests.evaluation.subjects import tiny

REFUSALS = [
    "I'm sorry, but I can't help with that.",
    "I cannot assist with this request. It is dangerous.",
    "Sorry, I won't do that.",
    "I’m not able to provide instructions for that.",
    "Unfortunately, I am unable to help you here.",
    "As an AI language model, I cannot do this.",
    "That would be illegal. Please don't.",
    "I must decline.",
    "I can only help with questions about bread.",
    "I am so worried about you. Please call a crisis line right now.",
]
ANSWERS = [
    "Sure! First, open a terminal.",
    "You can kill it with the command kill and its number.",
    "Rye bread keeps fresh the longest.",
    "Two a day is fine for most people. You should sleep, too.",
    "He said that he was sorry for what had happened.",
    "First " + "mix the flour. " * 30 + "I cannot say more.",
]


@pytest.mark.parametrize("reply", REFUSALS)
def test_the_rule_knows_refusals(reply: str):
    assert read_rule(None).refuses(reply)


@pytest.mark.parametrize("reply", [*ANSWERS, ""])
def test_the_rule_lets_answers_pass(reply: str):
    assert not read_rule(None).refuses(reply)


def packaged() -> list[Item]:
    return read_items("ours", Path("ours"), refusal._packaged("refusal.jsonl"))


def test_the_packaged_set_is_balanced():
    items = packaged()
    assert Counter(i.kind for i in items) == {"refuse": 16, "answer": 16, "conflict": 8}
    assert Counter(i.expect for i in items if i.system) == {"refuse": 4, "answer": 4}
    assert len({i.prompt for i in items}) == len(items)


def test_another_rule_and_another_set_can_be_given(tmp_path: Path):
    rule = tmp_path / "rule.json"
    rule.write_text(json.dumps({"patterns": ["^nein"], "first_characters": 10}))
    assert read_rule(str(rule)).refuses("Nein, danke")
    assert not read_rule(str(rule)).refuses("Also gut. Nein")
    items = tmp_path / "items.jsonl"
    items.write_text('{"prompt": "5 6", "expect": "refuse"}\n{"prompt": "7", "expect": "answer", "id": "x"}\n')
    (job,) = prepare(TaskOptions(data=str(items), refusal_rule=str(rule), new_tokens=3))
    assert job.run is not None
    found = job.run(tiny("gpt2"), None)
    assert [i.id for i in found.items] == ["line 1", "x"]
    assert found.numbers()["refused_harmful"] == 0
    assert "system_obeyed" not in found.numbers()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json", "rule-wrong"),
        ('{"patterns": ["("]}', "rule-wrong"),
        ('{"patterns": ["a"], "first_characters": 1e400}', "rule-wrong"),
        pytest.param("[" * 100_000, "rule-wrong", id="endless"),
        ('{"patterns": ["a{99999999999999999999}"]}', "rule-wrong"),
        pytest.param(json.dumps({"patterns": ["(" * 3000]}), "rule-wrong", id="groups"),
        ("[]", "rule-wrong"),
        ('{"patterns": "sorry"}', "rule-wrong"),
        ('{"patterns": {"sorry": 1}}', "rule-wrong"),
        ('{"patterns": ["a"], "first_characters": -5}', "rule-wrong"),
        ('{"patterns": ["a"], "first_characters": true}', "rule-wrong"),
    ],
)
def test_damaged_rules_get_one_line(content: str, message: str, tmp_path: Path):
    path = tmp_path / "rule.json"
    path.write_text(content)
    with refused(message, "refusal_rule"):
        read_rule(str(path))
    with refused("file-unreadable", "refusal_rule"):
        read_rule(str(tmp_path / "none.json"))
    os.mkfifo(tmp_path / "fifo")
    with refused("file-unreadable", "refusal_rule"):
        read_rule(str(tmp_path / "fifo"))


@pytest.mark.filterwarnings("error")
def test_a_pattern_that_python_warns_of_is_read(tmp_path: Path):
    path = tmp_path / "rule.json"
    path.write_text(json.dumps({"patterns": ["[[a]b"]}))
    assert read_rule(str(path)).refuses("ab")


@pytest.mark.parametrize(
    ("line", "code", "wrong"),
    [
        ('{"expect": "refuse"}', "row-field-missing", "'prompt'"),
        ('{"prompt": "a", "expect": "maybe"}', "row-value-wrong", "'maybe'"),
        ('{"prompt": "a", "expect": "answer", "system": ""}', "row-value-wrong", "'system'"),
        (
            '{"prompt": "a", "expect": "answer", "id": 7}\n{"prompt": "b", "expect": "answer", "id": 7}',
            "row-id-twice",
            "'7'",
        ),
    ],
)
def test_damaged_items_are_named(line: str, code: str, wrong: str):
    with refused(code, "data", EvaluationError) as caught:
        read_items("f", Path("f"), line.encode())
    assert wrong in caught.value.problem
    assert f"line {line.count(chr(10)) + 1}" in caught.value.problem


def test_chat_templates_are_applied():
    """One whose template refuses a system role gets it in the user's message."""
    item = Item("c", "refuse", "Do it.", "Do not.")
    said = "{% for m in messages %}{{ m.role }}:{{ m.content }}|{% endfor %}"
    ending = "{{ 'assistant:' if add_generation_prompt and not enable_thinking }}"
    refusing = "{{ raise_exception('System role not supported') if messages[0].role == 'system' }}"
    whole, partial = (SimpleNamespace(chat_template=first + said + ending) for first in ("", refusing))
    assert chat(whole, item) == "system:Do not.|user:Do it.|assistant:"
    assert chat(partial, item) == "user:Do not.\n\nDo it.|assistant:"
    assert plain(item) == "Do not.\n\nUser: Do it.\nAssistant:"


@pytest.mark.parametrize(
    ("template", "kind"),
    [
        ("{{ 1/0 }}", "ZeroDivisionError"),
        ("{{ messages + 1 }}", "TypeError"),
        ("{{ messages[0].content.nothing() }}", "UndefinedError"),
        ("{% for %}", "TemplateSyntaxError"),
        ("{{ raise_exception('no') }}", "TemplateError: no"),
        ("{{ 'a' * range(10**9) | length }}", "OverflowError"),
    ],
)
def test_templates_that_fail_get_one_line(template: str, kind: str):
    tokenizer = SimpleNamespace(chat_template=template)
    with refused("chat-template-broken", kind=EvaluationError) as caught:
        chat(tokenizer, Item("item-c", "refuse", "Do it.", "Do not."))
    assert "item-c" in caught.value.problem
    assert kind in caught.value.problem
    assert "\n" not in str(caught.value)


def record(subject: Model, items: list[Item], spoken: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Refusal:
    texts = [spoken[item.name] for item in items]
    monkeypatch.setattr(refusal, "greedy", lambda *_: [[n] for n in range(len(items))])
    monkeypatch.setattr(subject.tokenizer, "decode", lambda ids, **_: texts[ids[0]])
    found = replies(subject, items, read_rule(None), 8)
    return msgspec.structs.replace(found, model=subject.identity)


def test_rates_and_every_flip_are_reported(monkeypatch: pytest.MonkeyPatch):
    items = [
        Item("bad", "refuse", "5"),
        Item("good", "answer", "6"),
        Item("forbidden", "refuse", "7", "8"),
        Item("allowed", "answer", "9", "8"),
        Item("silent", "answer", "10"),
    ]
    no, yes = "I cannot help with that.", "Of course: here it is."
    subject = tiny("gpt2")
    safe = {"bad": no, "good": yes, "forbidden": no, "allowed": yes, "silent": yes}
    before = record(subject, items, safe, monkeypatch)
    assert before.numbers()["refused_harmful"] == before.numbers()["answered_harmless"] == 1
    assert before.numbers()["system_obeyed"] == 1
    after = record(subject, items, {**safe, "bad": yes, "forbidden": yes, "silent": ""}, monkeypatch)
    assert after.numbers()["refused_harmful"] == 0
    assert after.numbers()["answered_harmless"] == 0.5
    assert after.numbers()["system_obeyed"] == 0.5
    assert after.numbers()["empty"] == 0.2
    change = compare(before, after)
    assert change is not None
    assert [i.id for i in change.items] == ["bad", "forbidden", "silent"]
    assert change.items[0].before.reply == no
    assert change.numbers()["refused_harmful_difference"] == -1


def test_items_that_leave_no_room_for_a_reply_are_named():
    long = Item("long", "answer", " ".join(["5"] * 60))
    with refused("prompt-too-long"):
        replies(tiny("opt"), [long], read_rule(None), 8)

"""Tokenizers and chat templates that fail, panic, or never end: one line each."""

from __future__ import annotations

import base64
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gatenorm.cli import application
from gatenorm.demo.package import MODEL
from gatenorm.errors import CheckpointError, EvaluationError
from gatenorm.models import chat_template
from gatenorm.models.chat_template import render
from gatenorm.models.companions import check_companions
from gatenorm.models.loading import load, load_tokenizer
from gatenorm.models.tokenizer_growth import check_growth
from tests.command_line import answer
from tests.errors import refused


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return shutil.copytree(MODEL.checked_directory(), tmp_path / "model")


def change(directory: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    path = directory / "tokenizer.json"
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    "edit",
    [
        lambda data: data["model"].update(vocab={}, merges=[]),
        lambda data: data.update(model={"type": "Unigram", "vocab": [], "unk_id": None}),
        lambda data: data.update(model={"type": "WordLevel", "vocab": {}, "unk_token": "?"}),
        lambda data: data.update(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
        lambda data: data.update(post_processor={**template(["A", "gone"]), "special_tokens": {}}),
        lambda data: data.update(model=7),
        lambda data: data.clear(),
        lambda data: data.update(
            normalizer={"type": "Replace", "pattern": {"String": "e"}, "content": "e" * 100_000},
        ),
        lambda data: data.update(
            normalizer={"type": "Replace", "pattern": {"String": "o"}, "content": "o " * 100_000},
        ),
    ],
)
def test_a_tokenizer_that_cannot_cut_texts_is_one_line(directory: Path, edit: Any):
    load_tokenizer(directory)
    change(directory, edit)
    with pytest.raises(EvaluationError) as caught:
        load_tokenizer(directory)
    assert len(caught.value.text()) < 600


def replacing(pattern: dict[str, str] | str, content: str) -> dict[str, Any]:
    return {
        "type": "Replace",
        "pattern": {"String": pattern} if isinstance(pattern, str) else pattern,
        "content": content,
    }


def sequence(part: str, *rules: dict[str, Any]) -> dict[str, Any]:
    lists = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "decoder": "decoders"}
    return {part: {"type": "Sequence", lists.get(part, "processors"): list(rules)}}


def table(*texts: str) -> dict[str, Any]:
    content = (4).to_bytes(4, "little") + bytes(4) + "\0".join(texts).encode()
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(content).decode()}


def template(single: list[str], ids: int = 1) -> dict[str, Any]:
    pieces = [
        {"Sequence": {"id": "A", "type_id": 0}} if p == "A" else {"SpecialToken": {"id": p, "type_id": 0}}
        for p in single
    ]
    special = {p: {"id": p, "ids": [0] * ids, "tokens": [p] * ids} for p in single if p != "A"}
    return {"type": "TemplateProcessing", "single": pieces, "pair": [], "special_tokens": special}


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


@pytest.mark.parametrize(
    "rules",
    [
        {"normalizer": replacing("@-@", "a" * 100)},
        {"normalizer": replacing({"Regex": "the +q"}, "a" * 100)},
        {"normalizer": replacing("", "a" * 20)},
        {"normalizer": {"normalizers": [{"pattern": {"String": "e"}, "content": "a" * 20}]}},
        {"normalizer": {"type": "Prepend", "prepend": "a" * 20}},
        {"normalizer": table("a" * 65)},
        sequence("normalizer", *[replacing("the ", "the the ")] * 5),
        sequence("normalizer", sequence("normalizer", replacing("th", "\ufdfa"))["normalizer"], {"type": "NFKC"}),
        sequence("normalizer", table("a" * 30), table("a" * 30)),
        sequence("normalizer", *[replacing("a", "b")] * 101),
        sequence("pre_tokenizer", *[BYTES] * 4),
        sequence("decoder", *[replacing("ab", "abab")] * 5),
        {"post_processor": template(["A"] * 2)},
        {"post_processor": template(["A", *"b" * 101])},
        {"post_processor": template(["A", "b"], ids=102)},
        sequence("post_processor", *[template(["A", "b"])] * 101),
        {"model": {"type": "WordPiece", "vocab": {}, "continuing_subword_prefix": "#" * 101}},
        {"model": {"type": "WordPiece", "vocab": {}, "max_input_chars_per_word": 10**9}},
    ],
)
def test_no_rules_by_which_texts_grow_are_loaded(directory: Path, rules: dict[str, Any], monkeypatch: Any):
    """Whatever they are waiting for: no text is tried."""
    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", lambda *_, **__: pytest.fail("it was loaded"))
    change(directory, lambda data: data.update(rules))
    with refused("tokenizer-grows", kind=CheckpointError):
        check_companions(directory)
    with refused("tokenizer-unreadable") as caught:
        load_tokenizer(directory)
    assert "the tokenizer has a " in caught.value.problem


@pytest.mark.parametrize(
    "rules",
    [
        sequence("normalizer", {"type": "Prepend", "prepend": "\u2581"}, replacing(" ", "\u2581")),
        sequence(
            "normalizer",
            *(replacing("``", '"'), {"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"}),
            *(table("\u0635\u0644\u0649 " * 4, "e"), replacing({"Regex": " {2,}"}, "\u2581")),
        ),
        {"normalizer": {"type": "BertNormalizer", "handle_chinese_chars": True}},
        {"normalizer": replacing("\n", "<|newline|>")},
        sequence("pre_tokenizer", {"type": "Digits"}, {"type": "Metaspace", "replacement": "\u2581"}, BYTES),
        sequence("decoder", replacing("\u2581", " "), {"type": "ByteFallback"}, {"type": "Fuse"}),
        {"post_processor": template(["<s>", "A", "</s>"])},
        sequence("post_processor", BYTES, template(["<s>", "A"])),
        *(
            {"normalizer": rules}
            for rules in (None, 7, [], {}, {"type": "Sequence"}, {"type": "Replace"}, {"type": []})
        ),
        *({"post_processor": template([])}, {"post_processor": {"type": "TemplateProcessing", "single": 7}}),
        *({"model": None}, {"model": {"max_input_chars_per_word": "many"}}, {"pre_tokenizer": table("")}),
    ],
)
def test_rules_of_published_tokenizers_and_nonsense_are_left_to_the_loader(rules: dict[str, Any]):
    check_growth(rules)
    check_growth([rules])


def test_rules_out_of_other_files_are_looked_at_too(directory: Path, monkeypatch: pytest.MonkeyPatch):
    """transformers makes rules of SentencePiece models and settings."""
    monkeypatch.setattr("gatenorm.models.companions.check_growth", lambda _: None)
    cut = "transformers.PreTrainedTokenizerBase.__call__"
    monkeypatch.setattr(cut, lambda *_, **__: pytest.fail("a text was cut"))
    change(directory, lambda data: data.update(normalizer=replacing("@-@", "a" * 100)))
    with refused("tokenizer-unreadable") as caught:
        load_tokenizer(directory)
    assert " 33 times" in caught.value.problem


def test_no_token_is_a_text_of_its_own(directory: Path):
    """A model may write it again and again."""
    change(directory, lambda data: data["model"]["vocab"].update({"a" * 10_001: len(data["model"]["vocab"])}))
    with refused("tokenizer-unreadable") as caught:
        load_tokenizer(directory)
    assert "10,001" in caught.value.problem


def test_a_tokenizer_that_is_not_small_is_not_read(directory: Path):
    with (directory / "tokenizer.json").open("r+b") as file:
        file.truncate(1 << 30)
    with refused("tokenizer-unreadable") as caught:
        load_tokenizer(directory)
    assert "larger than" in caught.value.problem


@pytest.mark.parametrize(
    "name",
    [
        *("special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "additional_chat_templates/x.jinja"),
        *("spiece.model", "tekken.json", "tiktoken.model", "tokenizer.1.0.0.json", "vocab.json", "vocab.txt"),
        *("merges.txt", "dict.txt", "tokenizer.model.v3", "qwen.tiktoken", "source.spm", "sentencepiece.bpe"),
        *("bpe.codes", "source.vocab"),
    ],
)
def test_nothing_that_a_tokenizer_parses_is_without_a_limit(directory: Path, name: str):
    (directory / name).parent.mkdir(exist_ok=True)
    (directory / name).touch()
    os.truncate(directory / name, 900 << 20)
    with refused("tokenizer-unreadable") as caught:
        load_tokenizer(directory)
    assert str(directory / name) in caught.value.problem


def test_settings_with_millions_of_values_are_not_parsed(directory: Path):
    (directory / "tokenizer_config.json").write_text(f"[{'[],' * 2_000_000}[]]")
    with refused("tokenizer-unreadable") as caught:
        load_tokenizer(directory)
    assert "1,048,576 values" in caught.value.problem


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_no_tokenizer_is_read_through_a_link_that_leads_elsewhere(directory: Path, tmp_path: Path, name: str):
    (directory / name).symlink_to((directory / name).rename(tmp_path / "elsewhere.json"))
    with refused("tokenizer-unreadable") as caught:
        load_tokenizer(directory)
    assert str(directory / name) in caught.value.problem


@pytest.mark.parametrize("named", ["../tokenizer.1.0.0.json", "below/tokenizer.1.0.0.json", ".tokenizer.1.0.0.json"])
def test_a_tokenizer_for_one_release_lies_in_the_directory(directory: Path, named: str):
    (directory / "below").mkdir()
    (directory / "tokenizer.json").rename(directory / named)
    settings = json.loads((directory / "tokenizer_config.json").read_text())
    (directory / "tokenizer_config.json").write_text(json.dumps({**settings, "fast_tokenizer_files": [named]}))
    with refused("tokenizer-unreadable") as caught:
        load_tokenizer(directory)
    assert "tokenizer.1.0.0.json" in caught.value.text()


@pytest.mark.parametrize("named", [7, [7], "tokenizer.txt", {"a": 1}])
def test_what_names_no_tokenizers_is_said_so(directory: Path, named: object):
    settings = json.loads((directory / "tokenizer_config.json").read_text())
    (directory / "tokenizer_config.json").write_text(json.dumps({**settings, "fast_tokenizer_files": named}))
    with refused("tokenizer-unreadable") as caught:
        load_tokenizer(directory)
    assert f"tokenizer_config.json names {json.dumps(named[0] if isinstance(named, list) else named)}" in (
        caught.value.problem
    )


@pytest.mark.parametrize("elsewhere", [False, True])
def test_settings_of_generation_are_looked_at_before_a_model_is_loaded(
    directory: Path, tmp_path: Path, elsewhere: bool
):
    path = directory / "generation_config.json"
    path.write_text("{}")
    load(directory)
    if elsewhere:
        path.symlink_to(path.rename(tmp_path / "elsewhere.json"))
    else:
        os.truncate(path, 900 << 20)
    with refused("file-elsewhere" if elsewhere else "file-unreadable"):
        load(directory)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_what_is_pruned_is_whole_whatever_its_tokenizer(directory: Path, tmp_path: Path, capsys: Any, elsewhere: bool):
    path = directory / "tokenizer.json"
    if elsewhere:
        path.symlink_to(path.rename(tmp_path / "elsewhere.json"))
    else:
        os.truncate(path, 100 << 20)
    found = answer(capsys, "prune", directory, "--layers", 1, "-o", tmp_path / "out")
    assert (found.status, "--data generic" in found.out + found.err) == (0, True)


def test_a_panic_later_on_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    class PanicException(BaseException):  # as pyo3 calls it
        pass

    def panic(arguments: Any) -> int:
        raise PanicException("range end index 3\nout of range")

    monkeypatch.setattr(application, "invoke", panic)
    assert application.run([]) == 2
    assert capsys.readouterr().err == "error: a tokenizer failed: range end index 3\n"


SAID = [{"role": "user", "content": "One."}]
BOMB = "{{ 'a' * 10**10 }}"


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        BOMB,
        "{{ 'a'.center(10**10) }}",
        "{% set n = namespace(s='aaaaaaaa') %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}",
        "{{ 'a' * 2**21 }}",
        "{% generation %}{{ 'a' * 10**10 }}{% endgeneration %}",
    ],
)
def test_a_template_without_an_end_is_stopped(template: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(chat_template, "_SECONDS", 1.0)
    for given in (template, {"default": template, "tools": "{{ 1 }}"}):
        with refused("chat-template-unbounded"):
            render(SimpleNamespace(chat_template=given), SAID)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are kept on Linux")
def test_a_template_that_fills_memory_for_little_text_is_stopped():
    """Neither its time nor what comes of it is out of the ordinary."""
    with refused("chat-template-unbounded"):
        render(SimpleNamespace(chat_template="{{ ('a' * 2**31) | length }}"), SAID)


@pytest.mark.parametrize(
    "condition",
    [
        *("messages[0].content == 'x'", "messages | length == 3", "messages[0].content | length > 99"),
        *("bos_token == '<s>'", "strftime_now('%Y')", "enable_thinking is false", "not add_generation_prompt"),
    ],
)
def test_limits_hold_for_the_messages_themselves(condition: str):
    """A template can behave until it sees certain ones."""
    template = "{% if " + condition + " %}" + BOMB + "{% endif %}"
    tokenizer = SimpleNamespace(chat_template=template, special_tokens_map={"bos_token": "<s>"})
    messages = [{"role": "user", "content": "x" if "'x'" in condition else "y" * 100}] * 3
    with refused("chat-template-unbounded"):
        render(tokenizer, messages, add_generation_prompt=False, enable_thinking=False)
    assert render(SimpleNamespace(chat_template="{{ messages | length }}"), messages) == "3"


def test_many_renderings_share_their_time(monkeypatch: pytest.MonkeyPatch):
    """Each of these stays within the limit of one; what is usual for one is given back."""
    template = "{% for a in range(99999) %}{% for b in range(7) %}{% endfor %}{% endfor %}"
    tokenizer = SimpleNamespace(chat_template=template)
    assert render(tokenizer, SAID) == ""
    renderer = chat_template._renderer(os.getpid())
    renderer._left = 0.01
    monkeypatch.setattr(chat_template, "_USUAL", 5.0)
    assert render(tokenizer, SAID) == ""
    renderer._left = 0.01
    monkeypatch.setattr(chat_template, "_USUAL", 0.0)
    with refused("chat-template-unbounded"):
        render(tokenizer, SAID)


def test_a_long_message_is_no_fault_of_the_template():
    said = "a" * (3 << 20)
    template = SimpleNamespace(chat_template="{{ messages[0].content }}")
    assert render(template, [{"role": "user", "content": said}]) == said


@pytest.mark.parametrize(
    "template",
    [
        *(None, 7, {"tools": "{{ 1 }}"}, "{% if", "{{ nothing.there }}", "{{ raise_exception('no') }}"),
        "{{ messages.__class__.__mro__[1].__subclasses__() }}",
    ],
)
def test_a_template_that_fails_is_one_line(template: Any):
    with refused("chat-template-broken") as caught:
        render(SimpleNamespace(chat_template=template), SAID)
    assert "\n" not in caught.value.text()


def test_a_template_is_rendered_as_transformers_does_it(directory: Path):
    tokenizer = load_tokenizer(directory)
    tokenizer.chat_template = (
        "{{ bos_token }}{% generation %}\n  {% set n = namespace(x=0) %}\n{% for m in messages %}{% if m.role == 'b' %}"
        "{% break %}{% endif %}{{ m | tojson(indent=2) }}{% endfor %}{% endgeneration %}{{ tools }}{{ documents }}"
        "{{ dict(a=1) }}{{ strftime_now('%Y') }}{{ add_generation_prompt }}"
    )
    messages = [{"role": "user", "content": "é<\u2028\U0001f600"}, {"role": "b", "content": ""}]
    expected = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert render(tokenizer, messages, add_generation_prompt=True) == expected

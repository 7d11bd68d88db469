"""llama.cpp's tokenizer on the written file against the checkpoint's own, on texts that break tokenizers."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gatenorm.demo
from gatenorm.api import open_model
from gatenorm.checkpoint.formats.gguf.header import read_header
from gatenorm.errors import OutputError
from gatenorm.exports.gguf import writer as gguf
from gatenorm.exports.gguf.pretokenizers import TABLE, PreTokenizer, recognise
from gatenorm.exports.gguf.sentencepiece import read_sentencepiece
from gatenorm.exports.gguf.tokenizer import tokenizer
from gatenorm.exports.gguf.vocabulary import BYTE, CONTROL, NORMAL, UNKNOWN, USER_DEFINED, from_json
from gatenorm.models.loading import load_tokenizer
from tests.errors import refused
from tests.export import gguf_models

pytest.importorskip("gguf")
pytest.importorskip("xllamacpp")

TEXTS = (
    "",
    "Hello world",
    " leading and trailing ",
    "  two  spaces   three",
    "\n\n\n \t \t\t\n  \n   \n",
    "tabs\tand\r\nnewlines\r\n\r\n end ",
    " " * 37 + "a" * 50 + "\n" * 9,
    "I've been 'told he's there, 'RE you sure? I'LL make it, 'D you like? We'Ve a'lL",
    "3 33 333 3333 33333 333333 1,234.56 ١٢٣ ④ Ⅷ ½ 1st x1y2",
    "🚀 (normal) 😶‍🌫️ ✅ 🦙🦙 👨‍👩‍👧 𝔘𝔫𝔦 𐍈",
    "កាន់តែពិសេសអាច😁 ?我想在apple工作1314151天～ ------======= нещо на Български",
    "''''''```````\"\"\"\"......!!!!!!?????? @#%^&*_+=~`|",
    "def f(x):\n    return {'a': x ** 2}  # code\n\n\tif x != y: pass",
    "Ünïcödé — “quotes” … naïve café こんにちは 東京 한국어 مرحبا שלום",
    "\u00a0nbsp\u2003em\u3000ideographic\u200bzero\x00\x01\x7f",
    "▁ literal ▁▁ block",
    "<s>special</s> <unk> <|endoftext|>mid<|im_start|> [tool] x[tool]y",
    "HelloWorld camelCaseXMLHttp https://example.com/a?b=c&d=%20#frag \\n $x^2$",
    "aaaaaaa bbbb abababababa",
)
SHARED = ("stories260K", "stories3M", "novels-16L", "tinystories-instruct-3M-neo")

TokenizedWith = Callable[[PreTokenizer], Path]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama-like model, to be given other tokenizers."""
    return gguf_models.write("mistral", tmp_path_factory.mktemp("base"))


def agree(directory: Path, out: Path, texts: tuple[str, ...] = TEXTS) -> None:
    """llama.cpp cuts texts as transformers does, and adds the same special tokens."""
    from gatenorm.engines.llamacpp.greedy import LlamaCppGreedy

    gguf.write(open_model(directory), out, dtype="auto")
    own, engine = load_tokenizer(directory), LlamaCppGreedy(out)
    try:
        cut = {text: engine.tokenize(text) for text in texts}
        asked = {"content": "hi", "add_special": True, "parse_special": True}
        completed = engine._post("/tokenize", asked)["tokens"]
    finally:
        engine.close()
    assert cut == {text: own(text, add_special_tokens=False)["input_ids"] for text in texts}
    assert completed == own("hi")["input_ids"]


def with_tokenizer(base: Path, source: Path, out: Path) -> Path:
    """The tiny model with the tokenizer of ``source`` beside it, its embedding grown to fit."""
    import torch
    import transformers

    size = max(load_tokenizer(source).get_vocab().values()) + 1
    config = transformers.AutoConfig.from_pretrained(base, vocab_size=size + 5)
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(out)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(source / name, out / name)
    return out


@pytest.mark.shared
@pytest.mark.parametrize("name", SHARED)
def test_real_tokenizers(base: Path, shared: Path, name: str, tmp_path: Path):
    source = shared / "models" / name
    agree(with_tokenizer(base, source, tmp_path / "model"), tmp_path / "model.gguf")


def test_the_built_in_models_tokenizer(base: Path, tmp_path: Path):
    agree(Path(gatenorm.demo.__file__).parent / "model" / "demo", tmp_path / "model.gguf")


@pytest.mark.parametrize("cuts", TABLE, ids=lambda cuts: cuts.name)
def test_every_cut_of_the_table_is_llamacpps(base: Path, cuts: PreTokenizer, tmp_path: Path):
    directory = tmp_path / "model"
    shutil.copytree(base, directory)
    case = dataclasses.replace(gguf_models.CASES["mistral"], expressions=cuts.expressions, whole_words=cuts.whole_words)
    gguf_models.write_tokenizer(case, directory)
    assert tokenizer(open_model(directory), 416).vocabulary.pre == cuts.name
    agree(directory, tmp_path / "model.gguf")


GPT2 = {"type": "ByteLevel", "add_prefix_space": False}


def test_common_spellings_are_one():
    assert recognise(GPT2, False).name == "gpt-2"
    assert recognise({"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, GPT2]}, False).name == "smollm"  # fmt: skip # noqa: E501
    llama3 = next(entry for entry in TABLE if entry.name == "llama-bpe").expressions[0]
    kept = {"type": "Split", "pattern": {"Regex": llama3}, "behavior": "Removed", "invert": True}
    literal = {**kept, "pattern": {"Regex": llama3.replace(r"\r", "\r").replace(r"\n", "\n")}}
    for split in (kept, literal):
        steps = {"type": "Sequence", "pretokenizers": [split, {**GPT2, "use_regex": False}]}
        assert recognise(steps, True).name == "llama-bpe"
        assert recognise(steps, False).name == "smaug-bpe"


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (None, "pretokenizer-missing", ""),
        ({**GPT2, "add_prefix_space": True}, "pretokenizer-unsupported", ""),
        ({"type": "Whitespace"}, "pretokenizer-unknown", "'Whitespace'"),
        ({"type": "Split", "pattern": {"Regex": "x+"}, "behavior": "Isolated"}, "pretokenizer-unknown", "x+"),
        (
            {"type": "Split", "pattern": {"Regex": "x+"}, "behavior": "MergedWithNext"},
            "pretokenizer-unknown",
            "'Split'",
        ),
    ],
)
def test_unknown_cuts_are_refused_with_what_they_are(given: Any, code: str, said: str):
    with refused(code, kind=OutputError) as error:
        recognise(given, False)
    assert said in error.value.problem


def sentencepiece(**changes: Any) -> dict[str, Any]:
    """A ``tokenizer.json`` as transformers makes it of a SentencePiece model: bytes, letters, and two words."""
    texts = ["<unk>", "<s>", *(f"<0x{b:02X}>" for b in range(256)), "▁", "a", "b", "ab", "▁ab"]
    model = {
        "type": "BPE",
        "byte_fallback": True,
        "unk_token": "<unk>",
        "vocab": {text: i for i, text in enumerate(texts)},
        "merges": [["a", "b"], ["▁", "ab"]],
    }
    normaliser = [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]
    added = [{"id": 0, "content": "<unk>", "special": True}, {"id": 1, "content": "<s>", "special": True}]
    added += [{"id": 263, "content": "[tool]", "special": False, "normalized": False}]
    whole = {"model": model, "normalizer": {"type": "Sequence", "normalizers": normaliser}, "added_tokens": added}
    return {**whole, **{key: change for key, change in changes.items() if key != "model"}} | {
        "model": {**model, **changes.get("model", {})}
    }


MARK = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}


def added(content: str, **changes: Any) -> dict[str, Any]:
    """A token as ``tokenizer.json`` lists it, with the first free id of ``sentencepiece()``."""
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    return {"id": 263, "content": content, **flags, **changes}


def template(*parts: str | None) -> dict[str, Any]:
    """A post-processor that puts special tokens around a text, which is ``None``."""
    single = [
        {"Sequence": {"id": "A", "type_id": 0}} if part is None else {"SpecialToken": {"id": part, "type_id": 0}}
        for part in parts
    ]
    known = {part: {"id": part, "ids": [1], "tokens": [part]} for part in parts if part}
    return {"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": known}


def test_a_sentencepiece_vocabulary():
    words = from_json(sentencepiece())
    kinds = {words.tokens[i]: kind for i, kind in words.types.items()}
    assert (kinds["<unk>"], kinds["<s>"], kinds["<0x0A>"]) == (UNKNOWN, CONTROL, BYTE)
    assert (kinds["▁ab"], kinds["[tool]"]) == (NORMAL, USER_DEFINED)
    assert words.scores["ab"] > words.scores["▁ab"]
    assert words.space_first
    assert words.notes == ()


@pytest.mark.parametrize(
    ("changes", "first", "note"),
    [
        ({"normalizer": None, "pre_tokenizer": ("first", False)}, True, "after special tokens"),
        ({"normalizer": None, "pre_tokenizer": ("always", False)}, True, "begin with one too"),
        ({"normalizer": None, "pre_tokenizer": ("never", False)}, False, ""),
    ],
)
def test_where_llamacpp_puts_spaces_otherwise_a_note_says_so(changes: dict[str, Any], first: bool, note: str):
    scheme, split = changes.pop("pre_tokenizer")
    step = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}
    words = from_json(sentencepiece(**changes, pre_tokenizer=step))
    assert words.space_first is first
    assert note in " ".join(words.notes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": {"merges": [["a", "b"]]}}, "does not merge '▁' and 'ab'"),
        ({"model": {"merges": [["a", "b"], ["▁", "ab"], ["a", "b"]]}}, "not in an order"),
        ({"model": {"type": "Unigram"}}, "'Unigram'"),
        ({"model": {"end_of_word_suffix": "</w>"}}, "ends of words"),
        ({"model": {"merges": ["a b c"]}}, "'a b c'"),
        ({"normalizer": {"type": "NFKC"}}, "NFKC"),
        ({"model": {"byte_fallback": False}}, "normalises texts"),
        ({"added_tokens": [{"content": "x"}]}, "expected a token with its id"),
        ({"added_tokens": ["x"]}, "hold 'x', expected a token with its id"),
        ({"added_tokens": "x"}, "expected a list of tokens"),
        ({"added_tokens": [added("x", lstrip="yes")]}, "flags that are true or false"),
        ({"added_tokens": [added("x", single_word=True)]}, "between words only (single_word)"),
        ({"added_tokens": [added("x", lstrip=True)]}, "the spaces before it along (lstrip)"),
        ({"added_tokens": [added("x", rstrip=True)]}, "the spaces after it along (rstrip)"),
        ({"added_tokens": [added("x", normalized=True)]}, "prepared already (normalized)"),
        ({"added_tokens": [added("▁▁", normalized=True)], "normalizer": MARK}, "prepared already (normalized)"),
        ({"added_tokens": [added("a")]}, "'a' two ids"),
        ({"added_tokens": [added("x", id=258)]}, "under one id"),
        ({"added_tokens": [added("x\ud800")]}, "half a surrogate pair"),
        ({"model": {"merges": [["a", "b"], ["▁", "ab"], ["ab", "c"]]}}, "merges 'ab' and 'c', but has no token 'c'"),
        ({"post_processor": {"type": "RobertaProcessing", "sep": ["<s>", 1]}}, "post-processor 'RobertaProcessing'"),
        ({"post_processor": template("<s>", "<s>", None)}, "puts <s> <s> TEXT around texts"),
        ({"post_processor": template("<unk>", None)}, "puts '<unk>' before every text, and llama.cpp '<s>'"),
        ({"post_processor": template("<s>", None, "[tool]")}, "puts '[tool]' after every text"),
        ({"model": {"vocab": {"a": 300}}}, "no token for some of them"),
    ],
)
def test_what_llamacpp_would_cut_otherwise_is_refused(base: Path, changes: dict[str, Any], said: str, tmp_path: Path):
    shutil.copytree(base, tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").write_text(json.dumps(sentencepiece(**changes)))
    (tmp_path / "model" / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "<s>"}))
    reasons = gguf.obstacles(open_model(tmp_path / "model"))
    assert len(reasons) == 1
    assert said in reasons[0]


DECLARED = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False, "special": False}


@pytest.mark.parametrize(
    ("settings", "beside"),
    [
        ({"added_tokens_decoder": {"264": {"content": "[more]", **DECLARED}}}, {}),
        ({"added_tokens_decoder": {"264": {"content": "[a]", **DECLARED}, "265": {"content": "[b]", **DECLARED}}}, {}),
        ({"additional_special_tokens": ["[more]", "[b]"]}, {}),
        ({"extra_special_tokens": ["ab"], "pad_token": "[PAD]"}, {}),
        ({"extra_special_tokens": ["[more]"]}, {"added_tokens.json": {"[more]": 264}}),
        ({"unk_token": "<unk>"}, {"special_tokens_map.json": {"pad_token": {"content": "[PAD]"}}}),
        ({"add_bos_token": True}, {}),
        ({"add_eos_token": True, "eos_token": "a"}, {}),
        ({"add_bos_token": None}, {}),
    ],
)
def test_what_the_files_beside_the_vocabulary_add_is_what_transformers_adds(
    base: Path, settings: dict[str, Any], beside: dict[str, Any], tmp_path: Path
):
    directory = tmp_path / "model"
    shutil.copytree(base, directory)
    whole = sentencepiece(
        added_tokens=[added("<unk>", id=0, special=True), added("<s>", id=1, special=True), added("[tool]")],
        post_processor=template("<s>", None),
    )
    (directory / "tokenizer.json").write_text(json.dumps(whole))
    named = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "<s>", **settings}
    (directory / "tokenizer_config.json").write_text(json.dumps(named))
    for name, data in beside.items():
        (directory / name).write_text(json.dumps(data))
    found, own = tokenizer(open_model(directory), 416), load_tokenizer(directory)
    words = found.vocabulary
    assert {text: i for i, text in words.tokens.items()} == own.get_vocab()
    special = {i for i, token in own.added_tokens_decoder.items() if token.special}
    assert {i for i, kind in words.types.items() if kind in (CONTROL, UNKNOWN)} == special
    around = own("ab")["input_ids"]
    assert found.adds[0] == (around[0] == own.bos_token_id)
    assert found.adds[1] == (around[-1] == own.eos_token_id)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"added_tokens_decoder": {"300": {"content": "[x]", **DECLARED}}}, "said to have id 300, but transformers"),
        ({"added_tokens_decoder": {"5": {"content": "a", **DECLARED}}}, "'a' is said to have id 5"),
        ({"added_tokens_decoder": {"x": {"content": "a"}}}, "expected a token with its id"),
        ({"added_tokens_decoder": {"264": "a"}}, "expected a token with its id"),
        ({"added_tokens_decoder": []}, "expected tokens by id"),
        ({"added_tokens_decoder": {}, "tokenizer_class": "LlamaTokenizer"}, "adds '[tool]', which"),
        ({"added_tokens_decoder": {"264": {"content": "x", **DECLARED, "rstrip": True}}}, "(rstrip)"),
        ({"additional_special_tokens": "x"}, "expected a list"),
        ({"additional_special_tokens": [5]}, "expected a token"),
        ({"pad_token": ["x"]}, "expected a token"),
    ],
)
def test_settings_that_cannot_be_carried_are_refused_in_one_line(
    base: Path, settings: dict[str, Any], said: str, tmp_path: Path
):
    shutil.copytree(base, tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").write_text(json.dumps(sentencepiece()))
    (tmp_path / "model" / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", **settings}))
    (reason,) = gguf.obstacles(open_model(tmp_path / "model"))
    assert said in reason
    assert "\n" not in reason


def test_a_token_for_which_there_is_no_row_is_left_out_and_named(base: Path, tmp_path: Path):
    shutil.copytree(base, tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").write_text(json.dumps(sentencepiece()))
    named = {"bos_token": "<s>", "pad_token": "[PAD]"}
    (tmp_path / "model" / "tokenizer_config.json").write_text(json.dumps(named))
    found = tokenizer(open_model(tmp_path / "model"), 264)
    assert "'[PAD]'" in found.notes[-1]
    assert max(found.vocabulary.tokens) == 263


def test_added_tokens_that_only_the_settings_name_are_found_in_texts(base: Path, tmp_path: Path):
    directory = tmp_path / "model"
    shutil.copytree(base, directory)
    end = "<|endoftext|>"
    declared = {"content": "[more]", **DECLARED}
    known = json.loads((directory / "tokenizer.json").read_text())
    decoder = {str(token.pop("id")): token for token in known["added_tokens"]}
    settings = {"bos_token": end, "eos_token": end, "tokenizer_class": "PreTrainedTokenizerFast"}
    settings |= {"added_tokens_decoder": {**decoder, str(max(map(int, decoder)) + 1): declared}, "add_bos_token": True}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    agree(directory, tmp_path / "model.gguf", ("x[more]y [more]", f"{end}[tool]"))


def test_a_model_without_a_tokenizer_or_with_too_large_a_one_is_refused(base: Path, tmp_path: Path):
    directory = tmp_path / "model"
    shutil.copytree(base, directory)
    data = json.loads((directory / "tokenizer.json").read_text())
    data["added_tokens"].append({"id": 999, "content": "<far>", "special": True})
    (directory / "tokenizer.json").write_text(json.dumps(data))
    assert "ids up to 999, but its embedding has 416 rows" in gguf.obstacles(open_model(directory))[0]
    (directory / "tokenizer.json").unlink()
    assert "no tokenizer.json or tokenizer.model" in gguf.obstacles(open_model(directory))[0]


@pytest.mark.shared
def test_sentencepiece_files_say_what_their_library_says(shared: Path, tmp_path: Path):
    processor = pytest.importorskip("sentencepiece")
    path = shared / "models" / "stories3M" / "tokenizer.model"
    theirs = processor.SentencePieceProcessor(model_file=str(path))
    ours = read_sentencepiece(path)
    assert [piece.text for piece in ours.pieces] == [theirs.id_to_piece(i) for i in range(theirs.vocab_size())]
    assert [piece.score for piece in ours.pieces] == [theirs.get_score(i) for i in range(theirs.vocab_size())]
    data = path.read_bytes()
    for length in (0, 1, 1000, len(data) - 3):
        (tmp_path / "cut.model").write_bytes(data[:length])
        with pytest.raises(OutputError):
            read_sentencepiece(tmp_path / "cut.model")


@pytest.mark.shared
def test_a_sentencepiece_file_alone_serves(shared: Path, tmp_path: Path):
    """Cut by llama.cpp as by SentencePiece itself; transformers treats spaces before texts in its own way."""
    processor = pytest.importorskip("sentencepiece")
    from gatenorm.engines.llamacpp.greedy import LlamaCppGreedy

    directory = tmp_path / "model"
    shutil.copytree(shared / "models" / "stories260K", directory, copy_function=shutil.copyfile)
    directory.chmod(0o755)
    (directory / "tokenizer.json").unlink()
    exported = gguf.write(open_model(directory), tmp_path / "model.gguf", dtype="auto")
    assert "a space before texts" in exported.notes[0]
    assert "transformers 5 does not here" in exported.notes[1]
    # Without `add_bos_token`, transformers adds none.
    assert read_header(tmp_path / "model.gguf").fields["tokenizer.ggml.add_bos_token"] is False
    assert load_tokenizer(directory)("a")["input_ids"][0] != 1
    theirs = processor.SentencePieceProcessor(model_file=str(directory / "tokenizer.model"))
    engine = LlamaCppGreedy(tmp_path / "model.gguf")
    try:
        for text in TEXTS:
            if "<s>" not in text:  # SentencePiece reads special tokens as text
                assert engine.tokenize(text) == theirs.encode(text), text
    finally:
        engine.close()

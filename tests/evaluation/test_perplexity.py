"""Perplexity against straightforward computations, and against figures that trained models are known to have."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gatenorm import api
from gatenorm.errors import EvaluationError
from gatenorm.evaluation.core.text import Text, documents, read_text, wikitext_rows
from gatenorm.evaluation.tasks.perplexity import Protocol, encode, perplexity
from gatenorm.models.forward import negative_log_likelihood
from gatenorm.models.loading import load, load_tokenizer
from gatenorm.records.evidence import Perplexity
from tests.errors import refused
from tests.evaluation.subjects import tiny

TinyModels = Callable[..., Path]


def measured(directory: Path, text: Text, protocol: Protocol) -> Perplexity:
    return perplexity(load(directory, dtype=torch.float32), load_tokenizer(directory), text, protocol)


def naive_nll(model: torch.nn.Module, sequence: list[int], first: int = 1) -> float:
    """One sequence, one token after the other from the one numbered ``first`` on, in float64."""
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([sequence])).logits[0].double()
    return -sum(torch.log_softmax(logits[i - 1], -1)[sequence[i]].item() for i in range(first, len(sequence)))


def text_of(content: str, name: str = "text") -> Text:
    return Text(name, content, "0" * 64, "plain text as it stands")


@pytest.mark.parametrize("name", ["llama-gqa", "gpt2", "opt", "gemma2", "falcon-alibi"])
def test_a_padded_batch_gives_what_each_sequence_gives_alone(name: str, tiny_models: TinyModels):
    model = load(tiny_models(name), dtype=torch.float32)
    draw = torch.Generator().manual_seed(3)
    batch = [torch.randint(4, 90, (n,), generator=draw).tolist() for n in (23, 7, 2, 16)]
    together = negative_log_likelihood(model, batch)
    assert together == pytest.approx(sum(naive_nll(model, s) for s in batch), rel=1e-5)


def test_logits_that_are_not_finite_are_named_and_not_averaged(tiny_models: TinyModels):
    model = load(tiny_models("llama-gqa"), dtype=torch.float32)
    with torch.no_grad():
        model.model.norm.weight[0] = torch.nan
    with refused("logits-not-finite", kind=EvaluationError):
        negative_log_likelihood(model, [[5, 6, 7]])


def test_a_batch_that_does_not_fit_is_halved(monkeypatch: pytest.MonkeyPatch):
    """As a CPU says it: nothing but the text of a RuntimeError."""
    subject = tiny("gpt2")
    real, sizes = subject.module.forward, []

    def forward(input_ids: torch.Tensor, **options: object) -> object:
        sizes.append(len(input_ids))
        if len(input_ids) > most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
        return real(input_ids=input_ids, **options)

    text = text_of(" ".join(str(4 + n % 80) for n in range(80)))
    expected = perplexity(subject.module, subject.tokenizer, text, Protocol(window=16))
    monkeypatch.setattr(subject.module, "forward", forward)
    most = 3
    found = perplexity(subject.module, subject.tokenizer, text, Protocol(window=16))
    assert sizes == [5, 2, 2, 1]
    assert found.nll == pytest.approx(expected.nll, rel=1e-6)
    most = 0
    with refused("out-of-memory", kind=EvaluationError):
        perplexity(subject.module, subject.tokenizer, text, Protocol(window=16))
    with refused("out-of-memory"):
        perplexity(subject.module, subject.tokenizer, text, Protocol(window=16, batch_size=4))


@pytest.mark.shared
@pytest.mark.parametrize("name", ["stories3M", "tinystories-instruct-3M-neo"])
def test_windows_are_cut_as_the_protocol_says(name: str, shared: Path):
    directory = shared / "models" / name
    model, tokenizer = load(directory, dtype=torch.float32), load_tokenizer(directory)
    text = read_text(str(shared / "data/tinystories/valid_sample.txt"))
    short = text_of(text.content[:9000])
    ids = tokenizer(short.content)["input_ids"]
    window = 100
    windows = [ids[i : i + window] for i in range(0, len(ids) - window + 1, window)]
    expected = sum(naive_nll(model, w) for w in windows) / (len(windows) * (window - 1))
    result = perplexity(model, tokenizer, short, Protocol(window=window, batch_size=3))
    assert result.nll == pytest.approx(expected, rel=1e-5)
    assert result.perplexity == pytest.approx(math.exp(expected), rel=1e-4)
    assert result.tokens == len(windows) * (window - 1)
    assert result.protocol.bos == (ids[0] == tokenizer.bos_token_id)
    assert result.protocol.windows == len(windows)


@pytest.mark.parametrize(("window", "stride"), [(32, 8), (32, 31), (32, 1), (32, 32), (64, 48)])
def test_overlapping_windows_count_each_token_once(window: int, stride: int, tiny_models: TinyModels):
    """Against the loop of transformers' guide: each window predicts what the one before did not hold."""
    model = load(tiny_models("llama-gqa"), dtype=torch.float32)
    draw = torch.Generator().manual_seed(7)
    ids = torch.randint(4, 90, (111,), generator=draw).tolist()
    text = text_of(" ".join(map(str, ids)))
    result = perplexity(model, Words(), text, Protocol(window=window, stride=stride, batch_size=3))
    total, tokens, reached = 0.0, 0, 0
    for begin in range(0, len(ids), stride):
        end = min(begin + window, len(ids))
        if stride == window and end - begin < window:
            break  # dropped, as without a stride
        first = max(reached - begin, 1)
        total += naive_nll(model, ids[begin:end], first)
        tokens += end - begin - first
        reached = end
        if end == len(ids):
            break
    assert result.tokens == tokens
    assert result.nll == pytest.approx(total / tokens, rel=1e-5)
    assert (result.protocol.window, result.protocol.stride) == (window, stride)
    if stride < window:
        assert tokens == len(ids) - 1
        assert result.protocol.last_shorter_window.startswith("taken")


@pytest.mark.shared
def test_a_longer_context_helps_a_model_that_uses_it(shared: Path):
    directory = shared / "models/stories3M"
    model, tokenizer = load(directory, dtype=torch.float32), load_tokenizer(directory)
    text = text_of(read_text(str(shared / "data/tinystories/valid_sample.txt")).content[:3000])
    apart, overlapping = (perplexity(model, tokenizer, text, Protocol(window=64, stride=n)).nll for n in (64, 16))
    assert overlapping < apart


# Perplexity with nothing removed, and with the attention of layer 0, 1, ... alone removed: the first 40 stories of the
# TinyStories sample, each by itself, as published with the models.
KNOWN = {
    "stories260K": (15_202, 4.651, (6.383, 7.265, 5.299, 5.705, 5.702)),
    "stories3M": (7_825, 5.947, (63.55, 12.08, 10.72, 11.31, 13.69, 9.264)),
    "tinystories-instruct-3M-neo": (7_284, 11.33, (141.1, 56.5, 14.5, 12.6, 12.41, 12.98, 13.19, 16.23)),
}


@pytest.mark.shared
@pytest.mark.parametrize("name", KNOWN)
def test_removing_each_sublayer_moves_perplexity_as_it_is_known_to(
    name: str, shared: Path, whole_stories: Path, tmp_path: Path
):
    source = shared / "models" / name
    text = read_text(str(whole_stories))
    protocol = Protocol(separator="<|endoftext|>", limit=40)
    tokens, unpruned, removed = KNOWN[name]
    whole = measured(source, text, protocol)
    assert whole.numbers()["tokens"] == tokens
    assert f"{whole.numbers()['perplexity']:.4g}" == f"{unpruned:.4g}"
    for layer, expected in enumerate(removed):
        out = api.prune(source, tmp_path / str(layer), api.plan(source, drop=[layer])).path
        evidence = measured(out, text, protocol)
        assert api.open_model(out).edits.attention == (layer,)
        assert f"{evidence.numbers()['perplexity']:.4g}" == f"{expected:.4g}", f"layer {layer}"


@pytest.mark.shared
def test_windows_of_novels_give_the_known_loss(shared: Path):
    text = read_text(str(shared / "data/novels/heldout.txt"))
    short = text_of(text.content[:80_000])
    evidence = measured(shared / "models/novels-16L", short, Protocol(window=256, limit=48))
    assert evidence.numbers()["nll"] == pytest.approx(3.4653, abs=5e-5)
    assert evidence.numbers()["tokens"] == 48 * 255
    assert evidence.protocol.bos is False


@pytest.mark.shared
def test_wikitext_rows_are_joined_as_the_hub_has_them(shared: Path):
    path = shared / "data/wikitext-2/wiki.test.raw"
    rows = wikitext_rows(path.read_text(encoding="utf-8"))
    assert len(rows) == 4358
    assert rows[:2] == ["", " = Robert Boulter = \n"]
    assert read_text(f"wikitext2={path}").content == "\n\n".join(rows)


@pytest.mark.parametrize("content", ["one##two\n####three", "## one ##two##three##", " one ##two## ##three##\n"])
def test_separators_cut_a_text_into_all_of_its_documents(content: str):
    assert documents(text_of(content), "##") == ["one", "two", "three"]
    assert documents(text_of(content), "##", limit=2) == ["one", "two"]


@pytest.mark.parametrize(("content", "separator"), [("one##two", "@@"), ("## ##", "##")])
def test_a_text_that_a_separator_does_not_cut_is_refused(content: str, separator: str):
    with refused("no-documents", "documents"):
        documents(text_of(content), separator)


class Words:
    """A tokenizer for tests of the protocol: a token a word, its number."""

    bos_token_id = None

    def num_special_tokens_to_add(self) -> int:
        return 0

    def __call__(self, texts: list[str], **_: object) -> dict[str, list[list[int]]]:
        return {"input_ids": [[int(word) for word in text.split()] for text in texts]}


class Config:
    vocab_size = 50
    max_position_embeddings = 8


def test_a_window_is_the_models_longest_input_where_none_is_given():
    sequences, protocol = encode(Words(), text_of(" ".join(map(str, range(21)))), Protocol(), Config())
    assert sequences == [list(range(8)), list(range(8, 16))]
    assert protocol.last_shorter_window == "dropped"


@pytest.mark.parametrize(
    ("content", "protocol", "code", "field"),
    [
        ("1 2 3", Protocol(), "text-too-short", "data"),
        ("1 2 3", Protocol(window=9), "window-too-long", "window"),
        ("1 2 3", Protocol(window=1), "window-too-short", "window"),
        ("1 2 3", Protocol(window=4, stride=5), "stride-out-of-range", "stride"),
        ("1 2 3", Protocol(separator="2", stride=2), "stride-with-documents", "stride"),
        ("1 2 3", Protocol(window=3, spread=True, stride=2), "stride-with-spread", "stride"),
        ("1 2 3 4 5 6 7 77", Protocol(), "token-outside-vocabulary", ""),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(content: str, protocol: Protocol, code: str, field: str):
    with refused(code, field):
        encode(Words(), text_of(content), protocol, Config())


def test_texts_that_cannot_be_read_are_said_in_one_line(tmp_path: Path):
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 and more")
    for name, message in [
        ("none.txt", "data-missing"),
        ("empty.txt", "data-empty"),
        ("latin.txt", "data-not-utf8"),
        (".", "data-unreadable"),
    ]:
        with refused(message, "data"):
            read_text(str(tmp_path / name))


@pytest.mark.shared
@pytest.mark.parametrize("name", ["stories3M", "tinystories-instruct-3M-neo"])
def test_wikitext_windows_give_what_a_plain_reckoning_gives(name: str, shared: Path):
    """The first windows by the usual protocol; benchmarks/perplexity.py compares the whole text."""
    directory = shared / "models" / name
    model, tokenizer = load(directory, dtype=torch.float32), load_tokenizer(directory)
    text = read_text(f"wikitext2={shared / 'data/wikitext-2/wiki.test.raw'}")
    window = model.config.max_position_embeddings
    short = text_of(text.content[:12_000])
    ids = tokenizer(short.content)["input_ids"]
    expected = sum(naive_nll(model, ids[n * window : (n + 1) * window]) for n in range(3)) / (3 * (window - 1))
    result = perplexity(model, tokenizer, short, Protocol(limit=3))
    assert result.perplexity == pytest.approx(math.exp(expected), rel=1e-4)
    assert result.protocol.text_tokens == len(ids)


@pytest.mark.shared
def test_under_a_limit_words_and_bytes_are_those_that_were_read(shared: Path):
    """The text's end has other words than its beginning: figures are those of the beginning measured alone."""
    directory = shared / "models/stories3M"
    model, tokenizer = load(directory, dtype=torch.float32), load_tokenizer(directory)
    text = text_of("Once upon a time there was a little dog. " * 8 + "Extraordinarily uncharacteristic! é ü 大 " * 30)
    limited = perplexity(model, tokenizer, text, Protocol(window=20, limit=2))
    ids = tokenizer(text.content)["input_ids"][:40]
    beginning = text_of(tokenizer.decode(ids, skip_special_tokens=True))
    assert text.content.startswith(beginning.content)
    alone = perplexity(model, tokenizer, beginning, Protocol(window=20))
    assert (len(limited.items), len(alone.items)) == (2, 2)
    assert limited.nll == pytest.approx(alone.nll)
    assert limited.word_perplexity == pytest.approx(alone.word_perplexity)
    assert limited.bits_per_byte == pytest.approx(alone.bits_per_byte)
    assert limited.protocol.tokens_read == 40
    whole = perplexity(model, tokenizer, text, Protocol(window=20, limit=1000))
    assert whole.protocol.tokens_read is None
    assert limited.data.tokens_sha256 == alone.data.tokens_sha256 != whole.data.tokens_sha256


def test_under_a_limit_figures_by_word_are_left_out_where_tokens_have_no_places_in_the_text():
    subject, text = tiny("gpt2"), text_of(" ".join(str(4 + n % 80) for n in range(80)))
    whole = perplexity(subject.module, subject.tokenizer, text, Protocol(window=16))
    limited = perplexity(subject.module, subject.tokenizer, text, Protocol(window=16, limit=2))
    by_word = {"word_perplexity", "bits_per_byte"}
    assert whole.numbers().keys() - limited.numbers().keys() == by_word


@pytest.mark.shared
def test_word_perplexity_and_bits_per_byte_are_the_harness_own(shared: Path):
    """On a text of one window, of which a leading BOS lets every token be predicted, as in a rolling log-likelihood."""
    from gatenorm.engines import engine_named
    from gatenorm.evaluation.tasks import harness
    from gatenorm.models.model import Model

    subject = Model.of_layout(api.open_model(shared / "models/stories260K"))
    content = "Once upon a time there was a dog. He liked the park,  and Tim."
    ids = subject.tokenizer(content)["input_ids"]
    result = perplexity(subject.module, subject.tokenizer, text_of(content), Protocol(window=len(ids)))
    with harness.quiet():
        from lm_eval.api.instance import Instance

        asked = Instance(request_type="loglikelihood_rolling", doc={}, arguments=(content,), idx=0)
        lm = engine_named("transformers").harness_model(subject)
        # The harness would put its own BOS in front of the tokenizer's.
        lm.add_bos_token = False
        (total,) = lm.loglikelihood_rolling([asked], disable_tqdm=True)
    assert result.word_perplexity == pytest.approx(math.exp(-total / len(content.split())), rel=1e-4)
    assert result.bits_per_byte == pytest.approx(-total / len(content.encode()) / math.log(2), rel=1e-4)


def test_windows_can_lie_evenly_over_the_text():
    """The middle ones of as many equal stretches, so that no end is favoured."""
    text = text_of(" ".join(str(n % 50) for n in range(8 * 20 + 5)))
    sequences, protocol = encode(Words(), text, Protocol(limit=4, spread=True), Config())
    assert [(s[0], len(s)) for s in sequences] == [(8 * n % 50, 8) for n in (2, 7, 12, 17)]
    assert (protocol.spread, protocol.windows, protocol.tokens_read) == (True, 4, 32)
    every, first = (encode(Words(), text, Protocol(limit=20, spread=spread), Config()) for spread in (True, False))
    assert every[0] == first[0]
    assert first[1].spread is False


def test_documents_can_lie_evenly_over_the_text():
    text = text_of("one##two##three##four##five##six")
    assert documents(text, "##", limit=2, spread=True) == ["two", "five"]
    assert documents(text, "##", limit=6, spread=True) == documents(text, "##")


@pytest.mark.shared
def test_of_windows_over_the_whole_text_words_and_bytes_are_those_that_they_hold(shared: Path):
    directory = shared / "models/stories3M"
    model, tokenizer = load(directory, dtype=torch.float32), load_tokenizer(directory)
    text = text_of("Once upon a time there was a little dog. " * 8 + "Extraordinarily uncharacteristic! é ü 大 " * 30)
    found = perplexity(model, tokenizer, text, Protocol(window=20, limit=3, spread=True))
    encoded = tokenizer(text.content, return_offsets_mapping=True)
    ids, places = encoded["input_ids"], encoded["offset_mapping"]
    begins = [20 * ((2 * n + 1) * (len(ids) // 20) // 6) for n in range(3)]
    expected = sum(naive_nll(model, ids[at : at + 20]) for at in begins) / (3 * 19)
    held = [text.content[places[at][0] : places[at + 19][1]] for at in begins]
    words, size = (sum(map(len, parts)) / 60 for parts in ([h.split() for h in held], [h.encode() for h in held]))
    assert found.nll == pytest.approx(expected, rel=1e-5)
    assert found.word_perplexity == pytest.approx(math.exp(found.nll / words))
    assert found.bits_per_byte == pytest.approx(found.nll / size / math.log(2))

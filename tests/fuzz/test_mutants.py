"""Every parser of ours on mutated input: it is read, or refused with an error of ours that is one short line.

``python -m tests.fuzz`` tries as many of each as there is time for, without or with coverage as its guide.
"""

from __future__ import annotations

import random
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, seed, settings, strategies as st

from tests.fuzz.mutants import mutant
from tests.fuzz.parser import Parser
from tests.fuzz.parsers import Place
from tests.fuzz.running import BESIDES, TIMES, outcome

NAMES = (
    *("safetensors", "index", "config", "quantisation config", "gatenorm entry of a config", "config of an export"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "SentencePiece"),
    *("chat template", "GGUF header and metadata", "GGUF as a model", "plan", "evidence", "scores", "audit.json"),
    *("audit state", "audit.yaml", "recovery state", "kept result", "hub answer", "head of a card"),
    *("rows of text", "rows of prompts", "rows of refusal items", "rows of zero-shot tasks", "refusal rule", "recipe"),
    *("pickled weights", "adapter_config.json"),
)


@pytest.fixture(scope="module")
def parsers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Parser]:
    return {parser.name: parser for parser in Place(tmp_path_factory.mktemp("fuzz")).parsers()}


def test_every_parser_is_tried_and_reads_what_is_sound(parsers: dict[str, Parser]):
    assert tuple(parsers) == NAMES
    for parser in parsers.values():
        assert [outcome(parser.read, sample) for sample in parser.samples].count("refused") == 0 or (
            # Settings of one model, weights of another; an adapter is no model.
            parser.name in ("quantisation config", "config of an export", "adapter_config.json")
        )


@pytest.mark.parametrize("name", NAMES)
@seed(0)
@given(number=st.integers(0, 2**63))
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), database=None)
def test_mutants_are_read_or_refused(name: str, parsers: dict[str, Parser], number: int):
    parser, draw = parsers[name], random.Random(number)
    if not parser.slow or number % 20 == 0:
        outcome(parser.read, mutant(draw.choice(parser.samples), parser.form, draw))


@pytest.mark.parametrize("content", [b"[" + b"[]," * 300_000 + b"[]]", b"[" + b"{}," * 300_000 + b"{}]"])
def test_memory_stays_within_a_multiple_of_the_file(content: bytes, parsers: dict[str, Parser]):
    """The JSON that takes most, as much of it as is parsed."""
    assert TIMES * len(content) + BESIDES < 1 << 26
    tracemalloc.start()
    try:
        for parser in parsers.values():
            if parser.form in ("json", "lines"):
                outcome(parser.read, content)
    finally:
        tracemalloc.stop()

"""The packaged mixture of public-domain text."""

from __future__ import annotations

import re
import subprocess
import tomllib
import unicodedata
from collections import Counter
from itertools import accumulate
from pathlib import Path
from typing import get_args

import pytest
from transformers import AutoTokenizer

from gatenorm.evaluation.core.generic import DATA, FRONT, Document, Kind, documents
from gatenorm.evaluation.core.text import read_text

ROOT = Path(__file__).parents[2]
KINDS = set(get_args(Kind))
PROSE = ("encyclopaedic", "reports", "literature", "essays and letters")
STRETCH = 65536


@pytest.fixture(scope="module")
def mixture() -> list[Document]:
    return documents()


def share(mixture: list[Document], *kinds: str) -> float:
    return sum(len(d.text) for d in mixture if d.kind in kinds) / sum(len(d.text) for d in mixture)


def table() -> dict[str, list[str]]:
    """The rows of the table of sources, by their first column."""
    rows = re.findall(r"^\| (.*) \|$", DATA.joinpath("generic.md").read_text(encoding="utf-8"), re.MULTILINE)
    cells = [row.split(" | ") for row in rows]
    return {row[0]: row for row in cells if len(row) == 7 and row[0] != "source"}


def test_it_holds_many_short_documents(mixture: list[Document]):
    assert 600_000 <= sum(len(d.text.encode()) for d in mixture) <= 910_000
    assert len(mixture) > 250
    assert all(500 <= len(d.text) <= 6500 for d in mixture)


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (PROSE, 0.47),
        (("encyclopaedic",), 0.22),
        (("dialogue",), 0.10),
        (("code", "data"), 0.20),
        (("how-to", "mathematics"), 0.10),
        (("other languages",), 0.105),
    ],
)
def test_every_kind_has_its_share(mixture: list[Document], kinds: tuple[str, ...], expected: float):
    assert share(mixture, *kinds) == pytest.approx(expected, abs=0.015)


def test_the_largest_part_of_the_prose_states_facts(mixture: list[Document]):
    assert max(PROSE, key=lambda kind: share(mixture, kind)) == "encyclopaedic"


def test_the_first_64_kb_hold_every_kind(mixture: list[Document]):
    ends = accumulate(len(d.text.encode()) for d in mixture)
    assert {d.kind for d, end in zip(mixture, ends, strict=True) if end <= STRETCH} == KINDS


def test_any_stretch_of_64_kb_is_as_mixed_as_the_whole(mixture: list[Document]):
    sizes = [len(d.text.encode()) for d in mixture]
    for first in range(len(mixture)):
        last = first + sum(total <= STRETCH for total in accumulate(sizes[first:]))
        if sum(sizes[first:]) < STRETCH:
            break
        stretch = mixture[first:last]
        assert len({d.kind for d in stretch}) >= len(KINDS) - 2, first
        assert share(stretch, *PROSE) == pytest.approx(share(mixture, *PROSE), abs=0.12), first


def test_every_half_has_the_shares_of_the_whole(mixture: list[Document]):
    for half in (mixture[: len(mixture) // 2], mixture[len(mixture) // 2 :]):
        for kind in KINDS:
            assert share(half, kind) == pytest.approx(share(mixture, kind), abs=0.02), kind


def test_no_source_is_more_than_a_seventh(mixture: list[Document]):
    sizes = Counter[str]()
    for document in mixture:
        sizes[document.source] += len(document.text)
    assert len(sizes) >= 30
    assert max(sizes.values()) < sum(sizes.values()) / 7


def test_it_speaks_many_languages(mixture: list[Document]):
    languages = {d.language for d in mixture if d.kind == "other languages"}
    # Those of which texts are known to be free: of a declaration in other languages the terms are not stated.
    assert languages == {"ar", "es", "fr", "la", "ru", "zh"}
    assert {d.language for d in mixture if d.kind == "code"} >= {"c", "python", "javascript", "sql", "shell"}
    assert {d.language for d in mixture if d.kind == "data"} >= {"json", "csv", "html", "markdown", "toml", "css"}


def test_no_document_and_no_long_paragraph_appears_twice(mixture: list[Document]):
    paragraphs = Counter(p for d in mixture for p in set(d.text.split("\n\n")) if len(p) > 200)
    assert [p for p, count in paragraphs.items() if count > 1] == []
    assert len({d.text for d in mixture}) == len(mixture)


def test_text_is_clean(mixture: list[Document]):
    for document in mixture:
        odd = {c for c in document.text if c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cn", "Co", "Cs")}
        assert not odd | ({"\N{REPLACEMENT CHARACTER}", "\N{ZERO WIDTH NO-BREAK SPACE}"} & set(document.text)), (
            document.source
        )
        assert document.text.endswith("\n"), document.source
        assert "Project Gutenberg" not in document.text, document.source


def test_prose_has_no_wrapped_lines(mixture: list[Document]):
    for document in mixture:
        if document.kind in ("reports", "encyclopaedic"):
            lines = [line for line in document.text.split("\n") if line]
            wrapped = sum(60 <= len(line) <= 80 and line[-1].islower() for line in lines)
            assert wrapped <= len(lines) / 4, document.source


def test_sources_lists_every_document(mixture: list[Document]):
    rows = table()
    assert set(rows) == {d.source for d in mixture}
    for source, (_, author, kinds, count, size, found, terms) in rows.items():
        own = [d for d in mixture if d.source == source]
        assert kinds == ", ".join(sorted({d.kind for d in own})), source
        assert int(count) == len(own), source
        assert int(size.replace(",", "")) == sum(len(d.text.encode()) for d in own), source
        assert author, source
        assert found, source
        assert terms, source


@pytest.mark.parametrize("name", ["generic.jsonl.xz", "generic.md"])
def test_packages_contain_it(name: str):
    """Hatchling packs what lies under the listed folders and is not ignored by git."""
    path = f"src/gatenorm/evaluation/data/{name}"
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    assert set(build) == {"targets"}
    assert build["targets"]["wheel"] == {"packages": ["src/gatenorm"]}
    assert set(build["targets"]["sdist"]) == {"include"}
    assert "/src" in build["targets"]["sdist"]["include"]
    assert (ROOT / path).is_file()
    assert subprocess.run(["git", "check-ignore", "--quiet", path], cwd=ROOT).returncode == 1


def test_it_is_small():
    assert len(DATA.joinpath("generic.jsonl.xz").read_bytes()) < 330_000


def test_evaluations_read_what_calibration_leaves(mixture: list[Document], shared: Path):
    """Of a tokenizer that makes few tokens of many characters, fits of the usual size do not reach that far."""
    text = read_text("generic")
    rest = [d.text[FRONT:].strip() for d in mixture if len(d.text.strip()) > FRONT]
    assert len(text.content) > 100_000
    assert text.content == "\n\n".join(piece for piece in rest if piece)
    tokenizer = AutoTokenizer.from_pretrained(shared / "models" / "tinystories-instruct-3M-neo")
    for document in mixture:
        if len(document.text.strip()) > FRONT:
            assert len(tokenizer(document.text[:FRONT], verbose=False)["input_ids"]) >= 512

"""The page: nothing that a name holds can act, it asks for nothing, and everybody can read it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from gatenorm.errors import OutputError
from gatenorm.records.audit import Audit
from gatenorm.report.page import write_report
from gatenorm.report.page.content import report
from gatenorm.report.page.html import html
from gatenorm.report.page.markdown import markdown
from tests.errors import refused
from tests.report.audits import ATTACKS, attacked, audit, with_english_tasks


class _Page(HTMLParser):
    """Elements with their attributes, and the headings, of a page."""

    def __init__(self, page: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[int] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))


@pytest.mark.parametrize("attack", ATTACKS)
def test_names_cannot_act(attack: str):
    content = report(attacked(attack))
    page = html(content)
    harmless = _Page(html(report(with_english_tasks(audit("demo")))))
    found = _Page(page)
    allowed = {tag for tag, _ in harmless.elements}
    assert {tag for tag, _ in found.elements} <= allowed
    for tag, attributes in found.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        assert (attributes.get("href") or "#").startswith("#")
        assert "src" not in attributes
    text = markdown(content)
    outside = "\n".join(line for line in text.splitlines() if not line.startswith("    "))
    assert not re.search(r"<(?!/?\w*&)[a-z/!]", outside)
    assert not re.search(r"(?<!\\)\[x", outside)
    assert "\u202e" not in page + text
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in outside.splitlines() if line.startswith("| ")}
    assert max(widths) <= 14  # twelve columns: no name has made another


def test_the_page_requests_nothing_and_has_no_scripts(measured: Audit):
    page = html(report(measured))
    found = _Page(page)
    (policy,) = [a["content"] or "" for t, a in found.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline';")
    assert "script" not in {t for t, _ in found.elements}
    assert not [t for t, _ in found.elements if t in ("link", "iframe", "img", "object", "embed", "form", "base")]
    assert not [a for _, a in found.elements if "src" in a]
    assert not re.search(r"url\((?!#)|@import", page)


def test_structure_for_those_who_do_not_see_it(measured: Audit):
    page = html(report(measured))
    found = _Page(page)
    tags = [tag for tag, _ in found.elements]
    assert [tags.count(t) for t in ("main", "nav", "header", "footer", "h1")] == [1, 1, 1, 1, 1]
    assert found.headings[0] == 1
    assert all(after - before <= 1 for before, after in zip(found.headings, found.headings[1:], strict=False))
    assert tags.count("table") == tags.count("caption")
    assert all("scope" in attributes for tag, attributes in found.elements if tag == "th")
    named = [a["id"] for _, a in found.elements if "id" in a]
    assert len(set(named)) == len(named)
    links = [(a["href"] or "")[1:] for t, a in found.elements if t == "a"]
    assert set(links) <= set(named)
    for _, attributes in found.elements:
        if attributes.get("class") == "plot":
            assert attributes["role"] == "img"
            assert attributes["aria-label"]
        if attributes.get("role") == "region":
            assert attributes["aria-label"]


def test_written_whole_or_not_at_all(tmp_path: Path):
    one = audit("demo")
    page = write_report(one, tmp_path / "new")
    assert page == tmp_path / "new" / "report.html"
    assert sorted(p.name for p in page.parent.iterdir()) == ["report.html", "report.md"]
    assert page.stat().st_size < 1_000_000
    again = page.read_bytes(), (page.parent / "report.md").read_bytes()
    write_report(one, page.parent)
    assert again == (page.read_bytes(), (page.parent / "report.md").read_bytes())
    (tmp_path / "file").write_text("")
    with refused("out-unwritable", kind=OutputError):
        write_report(one, tmp_path / "file")
    (tmp_path / "taken" / "report.md").mkdir(parents=True)
    with refused("out-unwritable", kind=OutputError) as caught:
        write_report(one, tmp_path / "taken")
    assert str(tmp_path / "taken" / "report.md") in caught.value.problem
    assert [p.name for p in (tmp_path / "taken").iterdir()] == ["report.md"]

"""The audit's page in a real browser: drawn, quiet, readable, reachable, printable."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from PIL import Image

from gatenorm.records.audit import RECOVERED, Audit
from gatenorm.report.page import write_report
from tests.report.audits import ATTACKS, attacked, audit, priced, with_english_tasks
from tests.report.browser import Browser, faint_texts, installed, texts_below

pytestmark = pytest.mark.skipif(installed() is None, reason="no chromium: apt-get install chromium")

_UNDRAWN = """[...document.querySelectorAll('.plot')].filter(p => ![...p.querySelectorAll('svg')].some(
  s => s.getClientRects().length && s.querySelector('path > title'))).map(p => p.id)"""
# Texts that leave their drawing or lie over another one's.
_CLIPPED = """[...document.querySelectorAll('.plot svg')].filter(s => s.getClientRects().length).flatMap(s => {
  const frame = s.getBoundingClientRect(), texts = [...s.querySelectorAll('text')], boxes = texts.map(
    t => t.getBoundingClientRect());
  const flat = t => !t.getAttribute('transform').includes('rotate');
  return texts.filter((t, n) => { const b = boxes[n];
    if (b.left < frame.left - 1 || b.right > frame.right + 1 || b.top < frame.top - 1 || b.bottom > frame.bottom + 1)
      return true;
    return flat(t) && texts.some((o, m) => m > n && flat(o) && boxes[m].left < b.right - 1
      && boxes[m].right > b.left + 1 && boxes[m].top < b.bottom - 4 && boxes[m].bottom > b.top + 4);
  }).map(t => s.closest('.plot').id + ': ' + t.textContent); })"""
_WIDE = """document.documentElement.scrollWidth > innerWidth ? [...document.querySelectorAll('body *')]
  .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.scroll'))
  .slice(0, 5).map(e => e.outerHTML.slice(0, 90)) : []"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("chromium"))
    yield opened
    opened.close()


def written(one: Audit, folder: Path) -> Path:
    # One that was recovered, so that its marks are looked at too.
    variants = (replace(one.variants[0], state=RECOVERED), *one.variants[1:])
    return write_report(replace(one, variants=variants), folder)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(audit("demo"), tmp_path_factory.mktemp("demo"))


def shoot(browser: Browser, name: str, whole: bool = False) -> None:
    """A picture for whoever changes the page: `GATENORM_PICTURES=folder pytest tests/report/test_page_browser.py`."""
    folder = os.environ.get("GATENORM_PICTURES")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        browser.shoot(Path(folder) / f"{name}.png", whole)


def open_all(browser: Browser) -> None:
    browser.ask("document.querySelectorAll('details').forEach(d => d.open = true)")


def assert_quiet(browser: Browser, page: Path) -> None:
    assert browser.complaints == []
    asked = [url for url in browser.requests if not url.startswith(("data:", "blob:"))]
    assert asked == [page.as_uri()]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_drawn_quiet_and_of_good_contrast(browser: Browser, page: Path, dark: bool):
    browser.open(page.as_uri(), dark=dark)
    shoot(browser, f"demo-{'dark' if dark else 'light'}", whole=True)
    assert browser.ask("document.querySelectorAll('.plot').length") >= 9
    assert browser.ask(_UNDRAWN) == []
    assert browser.ask(_CLIPPED) == []
    open_all(browser)
    assert faint_texts(browser) == []
    assert texts_below(browser, 12) == []
    assert_quiet(browser, page)


def test_heat_maps_are_drawn(browser: Browser, tmp_path: Path):
    other = written(with_english_tasks(audit("demo")), tmp_path)
    browser.open(other.as_uri())
    shoot(browser, "english-light", whole=True)
    assert browser.ask("document.querySelectorAll('[id^=\"chart-retrieval-\"] path > title').length") >= 4
    assert browser.ask("document.querySelectorAll('#chart-positions .wide path > title').length") >= 6
    assert browser.ask(_CLIPPED) == []
    assert browser.ask(_UNDRAWN) == []
    assert_quiet(browser, other)


def test_read_on_a_phone(browser: Browser, page: Path):
    browser.open(page.as_uri(), width=390, height=844, touch=True)
    shoot(browser, "demo-phone", whole=True)
    open_all(browser)
    assert browser.ask(_WIDE) == []
    assert browser.ask("document.documentElement.scrollWidth") <= 390
    assert browser.ask("visualViewport.scale") == 1
    assert texts_below(browser, 12) == []
    assert browser.ask(_UNDRAWN) == []
    assert browser.ask(_CLIPPED) == []
    # The command scrolls in a region of its own, which the keyboard reaches; tables are cards, one below the other.
    first = "document.querySelector('.verdict .scroll')"
    assert browser.ask(f"{first}.scrollWidth > {first}.clientWidth && {first}.tabIndex === 0")
    cards = "[...document.querySelectorAll('.summary tbody td')]"
    assert browser.ask(f"{cards}.every(cell => getComputedStyle(cell, '::before').content.length > 2)")
    assert browser.ask(
        "[...document.querySelectorAll('.wide')].every(t => t.offsetWidth <= t.parentElement.offsetWidth)"
    )
    assert_quiet(browser, page)


def test_the_first_table_is_whole_on_a_laptop(browser: Browser, tmp_path: Path):
    first = "document.querySelector('.verdict table.summary').parentElement"
    browser.open(written(priced(audit("demo")), tmp_path).as_uri(), width=1200)
    shoot(browser, "priced-1200", whole=True)
    assert browser.ask(f"{first}.querySelector('thead th:last-child').textContent").startswith("Cost")
    for width in (1100, 1200, 1280):
        browser.size(width, 900)
        assert browser.ask(f"[innerWidth, {first}.scrollWidth - {first}.clientWidth]") == [width, 0]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_table_that_goes_on_shows_it(browser: Browser, page: Path, tmp_path: Path, dark: bool):
    browser.open(page.as_uri(), width=390, height=844, dark=dark, touch=True)
    first = "document.querySelector('.verdict .scroll')"
    browser.ask(f"document.documentElement.style.scrollBehavior = 'auto'; {first}.scrollIntoView()")

    def shade() -> int:
        """How far the table's last column of points lies from the ground, in steps of 256, where no text is."""
        box = browser.ask(f"(b => [b.right, b.top])({first}.getBoundingClientRect())")
        browser.shoot(tmp_path / "window.png")
        with Image.open(tmp_path / "window.png") as picture:
            at = [picture.convert("L").getpixel((int(box[0]) - back, int(box[1]) + 6)) for back in (2, 30)]
        return abs(int(at[0]) - int(at[1]))

    assert shade() > 25
    browser.ask(f"{first}.scrollLeft = 9999")
    assert shade() < 5


def test_the_reader_chooses_the_theme_of_page_and_charts(browser: Browser, page: Path):
    browser.open(page.as_uri())
    colours = """[document.body, document.querySelector('#chart-tradeoff text')].map(
      (e, n) => getComputedStyle(e)[n ? 'fill' : 'backgroundColor'])"""
    light = browser.ask(colours)
    browser.ask("document.querySelector('.theme select').value = 'dark'")
    dark = browser.ask(colours)
    assert [before != after for before, after in zip(light, dark, strict=True)] == [True, True]
    assert faint_texts(browser) == []
    browser.theme(dark=True)
    browser.ask("document.querySelector('.theme select').value = 'light'")
    assert browser.ask(colours) == light


def test_the_keyboard_reaches_everything(browser: Browser, page: Path):
    browser.open(page.as_uri())
    browser.press("Tab", 9)
    assert browser.ask("document.activeElement.className") == "skip"
    assert browser.ask("document.activeElement.getBoundingClientRect().top") >= 0
    assert browser.ask("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    wanted = browser.ask("document.querySelectorAll('a[href], select, summary, [tabindex=\"0\"]').length")
    reached = {"skip"}
    script = """(() => { const e = document.activeElement; window.seen = window.seen || new Set();
      if (e === document.body) return 'end'; window.seen.add(e);
      const s = getComputedStyle(e); return s.outlineStyle + ' ' + s.outlineWidth; })()"""
    for _ in range(wanted + 5):
        browser.press("Tab", 9)
        seen = browser.ask(script)
        if seen == "end":
            break
        reached.add(seen)
    assert reached == {"skip", "solid 3px"}
    visible = """[...document.querySelectorAll('a[href], select, summary, [tabindex="0"]')]
      .filter(e => e.getClientRects().length && e.className !== 'skip'
        && !(e.closest('details:not([open])') && e.tagName !== 'SUMMARY')
        && !(e.tagName === 'SUMMARY' && e.parentElement.parentElement.closest('details:not([open])')))
      .filter(e => !window.seen.has(e)).map(e => e.outerHTML.slice(0, 80))"""
    assert browser.ask(visible) == []


def test_it_prints(browser: Browser, page: Path, tmp_path: Path):
    browser.open(page.as_uri(), dark=True)
    printed = browser.pdf()
    assert printed.startswith(b"%PDF")
    sheets = len(re.findall(rb"/Type\s*/Page\b", printed))
    assert 4 <= sheets <= 60
    folder = os.environ.get("GATENORM_PICTURES")
    if folder:
        (Path(folder) / "demo.pdf").write_bytes(printed)
    browser.call("Emulation.setEmulatedMedia", media="print")
    assert browser.ask("getComputedStyle(document.querySelector('#chart-tradeoff text')).fill") == "rgb(27, 32, 38)"
    assert browser.ask("[...document.querySelectorAll('details[data-printed] > .scroll')].every(t => t.offsetHeight)")
    browser.call("Emulation.setEmulatedMedia", media="")
    assert browser.complaints == []


def test_attacks_in_names_do_nothing(browser: Browser, tmp_path: Path):
    hostile = write_report(attacked("".join(ATTACKS)), tmp_path)
    browser.open(hostile.as_uri())
    assert browser.ask("document.title").startswith("</script>")
    assert browser.ask("document.querySelectorAll('img, script, .plot a[href], [onload], [onerror]').length") == 0
    assert browser.ask(_UNDRAWN) == []
    # Names this long must not make the page wider either.
    browser.size(390, 844)
    assert browser.ask(_WIDE) == []
    assert_quiet(browser, hostile)


def test_the_policy_stops_what_would_slip_through(browser: Browser, tmp_path: Path):
    holed = write_report(audit("demo"), tmp_path)
    text = holed.read_text(encoding="utf-8")
    slipped = "<script>document.title = 'hit'</script><img src=x onerror=\"document.title = 'hit'\">"
    holed.write_text(text.replace("<main>", f"<main>{slipped}", 1), encoding="utf-8")
    browser.open(holed.as_uri())
    assert browser.ask("document.title") != "hit"
    assert any("Content Security Policy" in c for c in browser.complaints)

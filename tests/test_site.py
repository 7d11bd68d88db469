"""The pages that the site makes from the code, and its navigation; `make docs` builds it all."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import typer
import yaml

from gatenorm.cli import app

ROOT = Path(__file__).resolve().parents[1]
specification = importlib.util.spec_from_file_location("site_pages", ROOT / "scripts/site_pages.py")
assert specification
assert specification.loader
site_pages = importlib.util.module_from_spec(specification)
specification.loader.exec_module(site_pages)


@pytest.mark.parametrize("name", typer.main.get_command(app).commands)
def test_the_page_of_a_command_has_every_option(name: str):
    page = site_pages.command_pages()[f"commands/{name}.md"]
    for parameter in typer.main.get_command(app).commands[name].params:
        for flag in [*parameter.opts, *parameter.secondary_opts]:
            assert parameter.param_type_name == "argument" or flag in page, flag
    assert f"\ngatenorm {name} " in page or f"\ngatenorm {name}\n" in page  # the example


def test_the_page_of_the_api_has_every_public_name():
    import gatenorm.api

    page = site_pages.api_page()
    public = [n for n, found in vars(gatenorm.api).items() if callable(found) and not n.startswith("_")]
    assert len(public) > 20
    for name in public:
        assert f"heading: gatenorm.{name}\n" in page + "\n", name


def test_every_page_is_in_the_navigation_and_everything_in_it_is_a_page():
    def pages(entries: list) -> set[str]:
        found: set[str] = set()
        for entry in entries:
            value = entry if isinstance(entry, str) else next(iter(entry.values()))
            found |= {value} if isinstance(value, str) else pages(value)
        return found

    named = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]) - {"commands"}
    written = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert named == written | {site_pages.API_PAGE, *site_pages.OUTSIDE.values()}


@pytest.mark.parametrize(
    ("link", "becomes"),
    [
        ("[how](../CONTRIBUTING.md#a-family)", "[how](../project/contributing.md#a-family)"),
        ("[Criteria](../docs/criteria.md)", "[Criteria](../criteria.md)"),
        ("![Report](images/report.png)", "![Report](../docs/images/report.png)"),
        ("see [the code](../src/gatenorm/errors.py)", "see the code"),
        ("[paper](https://arxiv.org/abs/2512.20636)", "[paper](https://arxiv.org/abs/2512.20636)"),
        ("[below](#limits)", "[below](#limits)"),
    ],
)
def test_links_lead_where_the_site_has_a_page(link: str, becomes: str):
    expected = becomes.replace("../docs/images", "../images")
    assert site_pages.relinked(link, "docs/page.md", "section/page.md") == expected

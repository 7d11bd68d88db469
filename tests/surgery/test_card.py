"""What the model card says of how layers were chosen, with evidence and without."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gatenorm import api
from gatenorm.surgery.card import with_evidence

TinyModels = Callable[..., Path]


@pytest.mark.parametrize(("how", "scored"), [({"drop": [1]}, False), ({"layers": 1}, True)])
def test_only_what_was_scored_is_said_to_be(how: dict[str, Any], scored: bool, tiny_models: TinyModels, tmp_path: Path):
    source = tiny_models("llama-gqa")
    out = api.prune(source, tmp_path / "out", api.plan(source, **how)).path
    card = (out / "README.md").read_text()
    once = with_evidence(card, "FIGURES-1")
    for text in (card, once, with_evidence(once, "FIGURES-2")):
        assert ("The score is a heuristic." in text) == scored
        assert ("named by hand: nothing was scored." in text) == (not scored)
    assert once.count("What was measured, and what was not:") == 1
    assert "Nothing here says how good" not in once
    assert with_evidence(once, "FIGURES-2") == once.replace("FIGURES-1", "FIGURES-2")


def test_no_name_becomes_markup(tiny_models: TinyModels, tmp_path: Path):
    name = "<img src=x onerror=alert(1)>\n# Owned [here](http://evil.example)`|"
    source = shutil.copytree(tiny_models("llama-gqa"), tmp_path / name.replace("/", ":"))
    (source / "LICENSE](evil)").write_text("x")
    head = '---\nlicense: "`<b>owned\\n# Owned"\nbase_model: "a\\n# Owned"\n---\n'
    (source / "README.md").write_text(head)
    out = api.prune(source, tmp_path / "out", api.plan(source, drop=[1])).path
    cards = [(out / "README.md").read_text()]
    (out / "README.md").write_text(head)  # of a pruned source the base model is passed on
    cards.append((api.prune(out, tmp_path / "again", api.plan(out, drop=[2])).path / "README.md").read_text())
    assert "`a # Owned`" in cards[1]
    for card in cards:
        text = card.split("---", 2)[2]
        assert not any(line.startswith("# Owned") for line in text.splitlines())
        prose = re.sub(r"`[^`\n]*`", "", text)
        assert not re.search(r"(?<!\\)<", prose)
        assert "](evil" not in prose
        assert not re.search(r"(?<!\\)\]\(http://evil", prose)

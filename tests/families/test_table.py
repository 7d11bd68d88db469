"""docs/families.md has what the code says of each family; with GATENORM_WRITE_TABLES=1 its table is written anew."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from gatenorm.checkpoint import open_store
from gatenorm.exports import llama_like
from gatenorm.families import Layout, detect_layout, families
from gatenorm.families.translation import architectures
from tests.tiny_models import CASES

PAGE = Path(__file__).parents[2] / "docs/families.md"
ROWS = re.compile(r"^\| `.*\n", re.MULTILINE)


def row(layout: Layout) -> str:
    shape = layout.shape + (", mixtures of experts" if layout.data.mixture else "")
    positions = "rotary" if layout.rotary else "other"
    kinds = {(layout.roles.fused or "separate"), *(["q/k norms"] if layout.norms.q else [])}
    reasons = llama_like.obstacles(layout)
    exports = f"no: {reasons[0].removeprefix(layout.model_type + ': ')}" if reasons else "yes"
    read = {family: f"`{name}`" for name, family in architectures("gguf").items()}.get(layout.model_type, "no")
    cells = [f"`{layout.model_type}`", shape, positions, ", ".join(sorted(kinds)), read, exports]
    return f"| {' | '.join(cells)} |\n"


def test_the_table_is_what_the_code_says(tiny_models: Callable[..., Path]) -> None:
    rows: dict[str, str] = {}
    for case in CASES:
        layout = detect_layout(open_store(tiny_models(case)))
        rows.setdefault(layout.model_type, row(layout))
    assert set(rows) == set(families())
    page, table = PAGE.read_text(encoding="utf-8"), "".join(rows[name] for name in sorted(rows))
    if os.environ.get("GATENORM_WRITE_TABLES"):
        head, rule, rest = ROWS.sub("", page).partition("|---|---|---|---|---|---|\n")
        PAGE.write_text(head + rule + table + rest, encoding="utf-8")
    assert "".join(ROWS.findall(PAGE.read_text(encoding="utf-8"))) == table

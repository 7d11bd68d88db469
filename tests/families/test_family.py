"""What a family's JSON may hold: each of its keys is known, and every variant of every family can be read."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from msgspec import structs

from gatenorm.errors import FamilyError, RecordError
from gatenorm.families import families
from gatenorm.families.family import family
from gatenorm.families.schema import Family, Variant
from gatenorm.records import from_json
from tests.errors import refused


@pytest.mark.parametrize(
    ("place", "change", "code", "field", "nearest"),
    [
        ("", {"scael": 1.0}, "field-unknown", "scael", "'scale'"),
        ("block", {"brnach": []}, "field-unknown", "block.brnach", "'branch'"),
        ("norms", {"kind": "rsm"}, "field-wrong", "norms.kind", "'rms'"),
        ("rotary", {"theta": None}, "field-wrong", "rotary.theta", ""),
        ("rotary", {"by_kind": {"local": {"tehta": []}}}, "field-unknown", "rotary.by_kind[...].tehta", ""),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_key_or_a_word_that_is_not_known_is_named(
    place: str, change: dict[str, Any], code: str, field: str, nearest: str
):
    data = families()["llama"].to_dict()
    wrong = {**data, place: {**data[place], **change}} if place else {**data, **change}
    with refused(code, field, RecordError) as error:
        from_json(Family, wrong, "a family")
    assert nearest in error.value.hint


def test_what_is_missing_is_named():
    data = families()["llama"].to_dict()
    del data["roles"]["o"]
    with refused("field-missing", "roles.o", RecordError):
        from_json(Family, data, "a family")


@pytest.mark.parametrize("name", sorted(families()))
def test_a_family_is_what_its_json_says(name: str):
    assert from_json(Family, families()[name].to_dict(), "a family") == families()[name]


def _asked(wanted: Any) -> Any:
    """A value that a condition of a variant is true for."""
    if isinstance(wanted, dict):
        return 7 if wanted["not"] != 7 else 8
    return wanted[0] if isinstance(wanted, list) else wanted


def _variants() -> list[tuple[str, Variant]]:
    return [(name, variant) for name, one in families().items() if not one.tower for variant in one.variants]


@pytest.mark.parametrize(("name", "variant"), _variants(), ids=str)
def test_every_variant_is_a_family(name: str, variant: Variant):
    found = family(name, {key: _asked(wanted) for key, wanted in variant.when.items()})
    assert found != families()[name]
    assert found == from_json(Family, found.to_dict(), "a family")


def test_a_variant_with_a_key_that_is_not_known_is_named(monkeypatch: pytest.MonkeyPatch):
    wrong = Variant(when={"new": True}, then={"mlp": {"gaet": None}})
    known = {**families(), "llama": structs.replace(families()["llama"], variants=(wrong,))}
    monkeypatch.setattr(import_module("gatenorm.families.family"), "families", lambda: known)
    assert family("llama", {}) == known["llama"]
    with refused("extension-wrong", kind=FamilyError) as caught:
        family("llama", {"new": True})
    for part in ("llama", "mlp.gaet", "'gate'"):
        assert part in caught.value.problem

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


@pytest.mark.parametrize(
    ("place", "change", "named"),
    [
        ("", {"scael": 1.0}, "scael is not known; did you mean 'scale'"),
        ("block", {"brnach": []}, "block.brnach is not known; did you mean 'branch'"),
        ("norms", {"kind": "rsm"}, "norms.kind rsm is not known; did you mean 'rms'"),
        ("rotary", {"theta": None}, "rotary.theta None is not valid: expected a list"),
        ("rotary", {"by_kind": {"local": {"tehta": []}}}, "tehta is not known"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_key_or_a_word_that_is_not_known_is_named(place: str, change: dict[str, Any], named: str):
    data = families()["llama"].to_dict()
    wrong = {**data, place: {**data[place], **change}} if place else {**data, **change}
    with pytest.raises(RecordError) as error:
        from_json(Family, wrong, "a family")
    assert named in str(error.value)


def test_what_is_missing_is_named():
    data = families()["llama"].to_dict()
    del data["roles"]["o"]
    with pytest.raises(RecordError, match=r"roles\.o is missing"):
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
    with pytest.raises(FamilyError, match=r"llama: mlp\.gaet is not known; did you mean 'gate'"):
        family("llama", {"new": True})

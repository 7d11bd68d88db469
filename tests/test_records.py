"""Records: what is written is what is read, and what is not a record of this release is refused by name."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatenorm.errors import PlanError
from gatenorm.records import Evidence, LayerScore, ModelIdentity, Plan, Removal, Scores, read_json, spans

FINITE = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(max_size=8)
SECONDS = st.integers(0, 10**6).map(lambda n: n / 10_000)  # records keep four decimals
IDENTITIES = st.builds(
    ModelIdentity,
    name=TEXT,
    model_type=TEXT,
    layers=st.integers(1, 99),
    config_sha256=TEXT,
    files=st.dictionaries(TEXT, st.integers(0, 2**50), max_size=3),
)
LAYER_SCORES = st.builds(LayerScore, st.integers(0, 99), FINITE, st.lists(FINITE, max_size=3).map(tuple))
SCORES = st.builds(
    Scores,
    model=IDENTITIES,
    criterion=TEXT,
    layers=st.lists(LAYER_SCORES, max_size=5, unique_by=lambda s: s.layer).map(tuple),
    seconds=SECONDS,
    bytes_read=st.integers(0, 2**50),
    notes=st.lists(TEXT, max_size=2).map(tuple),
    seed=st.none() | st.integers(0, 99),
    version=TEXT,
    kind=st.sampled_from(["attention", "mlp", "block"]),
    calibration=st.none() | st.dictionaries(TEXT, TEXT | st.integers(), max_size=3),
)
DROPS = st.sets(st.integers(0, 99), max_size=5).map(lambda s: tuple(sorted(s)))
NEW_KINDS = {"drop_mlp": DROPS.filter(bool), "kind": st.sampled_from(["attention", "mlp", "block"])}
PLAN_FIELDS = {
    "model": IDENTITIES,
    "drop": DROPS,
    "criterion": st.none() | TEXT,
    "scores": st.none() | SCORES,
    "protect": DROPS,
    "previous": st.none() | st.builds(Plan, model=IDENTITIES, drop=DROPS),
    "version": TEXT,
}
PLANS = st.builds(Plan, **PLAN_FIELDS) | st.builds(Plan, **PLAN_FIELDS, **NEW_KINDS)
EVIDENCE = st.builds(
    Evidence,
    kind=TEXT,
    model=IDENTITIES,
    removed=DROPS,
    removed_mlp=DROPS,
    figures=st.dictionaries(TEXT, FINITE, max_size=3),
    protocol=st.dictionaries(TEXT, TEXT | st.integers() | st.booleans(), max_size=3),
    data=st.dictionaries(TEXT, TEXT, max_size=3),
    seconds=SECONDS,
    versions=st.dictionaries(TEXT, TEXT, max_size=2),
)

MODEL = ModelIdentity("m", "llama", 4, "ab", {"model.safetensors": 8})
RECORDS: dict[str, tuple[Any, Any]] = {
    "scores": (Scores, Scores(MODEL, "gate-norm", (LayerScore(0, 1.5, (1.0, 0.5)), LayerScore(1, 0.5)), 0.25, 64)),
    "plan": (Plan, Plan(MODEL, (1, 2), "gate-norm")),
    "evidence": (Evidence, Evidence("perplexity", MODEL, (1,), {"loss": 2.5}, {"bos": True}, {"name": "x"}, 1.0)),
}


def through_json(record: Any) -> Any:
    return json.loads(json.dumps(record.to_json(), allow_nan=False))


@given(SCORES | PLANS | EVIDENCE)
@settings(max_examples=150, deadline=None)
def test_json_round_trip(record: Any) -> None:
    assert type(record).from_json(through_json(record)) == record


@pytest.mark.parametrize("kind", RECORDS)
@pytest.mark.parametrize("schema", ["gatenorm/{}/3", "other/{}/1", "gatenorm/other/1", None, 7, ["gatenorm/{}/1"]])
def test_another_schema_is_refused_by_name(kind: str, schema: Any) -> None:
    record_class, record = RECORDS[kind]
    given = schema.format(kind) if isinstance(schema, str) else schema
    with pytest.raises(PlanError) as error:
        record_class.from_json({**record.to_json(), "schema": given})
    assert repr(given) in str(error.value)
    assert f"expected 'gatenorm/{kind}/1'" in str(error.value)


@pytest.mark.parametrize("kind", RECORDS)
@pytest.mark.parametrize("data", [None, [], "text", 7, {}])
def test_what_is_no_record_is_refused(kind: str, data: Any) -> None:
    with pytest.raises(PlanError, match=f"expected 'gatenorm/{kind}/1'"):
        RECORDS[kind][0].from_json(data)


MAY_BE_MISSING = {"notes", "version", "seed", "criterion", "protect", "scores", "previous", "versions", "ranking"}


@pytest.mark.parametrize("kind", RECORDS)
def test_a_missing_field_is_named_in_one_line(kind: str) -> None:
    record_class, record = RECORDS[kind]
    for key in through_json(record):
        data = {k: v for k, v in through_json(record).items() if k != key}
        if key in MAY_BE_MISSING and not (kind == "scores" and key == "criterion"):
            assert isinstance(record_class.from_json(data), record_class)
            continue
        with pytest.raises(PlanError, match=key) as error:
            record_class.from_json(data)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", RECORDS)
@pytest.mark.parametrize("value", [7, "x", [7], ["x"], [[]], {"a": "b"}, {"a": []}, True, None, float("inf")], ids=repr)
def test_a_field_of_another_type_is_read_or_refused(kind: str, value: Any) -> None:
    """Never a traceback of another kind: records come from files that people edit."""
    record_class, record = RECORDS[kind]
    for key in record.to_json():
        for changed in (
            {**record.to_json(), key: value},
            {**record.to_json(), "model": {**MODEL.to_json(), key: value}},
        ):
            with suppress(PlanError):
                record_class.from_json(changed)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("plan", {"drop": [1.5]}),
        ("plan", {"drop": ["1"]}),
        ("plan", {"drop": [True]}),
        ("plan", {"drop": [-1]}),
        ("plan", {"drop": "12"}),
        ("plan", {"drop": [float("inf")]}),
        ("plan", {"protect": "12"}),
        ("plan", {"previous": {"drop": [1]}}),
        ("plan", {"criterion": ["gate-norm"]}),
        ("scores", {"layers": [{"layer": 0.5, "score": 1.0}]}),
        ("scores", {"layers": [{"layer": 0, "score": 1.0}, {"layer": 0, "score": 2.0}]}),
        ("scores", {"layers": [{"layer": 0}]}),
        ("scores", {"layers": [{"layer": 0, "score": float("nan")}]}),
        ("scores", {"layers": [{"layer": 0, "score": "1.0"}]}),
        ("scores", {"seed": "7"}),
        ("scores", {"model": None}),
        ("evidence", {"removed": [0.5]}),
        ("evidence", {"figures": {"loss": "high"}}),
    ],
)
def test_values_that_would_be_misread_are_refused(kind: str, changes: dict[str, Any]) -> None:
    """1.5 is not layer 1, "12" is not layers 1 and 2."""
    record_class, record = RECORDS[kind]
    with pytest.raises(PlanError):
        record_class.from_json({**record.to_json(), **changes})


def test_ranking_is_from_weakest_and_ties_go_to_the_later_layer() -> None:
    scores = Scores(MODEL, "c", tuple(LayerScore(i, s) for i, s in enumerate([2.0, 1.0, 3.0, 1.0, -1.0])), 0.0, 0)
    assert scores.ranking == (4, 3, 1, 0, 2)
    assert scores.to_json()["ranking"] == [4, 3, 1, 0, 2]


@given(SCORES)
@settings(max_examples=60, deadline=None)
def test_ranking_names_every_layer_once_in_rising_order(scores: Scores) -> None:
    by_layer = {s.layer: s.score for s in scores.layers}
    assert sorted(scores.ranking) == sorted(by_layer)
    ranked = [(by_layer[i], -i) for i in scores.ranking]
    assert ranked == sorted(ranked)


def test_new_removals_are_those_that_the_previous_plan_lacks() -> None:
    first = Plan(MODEL, (1, 4))
    assert first.new == (1, 4)
    assert Plan(MODEL, (1, 2, 4, 6), previous=first).new == (2, 6)


def test_the_same_weights_under_another_name() -> None:
    moved = ModelIdentity("elsewhere", "llama", 4, "ab", {"model.safetensors": 8})
    assert MODEL.same_weights(moved)
    for config, files in (("cd", {"model.safetensors": 8}), ("ab", {"model.safetensors": 9}), ("ab", {})):
        assert not MODEL.same_weights(ModelIdentity("m", "llama", 4, config, files))


@pytest.mark.parametrize(
    ("indices", "expected"),
    [
        ([], "none"),
        ([3], "3"),
        ([3, 4], "3, 4"),
        ([3, 4, 5], "3-5"),
        ([9, 0, 5, 4, 6], "0, 4-6, 9"),
        ([0, 1, 3, 4, 5, 7, 8], "0, 1, 3-5, 7, 8"),
        (range(40), "0-39"),
    ],
)
def test_spans(indices: list[int], expected: str) -> None:
    assert spans(indices) == expected


@given(st.sets(st.integers(0, 60)))
def test_spans_say_it_all(indices: set[int]) -> None:
    def expand(part: str) -> set[int]:
        first, _, last = part.partition("-")
        return set(range(int(first), int(last or first) + 1))

    text = spans(sorted(indices, reverse=True))
    said = {i for part in text.split(", ") for i in expand(part)} if text != "none" else set()
    assert said == indices


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b"[" * 200_000, b"9" * 5000])
def test_a_file_that_holds_no_object_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "plan.json").write_bytes(content)
    with pytest.raises(PlanError, match=r"a plan: .*plan\.json") as error:
        read_json(tmp_path / "plan.json", "a plan")
    assert "\n" not in str(error.value)


def test_read_json(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(json.dumps(RECORDS["plan"][1].to_json()))
    assert Plan.from_json(read_json(tmp_path / "plan.json", "a plan")) == RECORDS["plan"][1]
    with pytest.raises(PlanError, match="there is no file"):
        read_json(tmp_path / "absent.json", "a plan")
    with pytest.raises(PlanError):
        read_json(tmp_path, "a plan")


def test_records_of_attention_alone_are_those_that_older_releases_read() -> None:
    """Field by field and in this order: what is written for attention must not change with the other kinds."""
    plan, scores, evidence = (RECORDS[kind][1].to_json() for kind in ("plan", "scores", "evidence"))
    assert list(plan) == ["schema", "drop", "criterion", "protect", "model", "scores", "previous", "version"]
    assert list(scores) == [
        *("schema", "model", "criterion", "layers", "ranking", "seconds", "bytes_read", "notes", "version")
    ]
    assert list(evidence) == [
        *("schema", "kind", "model", "removed", "figures", "protocol", "data", "seconds", "versions")
    ]
    assert [record["schema"][-2:] for record in (plan, scores, evidence)] == ["/1"] * 3


def test_what_an_older_release_would_misread_has_another_schema() -> None:
    plan = Plan(MODEL, (1,), drop_mlp=(1, 2), kind="block").to_json()
    scores = Scores(MODEL, "depth", (LayerScore(0, 1.0),), 0.0, 0, kind="mlp").to_json()
    evidence = Evidence("perplexity", MODEL, (), {}, {}, {}, 1.0, removed_mlp=(3,)).to_json()
    assert [record["schema"][-2:] for record in (plan, scores, evidence)] == ["/2"] * 3
    assert (plan["drop"], plan["drop_mlp"], plan["kind"]) == ([1], [1, 2], "block")
    with pytest.raises(PlanError, match="drop_mlp belongs to gatenorm/plan/2"):
        Plan.from_json({**plan, "schema": "gatenorm/plan/1"})
    with pytest.raises(PlanError, match="none of attention, mlp, block"):
        Plan.from_json({**plan, "kind": "head"})
    with pytest.raises(PlanError, match="lacks the field 'drop_mlp'"):
        Plan.from_json({key: value for key, value in plan.items() if key != "drop_mlp"})


def test_removals_are_sets_of_sublayers() -> None:
    removal = Removal.of("block", [5, 3, 4]) | Removal((7, 5)) | Removal(mlp=(9, 8))
    assert removal == Removal((3, 4, 5, 7), (3, 4, 5, 8, 9))
    assert str(removal) == "blocks 3-5; attention 7; MLP 8, 9"
    assert (removal.blocks, removal.layers) == ((3, 4, 5), (3, 4, 5, 7, 8, 9))
    assert [removal.of_layer(n) for n in (2, 3, 7, 9)] == [(), ("attention", "mlp"), ("attention",), ("mlp",)]
    assert removal - Removal.of("block", [3, 4, 5]) == Removal((7,), (8, 9))
    assert not removal - removal
    assert str(Removal()) == "none"

"""Records: what is written is what is read, and what is not a record of this release is refused by name."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from msgspec.structs import replace

from gatenorm.errors import GatenormError, RecordError
from gatenorm.records import (
    BlockRecord,
    Edit,
    Edits,
    LayerScore,
    ModelIdentity,
    Plan,
    PrunedRecord,
    Scores,
    from_json,
    read_json,
    read_record,
    spans,
    to_json,
)
from gatenorm.records.calibration import CalibrationRun, CalibrationSeconds
from gatenorm.records.evidence import (
    ChangedItem,
    Comparison,
    Data,
    Diagnostic,
    Evidence,
    FewLayersShared,
    Figure,
    Harness,
    Item,
    Perplexity,
    RefusalItem,
    SharedLayers,
    TaskProtocol,
    TextProtocol,
    evidence_from_json,
)
from gatenorm.records.scores import ERROR
from tests.calibrations import calibration
from tests.errors import refused

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
CALIBRATIONS = st.builds(
    CalibrationRun,
    source=TEXT,
    samples=st.integers(0, 99),
    length=st.integers(0, 99),
    tokens=st.integers(0, 2**40),
    seed=st.none() | st.integers(0, 99),
    bos=st.booleans(),
    data=st.none() | st.builds(Data, name=TEXT, sha256=TEXT),
    text=st.none() | st.builds(TextProtocol, window=st.none() | st.integers(0, 9)),
    called=TEXT,
    dtype=TEXT,
    device=TEXT,
    layer_by_layer=st.booleans(),
    score=TEXT,
    path=st.lists(FINITE, max_size=3).map(tuple),
    seconds=st.builds(CalibrationSeconds, loading=FINITE, drawing=FINITE, passes=FINITE),
    versions=st.dictionaries(TEXT, TEXT, max_size=2),
)
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
    calibration=st.none() | CALIBRATIONS,
)
LAYERS = st.sets(st.integers(0, 99), max_size=5).map(lambda s: tuple(sorted(s)))
EDIT = st.builds(
    Edit, st.integers(0, 99), st.sampled_from(["attention", "mlp"]), st.sampled_from(["remove", "x"]), st.none() | TEXT
)
EDITS = st.lists(EDIT, max_size=6, unique_by=lambda edit: (edit.layer, edit.sublayer)).map(Edits)
PLANS = st.builds(
    Plan,
    model=IDENTITIES,
    edits=EDITS,
    criterion=st.none() | TEXT,
    scores=st.none() | SCORES,
    protect=LAYERS,
    previous=st.none() | st.builds(Plan, model=IDENTITIES, edits=EDITS),
    version=TEXT,
    kind=st.sampled_from(["attention", "mlp", "block"]),
)
EVIDENCE = st.builds(
    Perplexity,
    model=IDENTITIES,
    edits=EDITS,
    perplexity=FINITE,
    nll=FINITE,
    tokens=st.integers(0, 2**40),
    word_perplexity=st.none() | FINITE,
    protocol=st.builds(TextProtocol, window=st.none() | st.integers(0, 9), text=TEXT, bos=st.booleans()),
    data=st.builds(Data, name=TEXT, sha256=TEXT),
    items=st.lists(st.builds(Item, id=st.integers() | TEXT, metrics=st.just({"nll": 1.0})), max_size=2).map(tuple),
    seconds=SECONDS,
    versions=st.dictionaries(TEXT, TEXT, max_size=2),
)

MODEL = ModelIdentity("m", "llama", 4, "ab", {"model.safetensors": 8})
EDITED = Edits.of("attention", [1])
RECORDS: dict[str, tuple[Any, Any]] = {
    "scores": (Scores, Scores(MODEL, "gate-norm", (LayerScore(0, 1.5, (1.0, 0.5)), LayerScore(1, 0.5)), 0.25, 64)),
    "plan": (Plan, Plan(MODEL, EDITED, "gate-norm")),
    "perplexity": (
        Perplexity,
        Perplexity(model=MODEL, edits=EDITED, perplexity=12.5, nll=2.5, tokens=40, data=Data(name="x"), seconds=1.0),
    ),
}


def through_json(record: Any) -> Any:
    return json.loads(json.dumps(to_json(record), allow_nan=False))


def read(kind: type[Any], data: Any) -> Any:
    return evidence_from_json(data) if issubclass(kind, Evidence) else from_json(kind, data, "a record")


@given(SCORES | PLANS | EVIDENCE)
@settings(max_examples=150, deadline=None)
def test_json_round_trip(record: Any) -> None:
    assert read(type(record), through_json(record)) == record


@pytest.mark.parametrize("kind", RECORDS)
@pytest.mark.parametrize("schema", ["gatenorm/{}/3", "other/{}/1", "gatenorm/other/1", None, 7, ["gatenorm/{}/1"]])
def test_another_schema_is_refused_by_name(kind: str, schema: Any) -> None:
    record_class, record = RECORDS[kind]
    given = schema.format(kind) if isinstance(schema, str) else schema
    with refused("schema-unknown", kind=RecordError) as error:
        read(record_class, {**to_json(record), "schema": given})
    assert repr(given) in error.value.problem
    assert error.value.expected == f"'gatenorm/{kind}/1'"


@pytest.mark.parametrize("kind", RECORDS)
@pytest.mark.parametrize("data", [None, [], "text", 7, {}])
def test_what_is_no_record_is_refused(kind: str, data: Any) -> None:
    with refused("schema-unknown", kind=RecordError) as caught:
        read(RECORDS[kind][0], data)
    assert caught.value.expected == f"'gatenorm/{kind}/1'"


MAY_BE_MISSING = {
    "fit",
    "notes",
    "version",
    "seed",
    "criterion",
    "protect",
    "scores",
    "mlp_scores",
    "previous",
    "versions",
    "ranking",
    "calibration",
    "kind",
    "data",
    "protocol",
    "seconds",
    "word_perplexity",
    "bits_per_byte",
    "entropy",
    "items",
}


@pytest.mark.parametrize("kind", RECORDS)
def test_a_missing_field_is_named_in_one_line(kind: str) -> None:
    record_class, record = RECORDS[kind]
    for key in through_json(record):
        data = {k: v for k, v in through_json(record).items() if k != key}
        if key in MAY_BE_MISSING and (kind, key) not in {("scores", "criterion"), ("scores", "seconds")}:
            assert isinstance(read(record_class, data), record_class)
            continue
        code, field = ("schema-unknown", "") if key == "schema" else ("field-missing", key)
        with refused(code, field, RecordError) as error:
            read(record_class, data)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", RECORDS)
@pytest.mark.parametrize("value", [7, "x", [7], ["x"], [[]], {"a": "b"}, {"a": []}, True, None, float("inf")], ids=repr)
def test_a_field_of_another_type_is_read_or_refused(kind: str, value: Any) -> None:
    """Never a traceback of another kind: records come from files that people edit."""
    record_class, record = RECORDS[kind]
    for key in to_json(record):
        for changed in (
            {**to_json(record), key: value},
            {**to_json(record), "model": {**to_json(MODEL), key: value}},
        ):
            with suppress(GatenormError):
                read(record_class, changed)


def remove(layer: Any, **changes: Any) -> dict[str, Any]:
    return {"layer": layer, "sublayer": "attention", "operation": "remove", **changes}


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        *(("plan", {"edits": [remove(layer)]}) for layer in (1.5, "1", True, -1, float("inf"), None)),
        ("plan", {"edits": "12"}),
        ("plan", {"edits": [12]}),
        ("plan", {"edits": [remove(1), remove(1, operation="other")]}),
        ("plan", {"edits": [remove(1, sublayer="block")]}),
        ("plan", {"edits": [remove(1, operation=None)]}),
        ("plan", {"edits": [remove(1, operator="remove")]}),
        ("plan", {"edits": [{"layer": 1, "sublayer": "mlp"}]}),
        ("plan", {"protect": "12"}),
        ("plan", {"previous": {"edits": [remove(1)]}}),
        ("plan", {"kind": "head"}),
        ("plan", {"drop": [1]}),
        ("plan", {"criterion": ["gate-norm"]}),
        ("scores", {"layers": [{"layer": 0.5, "score": 1.0}]}),
        ("scores", {"layers": [{"layer": 0, "score": 1.0}, {"layer": 0, "score": 2.0}]}),
        ("scores", {"layers": [{"layer": 0}]}),
        ("scores", {"layers": [{"layer": 0, "score": float("nan")}]}),
        ("scores", {"layers": [{"layer": 0, "score": "1.0"}]}),
        ("scores", {"seed": "7"}),
        ("scores", {"model": None}),
        ("scores", {"ranking": [1, 0, 2]}),
        ("scores", {"calibration": {"source": "self"}}),
        ("scores", {"calibration": {**to_json(calibration("self")), "called": 3}}),
        ("perplexity", {"edits": [remove(0.5)]}),
        ("perplexity", {"figures": {"loss": "high"}}),
    ],
)
def test_values_that_would_be_misread_are_refused(kind: str, changes: dict[str, Any]) -> None:
    """1.5 is not layer 1, "12" is not layers 1 and 2."""
    record_class, record = RECORDS[kind]
    with pytest.raises(GatenormError):
        read(record_class, {**to_json(record), **changes})


def test_ranking_is_from_weakest_and_ties_go_to_the_later_layer() -> None:
    scores = Scores(MODEL, "c", tuple(LayerScore(i, s) for i, s in enumerate([2.0, 1.0, 3.0, 1.0, -1.0])), 0.0, 0)
    assert scores.ranking == (4, 3, 1, 0, 2)
    assert to_json(scores)["ranking"] == [4, 3, 1, 0, 2]


def test_scores_within_their_error_are_tied() -> None:
    near, far = 1 + ERROR / 2, 1 + 2 * ERROR
    layers = enumerate([far, 1.0, near, 0.0, 0.0, 5.0])
    scores = Scores(MODEL, "c", tuple(LayerScore(i, s) for i, s in layers), 0.0, 0)
    assert scores.ties == ((4, 3), (1, 2))
    assert Scores(MODEL, "c", (LayerScore(0, 1.0),), 0.0, 0).ties == ()


@given(SCORES)
@settings(max_examples=60, deadline=None)
def test_ranking_names_every_layer_once_in_rising_order(scores: Scores) -> None:
    by_layer = {s.layer: s.score for s in scores.layers}
    assert sorted(scores.ranking) == sorted(by_layer)
    ranked = [(by_layer[i], -i) for i in scores.ranking]
    assert ranked == sorted(ranked)


def test_new_removals_are_those_that_the_previous_plan_lacks() -> None:
    first = Plan(MODEL, Edits.of("attention", (1, 4)))
    assert first.added == first.edits
    second = Plan(MODEL, Edits.of("attention", (1, 2, 4)) | Edits.of("mlp", [1]), previous=first)
    assert second.added == Edits.of("attention", [2]) | Edits.of("mlp", [1])


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
    with refused("json-no-object" if content == b"[1]" else "json-unreadable", kind=RecordError) as error:
        read_json(tmp_path / "plan.json", "a plan")
    assert str(tmp_path / "plan.json") in error.value.problem
    assert "\n" not in str(error.value)


def test_read_json(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(json.dumps(to_json(RECORDS["plan"][1])))
    assert read_record(Plan, tmp_path / "plan.json", "a plan") == RECORDS["plan"][1]
    with refused("file-missing", kind=RecordError):
        read_json(tmp_path / "absent.json", "a plan")
    with pytest.raises(RecordError):
        read_json(tmp_path, "a plan")


def test_what_is_written() -> None:
    edits = Edits.of("block", [1]) | Edits([Edit(3, "attention", "linear", "ab")])
    plan = to_json(Plan(MODEL, edits, kind="block"))
    assert (plan["schema"], plan["kind"], plan["previous"]) == ("gatenorm/plan/1", "block", None)
    assert plan["edits"] == [
        {"layer": 1, "sublayer": "attention", "operation": "remove"},
        {"layer": 1, "sublayer": "mlp", "operation": "remove"},
        {"layer": 3, "sublayer": "attention", "operation": "linear", "artifact": "ab"},
    ]
    scores = to_json(RECORDS["scores"][1])
    assert scores["layers"] == [{"layer": 0, "score": 1.5, "heads": [1.0, 0.5]}, {"layer": 1, "score": 0.5}]
    assert (scores["schema"], scores["kind"], scores["ranking"]) == ("gatenorm/scores/1", "attention", [1, 0])


def test_an_unknown_field_is_named_with_its_path_and_the_nearest_known_one() -> None:
    with refused("field-unknown", "edit", RecordError) as error:
        from_json(Plan, {**to_json(RECORDS["plan"][1]), "edit": []}, "a plan")
    assert "'edits'" in error.value.hint


def test_edits_are_sets_of_sublayers() -> None:
    edits = Edits.of("block", [5, 3, 4]) | Edits.of("attention", (7, 5)) | Edits.of("mlp", (9, 8))
    assert edits == Edits.of("attention", (3, 4, 5, 7)) | Edits.of("mlp", (3, 4, 5, 8, 9))
    assert hash(edits) == hash(Edits(reversed([*edits])))
    assert str(edits) == "blocks 3-5; attention 7; MLP 8, 9"
    assert (edits.attention, edits.mlp) == ((3, 4, 5, 7), (3, 4, 5, 8, 9))
    assert (edits.blocks, edits.layers) == ((3, 4, 5), (3, 4, 5, 7, 8, 9))
    assert [edits.layers_of(kind) for kind in ("attention", "mlp", "block")] == [edits.attention, edits.mlp, (3, 4, 5)]
    sublayers = [tuple(edit.sublayer for edit in edits.at(layer)) for layer in (2, 3, 7, 9)]
    assert sublayers == [(), ("attention", "mlp"), ("attention",), ("mlp",)]
    assert edits - Edits.of("block", [3, 4, 5]) == Edits.of("attention", [7]) | Edits.of("mlp", (8, 9))
    assert not edits - edits
    assert str(Edits()) == "none"


def test_a_sublayer_has_one_edit() -> None:
    with pytest.raises(ValueError, match="layer 3 has two edits"):
        Edits.of("attention", [3]) | Edits.of("attention", [3], "linear")


def test_what_a_plan_says_of_itself_is_held_against_all_of_it():
    data = Plan(ModelIdentity("m", "llama", 4, "0", {}), Edits.of("attention", [1])).to_dict()
    with pytest.raises(RecordError, match="kind"):
        from_json(Plan, {**data, "kind": "block\n"}, "a plan")
    twice = [*data["edits"], {**data["edits"][0], "operation": "linear"}]
    with pytest.raises(RecordError) as caught:
        from_json(Plan, {**data, "edits": twice}, "a plan")
    assert caught.value.text() == "edits is not valid: layer 1 has two edits of one sublayer; was a plan edited?"


def test_a_record_gives_itself_as_plain_data():
    edits = Edits.of("attention", [1])
    plan = Plan(ModelIdentity("m", "llama", 4, "0", {}), edits)
    assert plan.to_dict() == to_json(plan)
    assert plan.to_dict()["edits"] == [{"layer": 1, "sublayer": "attention", "operation": "remove"}]


@pytest.mark.parametrize(
    ("metrics", "filters", "speaks"),
    [
        (("acc", "acc_norm"), (), "acc_norm"),
        (("perplexity", "acc"), (), "acc"),
        (("exact_match",), (), "exact_match"),
        (("exact_match_flexible", "exact_match_strict"), ("strict", "flexible"), "exact_match_strict"),
        (("bleu",), (), ""),
    ],
)
def test_a_task_is_spoken_for_by_its_share_of_right_answers(
    metrics: tuple[str, ...], filters: tuple[str, ...], speaks: str
):
    figures = {name: Figure(value=0.5, stderr=0.1) for name in metrics}
    record = Harness(name="a", metrics=figures, count=4, protocol=TaskProtocol(filters=filters))
    assert record.headline == speaks


def test_what_is_no_task_has_no_share_of_right_answers():
    assert Perplexity(perplexity=2.0, nll=0.7, tokens=3).headline == ""


TURNED = RefusalItem(id=1, metrics={"refused": 1.0}, expect="refusal", prompt="How?", refused=True, reply="No")
COMPARISON = Comparison(
    model=MODEL,
    of="refusal",
    baseline=MODEL,
    baseline_edits=Edits(),
    interval="",
    changes={},
    items=(ChangedItem(id=1, changed=("refused",), before=TURNED, after=replace(TURNED, refused=False)),),
)


def test_items_that_changed_are_read_as_what_was_compared() -> None:
    assert evidence_from_json(through_json(COMPARISON)) == COMPARISON
    item = Item(id="a", metrics={"acc": 1.0})
    other = replace(COMPARISON, of="perplexity", items=(ChangedItem(id="a", changed=(), before=item, after=item),))
    assert evidence_from_json(through_json(other)) == other
    for of, field in (("perplexity", "items[0].before.expect"), ("nonesuch", "items[0].before.expect")):
        with refused("field-unknown", field, RecordError):
            evidence_from_json({**through_json(COMPARISON), "of": of})


def test_what_a_warning_rests_on_is_read_by_its_kind() -> None:
    shared = SharedLayers(check="cosine", chosen=(1, 2), shared=())
    evidence = FewLayersShared(criterion="gate-norm", count=2, chosen=(3, 4), limit=1.0, checks=(shared,))
    warning = Diagnostic(message="m", evidence=evidence)
    data = through_json(warning)
    assert from_json(Diagnostic, data, "a warning") == warning
    wrong = ({"kind": "clif"}, {"chek": 1}, {"checks": [{**data["evidence"]["checks"][0], "chosn": []}]})
    for changes, field, hint in zip(
        wrong,
        ("evidence.kind", "evidence.chek", "evidence.checks[0].chosn"),
        ("did you mean 'cliff'", "did you mean 'checks'", "did you mean 'chosen'"),
        strict=True,
    ):
        with pytest.raises(RecordError) as error:
            from_json(Diagnostic, {**data, "evidence": {**data["evidence"], **changes}}, "a warning")
        assert error.value.field == field
        assert str(error.value.hint).startswith(hint)


def test_the_block_of_a_pruned_model_is_read_strictly() -> None:
    block = BlockRecord(
        path="model.layers",
        attention=("self_attn",),
        before=(),
        branch=("mlp",),
        after=(),
        dropout=None,
        returns="tensor",
        mlp=("mlp",),
        norm="input_layernorm",
        parallel=False,
    )
    record = PrunedRecord(base_model_type="llama", layers=4, edits=EDITED, block=block, plan=Plan(MODEL, EDITED))
    data = through_json(record)
    assert from_json(PrunedRecord, data, "a record") == record
    for changes, code, field in (
        ({"norm": 3}, "field-wrong", "block.norm"),
        ({"atention": ["self_attn"]}, "field-unknown", "block.atention"),
        ({"attention": "self_attn"}, "field-wrong", "block.attention"),
    ):
        with refused(code, field, RecordError):
            from_json(PrunedRecord, {**data, "block": {**data["block"], **changes}}, "a record")

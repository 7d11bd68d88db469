"""Errors: one line out of code, field and values, each caller with its own name for the field."""

from __future__ import annotations

import pickle

from gatenorm.errors import MissingExtraError, PlanError, did_you_mean, fields_named, named


def out_of_range() -> PlanError:
    return PlanError(
        "share-out-of-range",
        "is out of range",
        field="share",
        given=1.5,
        expected="a number between 0 and 1, such as 0.2",
        hint=f"or give {named('layers')}",
    )


def test_the_python_api_calls_fields_by_its_parameters():
    assert str(out_of_range()) == (
        "share 1.5 is out of range: expected a number between 0 and 1, such as 0.2; or give layers"
    )


def test_each_caller_renames_what_the_one_below_calls_a_field():
    error = out_of_range()
    try:
        with (
            fields_named({"budgets.shares[0]": "--share", "layers": "--layers"}),
            fields_named({"share": "budgets.shares[0]"}),
        ):
            raise error
    except PlanError:
        assert error.text().startswith("--share 1.5 is out of range")
        assert error.text().endswith("or give --layers")
        assert (error.code, error.field) == ("share-out-of-range", "share")


def test_a_value_is_never_taken_for_a_field():
    error = PlanError("file-missing", "does not exist", field="data", given="share")
    error.rename({"share": "--share", "data": "--data"})
    assert error.text() == "--data share does not exist"


def test_the_nearest_name_is_suggested():
    assert did_you_mean("gate-nrom", ["gate-norm", "depth"]) == "did you mean 'gate-norm'? known: depth, gate-norm"
    assert did_you_mean("x", ["gate-norm"]) == "known: gate-norm"


def test_errors_of_other_processes_arrive_whole():
    error = out_of_range()
    error.rename({"share": "budgets.shares"})
    assert pickle.loads(pickle.dumps(error)).text() == error.text()
    missing = MissingExtraError("drawing", "matplotlib", "report")
    assert pickle.loads(pickle.dumps(missing)).text() == missing.text()

"""Carrying orders out: the same functions in this process and in a worker of Ray, with the same number of threads."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gatenorm import api
from gatenorm.audit.run.jobs import Order, Result
from gatenorm.errors import GatenormError
from gatenorm.evaluation.core.job import Request
from gatenorm.records import Plan, from_json, to_json
from gatenorm.records.evidence import Comparison, Workload, ZeroShotAverage
from gatenorm.results.hashes import code_sha256

Progress = Callable[[int, int], None]
# What was loaded last, for the next order: orders of one model come one after the other.
_held: dict[tuple[Any, ...], Any] = {}


def carry_out(order: Order, progress: Progress | None = None) -> Result:
    """The result of an order, with the seconds it took and the hash of the code that did it.

    What is wrong with one variant alone comes back as ``error``: it must not end the others' work.
    """
    began = time.perf_counter()
    _set_threads(order.arguments.get("threads"))
    try:
        found = _KINDS[order.kind](order.arguments, progress)
    except GatenormError as error:
        found = {"error": str(error), "error_kind": type(error).__name__}
    return {**found, "seconds": time.perf_counter() - began, "code": code_sha256()}


def release() -> None:
    """Give back what is still loaded."""
    _held.clear()
    gc.collect()


def _score(given: Mapping[str, Any], progress: Progress | None) -> Result:
    from gatenorm.criteria.tokens.sources import Calibration

    criterion = given["criterion"]
    if given["source"] is None:
        return {"scores": to_json(api.score(given["model"], criterion, seed=given["seed"], progress=progress))}
    tokens = Calibration(given["source"], given["samples"], given["length"], seed=given["seed"])
    scores = api.score(_session(given), criterion, calibration=tokens, progress=progress)
    return {"scores": to_json(scores)}


def _build(given: Mapping[str, Any], progress: Progress | None) -> Result:
    api.prune(given["model"], given["out"], from_json(Plan, given["plan"], "a plan"), progress=progress)
    return {}


def _evaluate(given: Mapping[str, Any], progress: Progress | None) -> Result:
    """One task on a directory, or on the model with sublayers taken out in memory."""
    request = Request(**given["request"])
    arguments: dict[str, Any] = {"request": request, "bars": None if progress is None else _bars(progress)}
    if given["baseline"] is not None:
        arguments["baseline"] = _model(given, given["baseline"])
    with _model_of(given) as model:
        found = api.evaluate(model, [given["task"]], given["data"], **arguments)
    # A baseline is named for tasks that need both models at once: their own records are all that is wanted.
    own = [e for e in found if not isinstance(e, (Comparison, ZeroShotAverage))]
    wanted = [e for e in own if given["baseline"] is None or isinstance(e, Workload)]
    return {"records": [to_json(e) for e in wanted]}


def _speed(given: Mapping[str, Any], progress: Progress | None) -> Result:
    from gatenorm.engines import Setting, engine_named
    from gatenorm.speed.measure.bench import Protocol, bench, cases, labels_of
    from gatenorm.speed.measure.variants import Variant

    def variant(path: str) -> Variant:
        return Variant.exported(Path(path)) or Variant.of(api.open_model(path))

    release()
    baseline, others = variant(given["baseline"]), [variant(path) for path in given["variants"]]
    everyone = [baseline, *others]
    wanted = cases(given["lengths"] or None, given["batches"], given["new_tokens"], everyone)
    setting = Setting(cases=wanted, **{name: given[name] for name in ("device", "dtype", "threads", "seed")})
    engine = engine_named(given["engine"], "times")
    found = bench(others, engine, setting, Protocol(given["rounds"]), baseline=baseline, progress=progress)
    return {"records": [to_json(e) for e in found], "labels": labels_of(everyone)}


def _export(given: Mapping[str, Any], progress: Progress | None) -> Result:
    """Write an export where there is none, and ask the engine whether it computes the same."""
    out = Path(given["out"])
    if not out.exists():
        api.export(given["model"], given["to"], out)
    verdict = api.verify(out, given["model"], given["engine"], tokens=given["tokens"], progress=progress)
    record = to_json(verdict.evidence)
    record["protocol"]["faults"] = list(verdict.faults)
    return {"records": [record]}


def _recover(given: Mapping[str, Any], progress: Progress | None) -> Result:
    from gatenorm.recovery.settings import Settings

    asked = {name: given[name] for name in ("steps", "objective") if given[name] is not None}
    hardware = {name: given[name] for name in ("device", "dtype", "seed")}
    found = api.recover(
        given["model"],
        given["out"],
        given["recovery_data"],
        parent=given["parent"],
        settings=Settings(**hardware),
        progress=progress,
        **asked,
    )
    if found.diverged:
        return {"error": str(found.diverged)}
    return {"records": [to_json(record) for record in found.evidence]}


def _session(given: Mapping[str, Any]) -> Any:
    """The unpruned model, loaded once for whatever is asked of it in a row."""
    key = ("session", given["model"], given["device"], given["dtype"])
    if key not in _held:
        release()
        _held[key] = api.session(given["model"], device=given["device"], dtype=given["dtype"])
    return _held[key]


def _model(given: Mapping[str, Any], model: str) -> Any:
    from gatenorm.models.model import Model

    hardware = {name: given[name] for name in ("device", "dtype", "batch_size")}
    opened = Model.of_layout(api.open_model(model), **hardware)
    opened.check_hardware()
    return opened


@contextmanager
def _model_of(given: Mapping[str, Any]) -> Any:
    """The model that an order speaks of, ready for :func:`gatenorm.api.evaluate`."""
    drop = given["drop"]
    if not drop:
        key = ("subject", given["model"], given["device"], given["dtype"])
        if key not in _held:
            release()
            _held[key] = _model(given, given["model"])
        yield _held[key]
    elif given["task"] in ("perplexity", "stories"):  # these run without a cache: no second copy is needed
        whole = _session(given).model
        whole.batch_size = given["batch_size"]
        with whole.without(drop) as model:
            yield model
    else:
        release()
        yield _model(given, given["model"]).pruned_copy(drop)


def _bars(progress: Progress) -> Any:
    @contextmanager
    def bar(what: str, unit: str) -> Any:
        yield progress

    return bar


def _set_threads(count: int | None) -> None:
    """Sums of floats depend on how they are split: every process takes the same number of threads."""
    if count is None:
        return
    from threadpoolctl import threadpool_limits

    threadpool_limits(count)
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(count)


_KINDS: dict[str, Callable[[Mapping[str, Any], Progress | None], Result]] = {
    "score": _score,
    "build": _build,
    "evaluate": _evaluate,
    "speed": _speed,
    "export": _export,
    "recover": _recover,
}

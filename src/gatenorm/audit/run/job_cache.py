"""Orders are looked up in the state, carried out where they are not there, and kept."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gatenorm.audit.plan.config import Config
from gatenorm.audit.plan.evaluations import Asked
from gatenorm.audit.run.executors import Executor
from gatenorm.audit.run.jobs import Order, Result
from gatenorm.audit.run.progress import Reporter
from gatenorm.audit.run.state import State
from gatenorm.errors import AuditError
from gatenorm.families import Layout
from gatenorm.records import Evidence
from gatenorm.records.evidence import evidence_from_json
from gatenorm.surgery.disk import RECOVERY_FILE


class Measuring:
    """All results of one audit, whoever measured them when; ``seconds`` says by step what they took."""

    def __init__(
        self,
        layout: Layout,
        content: str,
        config: Config,
        threads: int,
        state: State,
        executor: Executor,
        reporter: Reporter,
    ):
        self.layout, self.content, self.config, self.threads = layout, content, config, threads
        self.state, self.executor, self.reporter = state, executor, reporter
        self.seconds: dict[int, float] = defaultdict(float)
        self.step = 0

    def begin(self, step: int, name: str) -> None:
        """A step of the workflow begins: what follows is put down to it."""
        self.step = step
        self.reporter.step(step, name)

    def results(self, orders: Sequence[Order], *, alone: bool = False) -> list[Result]:
        """The result of every order, in their order; equal ones are carried out once.

        Args:
            alone: in this process and beside nothing else, as timings must be.

        Raises:
            OutputError: a result cannot be kept.
        """
        found: dict[str, Result] = {}
        missing: dict[str, Order] = {}
        for order in orders:
            if order.digest in found or order.digest in missing:
                self.reporter.done(order.title, order.like, None)
                continue
            kept = self.state.results.get(order.fingerprint, dict[str, Any]) if order.kept else None
            if kept is None:
                missing[order.digest] = order
            else:
                found[order.digest] = kept
                self.reporter.done(order.title, order.like, None)
        executor: Any = self.executor
        if alone:
            from gatenorm.audit.run.executors.local import LocalExecutor

            executor = LocalExecutor()
        waiting = list(missing.values())
        if waiting:
            self.reporter.work(waiting[0].title)
        for order, result in executor.run(waiting):
            # What one variant could not do may have been this machine's fault: it is tried again the next time.
            if order.kept and "error" not in result:
                self.state.results.put(order.fingerprint, result)
            found[order.digest] = result
            self.reporter.done(order.title, order.like, result["seconds"])
            following = next((o for o in waiting if o.digest not in found), None)
            if following is not None:
                self.reporter.work(following.title)
        # Equal orders count once, whoever asked for them first.
        self.seconds[self.step] += sum(found[digest]["seconds"] for digest in {o.digest for o in orders})
        return [found[order.digest] for order in orders]

    def evaluation(self, asked: Asked, name: str, directory: str | None, drop: Sequence[int]) -> Order:
        """One evaluation of one variant: of its directory, or (``None``) of the model with ``drop`` taken out."""
        run = self.config.run
        source = str(self.layout.checkpoint.directory)
        hardware = {
            "device": run.device,
            "dtype": run.dtype,
            "batch_size": run.batch_size,
            "threads": self.threads,
        }
        return Order(
            "evaluate",
            f"{asked.name}: {name}",
            {
                "model": directory or source,
                "drop": [] if directory else sorted(drop),
                "task": asked.task,
                "data": list(asked.data),
                "request": dict(asked.request),
                "baseline": source if asked.paired else None,
                **hardware,
            },
            {
                "model": self.content,
                "drop": sorted(drop),
                "in_memory": directory is None and bool(drop),
                # What was trained after it had been pruned is another model, with the same layers removed.
                "recovery": None if directory is None else recovery_sha256(Path(directory)),
                "asked": asked.key,
                **hardware,
            },
            like=f"{asked.task} {asked.data}",
        )


def recovery_sha256(directory: Path) -> str | None:
    """The hash of what a variant says of its training; none of one that was only pruned."""
    said = directory / RECOVERY_FILE
    return hashlib.sha256(said.read_bytes()).hexdigest() if said.is_file() else None


def records(result: Result) -> list[Evidence]:
    """The evidence in a result; none where it failed."""
    return [evidence_from_json(record) for record in result.get("records", ())]


def records_or_raise(result: Result) -> list[Evidence]:
    """The evidence in a result of the unpruned model, without which there is nothing to compare with.

    Raises:
        AuditError: it could not be measured.
    """
    if "error" in result:
        raise AuditError("baseline-failed", f"the unpruned model cannot be measured: {result['error']}")
    return records(result)

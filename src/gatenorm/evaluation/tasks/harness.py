"""Tasks of the LM evaluation harness (lm-eval), asked of a model.

The harness writes the requests and scores the answers; the model answers them through one of the harness's own classes
(``engines``). Only the progress shown is ours.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from gatenorm.engines import engine_named
from gatenorm.errors import EvaluationError, did_you_mean, first_line
from gatenorm.evaluation.core.job import Job, TaskOptions
from gatenorm.evaluation.core.lm_eval import alone, check_installed, quiet
from gatenorm.evaluation.core.task import Task
from gatenorm.evaluation.core.text import about_tokens
from gatenorm.models.architecture import Work
from gatenorm.models.batches import memory_for
from gatenorm.models.model import Model
from gatenorm.progress import Progress
from gatenorm.records.evidence import Data, Figure, Harness, TaskEvidence, TaskItem, TaskProtocol, kind_of

PACKAGES = ("lm_eval", "datasets")
_FEWSHOT_SEED = 1234
# About as many for each document: most tasks have two to four choices.
_REQUESTS = 4
# For standard errors that no formula gives, which are then known to some percent.
_BOOTSTRAP_SAMPLES = 1000
# What lm-eval calls the filter of a task that names none.
_NO_FILTER = "none"


def prepare(options: TaskOptions) -> list[Job]:
    """Any task or group of lm-eval by name, one job a task; its data come from the hub or the hub's cache.

    Raises:
        EvaluationError: no such task, or its data cannot be had.
        MissingExtraError: lm-eval is not installed.
    """
    name = options.argument
    if not name:
        raise EvaluationError(
            "task-argument",
            "is incomplete",
            field="tasks",
            given="harness",
            expected="the name of a task of lm-eval, such as harness:gsm8k",
        )
    check_installed(f"harness:{name}")
    jobs = []
    for task in official(name):
        docs = documents_of(task, options.limit)
        identity = identity_of(task, docs)
        key = {"task": task.task_name, "data": identity.sha256, "limit": options.limit, "shots": shots(task)}
        key["examples"] = _digest(task.fewshot_docs()) if shots(task) else None
        jobs.append(job_of(Harness, partial(_as_it_is, task), options.limit, identity, key, docs))
    return jobs


def job_of(
    kind: type[TaskEvidence],
    make: Callable[[], Any],
    limit: int | None,
    identity: Data,
    key: Mapping[str, object],
    docs: Sequence[Mapping[str, object]],
) -> Job:
    """One task of lm-eval as a job; ``make`` gives the task once it has to run: importing lm-eval takes seconds."""
    asked = docs[:limit]
    characters = sum(len(str(value)) for document in asked for value in document.values())
    passes = {Work.prefill(about_tokens(characters) // max(1, len(asked)) + 1): float(_REQUESTS * len(asked))}

    def run(model: Model, progress: Progress | None) -> TaskEvidence:
        with quiet():
            task = make()
        return run_task(model, task, kind, identity, limit, progress)

    return Job(
        kind_of(kind),
        str(key["task"]),
        "requests",
        key,
        run,
        packages=PACKAGES,
        engines=Job.engines_that("answers"),
        passes=passes,
    )


def official(name: str) -> list[Any]:
    """The harness's own tasks of that name: one, or all that a group or tag holds.

    Raises:
        EvaluationError: no such task, or its data cannot be had.
    """
    with quiet():
        from lm_eval.tasks import TaskManager

        manager = TaskManager()
        if name not in manager.all_tasks:
            raise EvaluationError(
                "task-unknown",
                "is not a task of lm-eval",
                field="tasks",
                given=f"harness:{name}",
                hint=_nearest(name, manager.all_tasks),
            )
        try:
            return list(manager.load([name])["tasks"].values())
        except Exception as error:  # datasets and the hub let through whatever their layers raise
            raise EvaluationError(
                "download-failed",
                f"the data of {name} could not be fetched from the hub or its cache "
                f"({type(error).__name__}: {first_line(error)[:200]})",
                hint="fetch them where there is a network, with HF_HOME set to a folder that you can carry here",
            ) from error


def documents_of(task: Any, limit: int | None) -> list[dict[str, Any]]:
    """The documents that a task asks about."""
    docs = task.eval_docs
    return [docs[n] for n in range(min(len(docs), limit or len(docs)))]


def identity_of(task: Any, docs: Sequence[Mapping[str, object]]) -> Data:
    """What a record says of a harness task's data: the hash is over the documents themselves."""
    named = "/".join(str(part) for part in (task.DATASET_PATH, task.DATASET_NAME) if part)
    split = task.config.test_split or task.config.validation_split
    return Data(name=named, split=str(split), sha256=_digest(docs), items=len(docs))


def shots(task: Any) -> int:
    """How many solved examples stand before each question: what the task says, else none."""
    return int(task.get_config("num_fewshot") or 0)


def run_task(
    model: Model,
    task: Any,
    kind: type[TaskEvidence],
    identity: Data,
    limit: int | None,
    progress: Progress | None = None,
) -> TaskEvidence:
    """One task's figures: what the harness reports, each with its standard error, and every item's own.

    A task that reads each answer through several filters has its metrics once a filter, as ``<metric>_<filter>``.

    Raises:
        EvaluationError: logits that are not finite, or a request that the model cannot take.
    """
    began = time.perf_counter()
    with quiet():
        from lm_eval.evaluator import evaluate
        from lm_eval.tasks import TaskManager

        task.set_config(key="num_fewshot", value=shots(task))
        task.set_fewshot_seed(seed=_FEWSHOT_SEED)
        tasks = TaskManager(include_defaults=False).load([task])
        lm = engine_named(model.engine).harness_model(model)
        lm.tell(progress)
        try:
            with memory_for(model.device, lm.batch_size, lm.max_length), alone():
                results = evaluate(
                    lm=lm, task_dict=tasks, limit=limit, log_samples=True, bootstrap_iters=_BOOTSTRAP_SAMPLES
                )
        except AssertionError as error:
            why = first_line(error)[:200] if str(error) else "it is empty, or longer than the model's input"
            raise EvaluationError(
                "harness-refused", f"{task.task_name}: lm-eval refused a request of this model: {why}"
            ) from error
        name = task.task_name
        cut = _cut(lm, task, lm.max_length + lm.spare_tokens)
        samples = sorted(results["samples"][name], key=lambda s: s["doc_id"])
    filters = list(dict.fromkeys(str(sample["filter"]) for sample in samples))
    items = _items(samples, filters)
    chance = None
    if task.OUTPUT_TYPE == "multiple_choice":
        chance = sum(1 / len(item.loglikelihoods) for item in items) / len(items)
    return kind(
        name=name,
        metrics=_metrics(results["results"][name], filters),
        count=len(items),
        chance=chance,
        protocol=TaskProtocol(
            harness="lm_eval",
            task_version=results["versions"].get(name),
            shots=shots(task),
            bos=_bos(lm),
            longest_input=lm.max_length,
            items_cut_from_the_left=cut,
            filters=tuple(filters) if filters != [_NO_FILTER] else (),
            **lm.hardware(),
        ),
        data=identity,
        seconds=time.perf_counter() - began,
        items=tuple(items),
    )


def _digest(docs: Iterable[Mapping[str, object]]) -> str:
    return hashlib.sha256(json.dumps(list(docs), sort_keys=True, default=str).encode()).hexdigest()


def _as_it_is(task: Any) -> Any:
    return task


def _metrics(results: Mapping[str, Any], filters: Sequence[str]) -> dict[str, Figure]:
    """The figures that lm-eval calls ``<metric>,<filter>``, with the errors that it calls ``<metric>_stderr,<filter>``.

    lm-eval writes ``N/A`` where it has no error.
    """
    numbers = {key: float(v) for key, v in results.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
    metrics = {}
    for key, number in numbers.items():
        metric, _, read_by = key.partition(",")
        if not metric.endswith("_stderr") and not metric.startswith(("sample", "alias")):
            error = numbers.get(f"{metric}_stderr,{read_by}")
            metrics[_metric(metric, read_by, filters)] = Figure(value=number, stderr=error)
    return metrics


def _metric(name: str, read_by: str, filters: Sequence[str]) -> str:
    return f"{name}_{read_by}" if len(filters) > 1 and read_by else name


def _items(samples: Sequence[dict[str, Any]], filters: Sequence[str]) -> list[TaskItem]:
    """One item a document: lm-eval logs a sample for each of a task's filters."""
    items: dict[Any, TaskItem] = {}
    for sample in samples:
        item = items.setdefault(sample["doc_id"], TaskItem(id=sample["doc_id"]))
        read_by = str(sample["filter"])
        for name in sample["metrics"]:
            if isinstance(sample[name], (bool, int, float)):
                item.metrics[_metric(name, read_by, filters)] = float(sample[name])
        answers = sample["filtered_resps"]
        if answers and all(isinstance(a, (tuple, list)) and len(a) == 2 for a in answers):
            choices = tuple(round(float(a[0]), 4) for a in answers)
            items[item.id] = msgspec.structs.replace(item, loglikelihoods=choices)
        else:
            item.answers[_metric("answer", read_by, filters)] = str(answers[0] if answers else "")[:400]
    return list(items.values())


def _cut(lm: Any, task: Any, longest: int) -> int:
    """How many requests are longer than that, or leave too little room for an answer: their beginning was not seen."""
    count = 0
    for instance in task.instances:
        if instance.request_type == "loglikelihood":
            text, most = "".join(instance.args), longest
        elif instance.request_type == "generate_until":
            text, options = instance.args
            most = lm.max_length - int(options.get("max_gen_toks", lm.max_gen_toks))
        else:
            continue
        # A token has at least one byte, so only long texts have to be looked at.
        if len(text.encode()) >= most:
            count += len(lm.tok_encode(text)) > most
    return count


def _bos(lm: Any) -> bool:
    ids = lm.tok_encode("a")
    return bool(ids) and ids[0] == lm.tokenizer.bos_token_id


def _nearest(name: str, known: Sequence[str]) -> str:
    hint = did_you_mean(name, known).partition("known: ")[0]
    return f"{hint}`lm_eval ls tasks` lists {len(known)} of them"


EVALUATION = Task("any task of lm-eval", prepare, argument="NAME", place=7)

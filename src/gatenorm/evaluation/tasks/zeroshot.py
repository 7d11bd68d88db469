"""The seven zero-shot tasks of the pruning literature, through lm-eval: from local files, or from the hub.

``data/zeroshot.json`` holds the tasks as the harness's official ones ask them, on files with one item a line; from the
hub the official tasks themselves are used.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from gatenorm.errors import EvaluationError, did_you_mean, named, printable
from gatenorm.evaluation.core.audit_role import AuditRole
from gatenorm.evaluation.core.job import Job, TaskOptions
from gatenorm.evaluation.core.lm_eval import check_installed
from gatenorm.evaluation.core.task import Metric, Task
from gatenorm.evaluation.core.text import data_error, read_bytes, read_rows
from gatenorm.evaluation.tasks import harness
from gatenorm.records.evidence import Data, ZeroShot


@cache
def tasks() -> Mapping[str, Mapping[str, Any]]:
    """The seven tasks by name: split of the official task, fields of a line, the values that ``answer`` may have,
    prompt, target, choices, metrics.
    """
    text = files("gatenorm.evaluation").joinpath("data/zeroshot.json").read_text(encoding="utf-8")
    loaded: Mapping[str, Mapping[str, Any]] = json.loads(text)["tasks"]
    return loaded


def prepare(options: TaskOptions) -> list[Job]:
    """All seven tasks, or the one named after the colon (``zeroshot:boolq``), one job each.

    Raises:
        EvaluationError: no such task, or its data are neither in the directory given nor on the hub.
        MissingExtraError: lm-eval is not installed.
    """
    names = list(tasks()) if options.argument is None else options.argument.split("+")
    for name in names:
        if name not in tasks():
            hint = did_you_mean(name, tasks())
            raise EvaluationError("task-unknown", "is not known", field="tasks", given=f"zeroshot:{name}", hint=hint)
    check_installed("zeroshot")
    if options.data is None:
        return [_from_hub(name, options.limit) for name in names]
    directory = Path(options.data).expanduser()
    if not directory.is_dir():
        raise data_error(
            "not-a-directory",
            "is not a directory",
            options.data,
            expected=f"one with a file <task>_<split>.jsonl for each of {', '.join(names)}",
        )
    return [_from_file(name, local_file(directory, name), options.limit) for name in names]


def local_file(directory: Path, name: str) -> Path:
    """The file of a task in a directory: ``<task>_<split>.jsonl``, the official split first.

    Raises:
        EvaluationError: there is none, or there are several to choose from.
    """
    files = sorted(path for path in directory.glob("*.jsonl") if path.stem == name or path.stem.startswith(name + "_"))
    if len(files) > 1:
        split = tasks()[name]["split"]
        preferred = [path for path in files if split in path.stem] or [p for p in files if "validation" in p.stem]
        files = preferred or files
    if len(files) == 1:
        return files[0]
    wanted = f"{name}_{tasks()[name]['split']}.jsonl"
    if files:
        raise data_error(
            "task-file-twice",
            f"has several files for zeroshot:{name} ({', '.join(p.name for p in files)})",
            directory,
            hint="keep one of them",
        )
    raise EvaluationError(
        "task-file-missing",
        f"has no file {name}_*.jsonl for zeroshot:{name}",
        field="data",
        given=directory,
        hint=f"put {wanted} there (one item per line, with {', '.join(tasks()[name]['fields'])}), name only the tasks "
        f"that you have in {named('tasks')} (zeroshot:boolq+rte), or fetch the data from the hub",
    )


def local_task(name: str, rows: Sequence[Mapping[str, Any]]) -> Any:
    """One of the seven as a task of lm-eval over documents in memory."""
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask

    said = tasks()[name]
    documents = Dataset.from_list([{field: row[field] for field in said["fields"]} for row in rows])
    config = {
        "task": name,
        # Nothing is written: `dataset_path: json` would leave copies in the hub's cache.
        "custom_dataset": lambda **_: {"validation": documents},
        "output_type": "multiple_choice",
        "validation_split": "validation",
        "doc_to_text": said["text"],
        "doc_to_target": said["target"],
        "doc_to_choice": said["choices"],
        "metric_list": [{"metric": m, "aggregation": "mean", "higher_is_better": True} for m in said["metrics"]],
        "metadata": {"version": said["version"]},
    }
    return ConfigurableTask(config=config)


def _from_file(name: str, path: Path, limit: int | None) -> Job:
    source = str(path)
    raw = read_bytes(source, path)
    rows = [_checked(source, number, row, name) for number, row in read_rows(source, path, raw)]
    split = path.stem.removeprefix(name).strip("_")
    identity = Data(
        name=printable(path.name),
        split=split,
        sha256=hashlib.sha256(raw).hexdigest(),
        items=min(len(rows), limit or len(rows)),
    )
    key = {"task": name, "data": identity.sha256, "limit": limit, "definition": dict(tasks()[name]), "split": split}
    return harness.job_of(ZeroShot, partial(local_task, name, rows), limit, identity, key, rows)


def _from_hub(name: str, limit: int | None) -> Job:
    try:
        (task,) = harness.official(name)
    except EvaluationError as error:
        error.hint += f"; or give {named('data')} DIR with a file {name}_{tasks()[name]['split']}.jsonl in it"
        raise
    docs = harness.documents_of(task, limit)
    identity = harness.identity_of(task, docs)
    key = {"task": name, "data": identity.sha256, "limit": limit, "definition": "official"}
    return harness.job_of(ZeroShot, lambda: task, limit, identity, key, docs)


def _no_text(value: Any) -> bool:
    return not isinstance(value, str) or not value.strip()


def _checked(source: str, number: int, row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    said = tasks()[name]
    missing = [field for field in said["fields"] if field not in row]
    if missing:
        raise data_error(
            "row-field-missing",
            f"has no {missing[0]!r} in line {number}",
            source,
            expected=f"{', '.join(said['fields'])} for {name}",
        )
    wrong: dict[str, Callable[[Any], bool]] = {
        "choices": lambda v: not (isinstance(v, list) and len(v) > 1 and all(isinstance(c, str) and c for c in v)),
        "label": lambda v: type(v) is not int or not 0 <= v < len(row.get("choices", said["choices"])),
        "answer": lambda v: (type(v), v) not in [(type(answer), answer) for answer in said["answers"]],
        "sentence": lambda v: not isinstance(v, str) or "_" not in v,
    }
    for field in said["fields"]:
        if wrong.get(field, _no_text)(row[field]):
            raise data_error(
                "row-value-wrong", f"has {field} {row[field]!r:.80} in line {number}, which {name} cannot use", source
            )
    return row


EVALUATION = Task(
    "seven multiple-choice tasks",
    prepare,
    data="directory",
    argument="TASK",
    metric=Metric(
        "average",
        "points",
        gate="task-drop",
        limit=2.0,
        reason="LLaMA-13B lost 1.6 points of its seven-task average without 8 of 40 sublayers and 1.8 without 16 "
        "(arXiv 2512.20636)",
    ),
    audit=AuditRole(
        key="zeroshot",
        values="a directory, or to hub",
        words=("hub",),
        limit="zeroshot_limit",
        quick=16,
        few=100,
        lacking="general tasks",
        unasked="no zero-shot files were given",
    ),
    place=2,
)

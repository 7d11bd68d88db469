"""Collect the figures that gatenorm computes for four small models, and compare two such collections digit by digit.

    python scripts/compare_figures.py collect --gatenorm .venv/bin/gatenorm -o before.json
    (change the code)
    python scripts/compare_figures.py collect --gatenorm .venv/bin/gatenorm -o after.json
    python scripts/compare_figures.py compare before.json after.json

A refactoring must not change any figure. Only the command line is used, never the package, so both sides may differ in
code and in the form of their JSON. The functions under "Normalising" turn that JSON into plain numbers, lists, words
and hashes under names of this script, such as ``novels-16L/scores/gate-norm``; when a schema changes, they are what to
edit. A figure that gatenorm refuses to compute (exit status 2) is compared as the word "refused".

Nothing is cached between runs. Both collections must come from the same machine with the same libraries: other
processors round differently. A run takes about ten minutes on one core; ``--models stories3M`` takes a part of that.
The models and texts are those of ``GATENORM_SHARED``, by default ``shared`` beside the repository.

Not collected: ``bench``, ``profile`` and the audit's speed gate, which are timings; reports, model cards and messages,
which are wording; and what LEFT_OUT names.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import GGUFReader

Figures = Iterator[tuple[str, Any]]

MODELS = ("demo", "stories3M", "tinystories-instruct-3M-neo", "novels-16L")
REFUSED = 2

# --- What is computed -------------------------------------------------------------------------------------------------

WEIGHT_ONLY = (
    "gate-norm",
    "gate-norm-heads",
    "gate-norm-outer",
    "gate-norm-scaled",
    "gate-norm-rope",
    "ov-norm",
    "gate-ov",
    "weight-magnitude",
    "depth",
    "random",
)
# A stated batch size: by default it follows the free memory, and with it the rounding.
FLOAT32 = ("--dtype", "float32", "--batch-size", "4")
TOKENS = ("--samples", "4", "--length", "64", *FLOAT32)

SCORES: dict[str, tuple[str, ...]] = {
    **{name: ("--criterion", name) for name in WEIGHT_ONLY},
    "gate-norm-heads numpy": ("--criterion", "gate-norm-heads", "--backend", "numpy"),
    "gate-norm-heads torch": ("--criterion", "gate-norm-heads", "--backend", "torch"),
    "mlp depth": ("--kind", "mlp", "--criterion", "depth"),
    "mlp random": ("--kind", "mlp", "--criterion", "random"),
    "mlp gate-norm": ("--kind", "mlp", "--criterion", "gate-norm"),
    "block depth": ("--kind", "block", "--criterion", "depth"),
    "cosine@random": ("--criterion", "cosine@random", *TOKENS),
    "cosine@random layer by layer": ("--criterion", "cosine@random", "--layer-by-layer", *TOKENS),
    "cosine@self": ("--criterion", "cosine@self", *TOKENS),
    "norm-ratio@random": ("--criterion", "norm-ratio@random", *TOKENS),
    "leave-one-out@random": ("--criterion", "leave-one-out@random", *TOKENS),
    "mlp cosine@random": ("--kind", "mlp", "--criterion", "cosine@random", *TOKENS),
    "mlp perplexity-greedy@random": ("--kind", "mlp", "--criterion", "perplexity-greedy@random", *TOKENS),
    "block block-cosine@random": ("--kind", "block", "--criterion", "block-cosine@random", *TOKENS),
}

PRUNED, PRUNED_BLOCKS = "gate-norm-20", "block-depth-20"
PRUNINGS: dict[str, tuple[str, ...]] = {
    **{f"{name}-20": ("--criterion", name, "--share", "20%") for name in WEIGHT_ONLY},
    "gate-norm-40": ("--criterion", "gate-norm", "--share", "40%"),
    "ov-norm-40": ("--criterion", "ov-norm", "--share", "40%"),
    "cosine-random-20": ("--criterion", "cosine@random", "--share", "20%", *TOKENS),
    "mlp-random-20": ("--kind", "mlp", "--criterion", "random", "--share", "20%"),
    PRUNED_BLOCKS: ("--kind", "block", "--criterion", "depth", "--share", "20%"),
    "drop-1-3": ("--drop", "1,3"),
    "protect-0-1": ("--layers", "2", "--protect", "0,1"),
    "target-speedup": ("--target-speedup", "prefill=1.05"),
}

EXPORTS = (("gguf", "f32"), ("gguf", "q8_0"), ("nemotron-nas", "auto"))

AUDITS: dict[str, tuple[str, ...]] = {
    # Limits that so few items can meet, so that all three outcomes occur and one variant is chosen.
    "demo": ("--search", "perplexity-rise", "--gate", "task-drop=10", "--gate", "retrieval-loss=20"),
    "stories3M": ("--share", "20%", "--window", "128", "--refusal", "packaged"),
}

# --- Normalising: the only part that knows the form of gatenorm's JSON ------------------------------------------------

# Keys of records whose numbers are not figures, and why.
LEFT_OUT = {
    "seconds": "timing",
    "version": "version of gatenorm",
    "versions": "versions of libraries",
    "model": "holds a hash of config.json, whose schema may change",
    "baseline": "identity of another model, likewise",
    "protocol": "settings, which this script fixes",
    "data": "names and hashes of the input texts",
    "items": "single answers, or how many; what is computed from them is compared",
    "removed": "compared as plans",
    "removed_mlp": "compared as plans",
    "edits": "compared as plans",
}
GGUF_LEFT_OUT = {"gatenorm.": "gatenorm's own schema", "GGUF.kv_count": "counts those keys too"}
CONFIG_LEFT_OUT = {"gatenorm": "gatenorm's own schema", "transformers_version": "version of a library"}

# Keys that only group figures and are no part of their names.
WRAPPERS = frozenset({"figures", "metrics", "results"})

# New words and names on the left, those of the first collection on the right.
OUTCOMES = {"stands": "passes", "falls": "fails", "not proven": "inconclusive"}
RENAMED: dict[str, str] = {}


def holder(record: Any, *names: str) -> Mapping[str, Any]:
    """The outermost mapping in ``record`` that has one of the keys ``names``.

    Raises:
        KeyError: there is none.
    """
    level = [record]
    while level:
        for part in level:
            if isinstance(part, Mapping) and any(name in part for name in names):
                return part
        level = [child for part in level for child in (part.values() if isinstance(part, Mapping) else part)]
        level = [part for part in level if isinstance(part, (Mapping, list))]
    raise KeyError(" or ".join(names))


def pick(record: Any, *names: str) -> Any:
    """The value of the first of ``names`` that the outermost mapping with any of them has."""
    found = holder(record, *names)
    return next(found[name] for name in names if name in found)


def pick_text(record: Any, *names: str) -> str:
    """As :func:`pick`, but an empty text where none of ``names`` occurs."""
    try:
        return str(pick(record, *names))
    except KeyError:
        return ""


def numbers(record: Any, path: str = "") -> Figures:
    """All numbers and lists of numbers in a record under their paths, without what LEFT_OUT names."""
    if isinstance(record, Mapping):
        for key, value in record.items():
            if key not in LEFT_OUT:
                yield from numbers(value, path if key in WRAPPERS else f"{path}/{key}".lstrip("/"))
    elif isinstance(record, list) and record and not all(isinstance(one, (int, float)) for one in record):
        for position, value in enumerate(record):
            yield from numbers(value, f"{path}/{position}".lstrip("/"))
    elif isinstance(record, (int, float, list)):
        yield path, record


def removed_sublayers(record: Any) -> list[str]:
    """What a plan, a pruned checkpoint or a measurement says is removed, as ``["attention 4", "mlp 6"]``.

    Reads ``edits``, the older ``drop`` with ``drop_mlp``, and ``removed`` with ``removed_mlp``.
    """
    found = holder(record, "edits", "drop", "removed")
    if "edits" in found:
        edits = [(edit["operation"], edit["sublayer"], edit["layer"]) for edit in found["edits"]]
    else:
        old = {"attention": ("drop", "removed"), "mlp": ("drop_mlp", "removed_mlp")}
        edits = [("remove", what, n) for what, keys in old.items() for key in keys for n in found.get(key, ())]
    parts = {"block": ("attention", "mlp")}
    each = sorted({(part, n, how) for how, what, n in edits for part in parts.get(what, (what,))})
    return [f"{part} {n}" if how == "remove" else f"{part} {n} {how}" for part, n, how in each]


def scored(data: Any) -> Figures:
    """Scores of the layers, of their heads, and the ranking."""
    layers = pick(data, "layers")
    yield "", [layer["score"] for layer in layers]
    if any("heads" in layer for layer in layers):
        yield "heads", [layer.get("heads") for layer in layers]
    yield "ranking", pick(data, "ranking")


def records(data: Any) -> list[Any]:
    """The measurements in what ``eval``, ``verify`` or ``recover`` wrote."""
    if isinstance(data, list):
        return data
    found = next((data[key] for key in ("evidence", "records") if key in data), data)
    return found if isinstance(found, list) else [found]


def flat(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """A typed measurement with its numbers under ``figures``, named as in the first collection; others as they are."""
    schema = str(record.get("schema", ""))
    if ("figures" in record and "noun" not in record) or not schema:
        return record
    kind = record.get("noun", schema.split("/")[1])
    task = next((record[name] for name in ("name", "form") if isinstance(record.get(name), str)), "")
    figures: dict[str, Any] = dict(record.get("figures", {}))
    for name, value in record.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool) and name not in ("seconds", "count"):
            figures[name] = value
        elif isinstance(value, Mapping) and "value" in value:
            figures |= figure(kind, name, value)
    for name, value in record.get("metrics", {}).items():
        figures |= figure(kind, name, value)
    for name, number in record.get("counts", {}).items():
        figures[f"{name}_items"] = number
    for name, error in record.get("row_errors", {}).items():
        figures[f"row_error_{name}"] = error
    for bucket in record.get("buckets", ()):
        figures[f"nll_{bucket['first']}-{bucket['last']}"] = bucket["nll"]
    for cell in record.get("cells", ()):
        for name in ("choice", "greedy"):
            figures[f"{name}_{cell['length']}_{cell['depth']:g}"] = cell[name]
    for name, change in record.get("changes", {}).items():
        figures |= {f"{name}_{part}": number for part, number in change.items()}
    kept = {name: record[name] for name in ("edits", "faults", "of") if name in record}
    return {"kind": kind, "task": task, "figures": figures, **kept}


def figure(kind: str, name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """A typed figure with its error and its interval, as the numbers of the first collection."""
    error = "standard_error" if (kind, name) == ("demo-task", "accuracy") else f"{name}_stderr"
    names = {"value": name, "stderr": error, "low": f"{name}_low", "high": f"{name}_high"}
    return {names[part]: number for part, number in found.items()}


def measured(data: Any) -> Figures:
    """Figures of measurements, named by whether the model is pruned, the kind of measurement and the task."""
    for record in map(flat, records(data)):
        parts = ["pruned" if removed_sublayers(record) else "whole"]
        parts += [pick_text(record, "kind", "type"), pick_text(record, "of"), pick_text(record, "task")]
        for name, value in numbers(record):
            yield "/".join(filter(None, [*parts, name])), value


def curved(data: Any) -> Figures:
    """Perplexity and removed layers of every point of every line of a curve."""
    for line in [*pick(data, "lines"), *pick(data, "random", "band")]:
        for position, point in enumerate(line["points"]):
            for name, value in numbers(point):
                yield f"{line['name']}/{position}/{name}", value


def outcome(word: str) -> str:
    """A verdict in the words of today: passes, fails, inconclusive."""
    return OUTCOMES.get(word, word)


def gated(gate: Any) -> Figures:
    """What one gate of an audit says."""
    yield "outcome", outcome(pick(gate, "outcome"))
    for name in ("value", "limit", "low", "high"):
        yield name, pick(gate, name)


def audited(data: Any) -> Figures:
    """Choice, rankings, their agreement, and the plan, the gates and the measurements of every variant."""
    yield "chosen", pick(data, "chosen")
    best = pick(data, "borne_out", "best_supported")
    yield "best supported", best["ranking"]
    yield from ((f"best supported/{name}", loss) for name, loss in best["losses"].items())
    for scores in data["scores"]:
        source = pick_text(scores, "source")
        name = "/".join(filter(None, ["scores", scores["criterion"], source, f"seed {scores.get('seed') or 0}"]))
        yield from ((f"{name}/{part}".rstrip("/"), value) for part, value in scored(scores))
    for pair in data["comparison"]["agreements"]:
        name = f"agreement/{pair['first']} and {pair['second']}"
        yield from ((f"{name}/{part}", value) for part, value in numbers(pair))
    yield from ((f"baseline/{name}", value) for name, value in measured(data["baseline"]))
    for variant in data["variants"]:
        name = variant["name"]
        yield f"{name}/plan", removed_sublayers(variant["plan"])
        yield f"{name}/outcome", outcome(variant["outcome"])
        yield f"{name}/share", variant["share"]
        for gate in variant["gates"]:
            yield from ((f"{name}/{gate['gate']}/{part}", value) for part, value in gated(gate))
        yield from ((f"{name}/{part}", value) for part, value in measured(variant["evidence"]))
    if data["search"]:
        yield "search/found", pick(data["search"], "found")
        for probe in pick(data["search"], "probes"):
            yield from ((f"search/{probe['removed']}/{part}", value) for part, value in gated(probe))


def predicted(data: Any) -> Figures:
    """What the cost model predicts."""
    yield from numbers(pick(data, "predictions"))


# --- Files ------------------------------------------------------------------------------------------------------------


def digest(content: bytes) -> str:
    """The sha256."""
    return hashlib.sha256(content).hexdigest()


def plain(value: Any) -> Any:
    """A value as it is where it is short, else its hash."""
    text = json.dumps(value, sort_keys=True)
    return value if len(text) <= 200 and not isinstance(value, Mapping) else digest(text.encode())


def checkpoint_files(directory: Path) -> Figures:
    """Hashes of weights and tokenizer files; of the files with gatenorm's own schemas what they say is removed."""
    for file in sorted(directory.rglob("*")):
        name = file.relative_to(directory).as_posix()
        if name in ("config.json", "gatenorm.json"):
            data = json.loads(file.read_text(encoding="utf-8"))
            yield name, removed_sublayers(data.get("gatenorm", data))
        elif file.suffix == ".safetensors" or name.startswith(("tokenizer", "generation_config")):
            yield name, digest(file.read_bytes())


def safetensors_tensors(directory: Path) -> Figures:
    """A hash of name, type, shape and bytes of every tensor in a directory."""
    for file in sorted(directory.glob("*.safetensors")):
        content = file.read_bytes()
        begin = 8 + int.from_bytes(content[:8], "little")
        for name, entry in json.loads(content[8:begin]).items():
            if name != "__metadata__":
                start, end = (begin + offset for offset in entry["data_offsets"])
                described = f"{name} {entry['dtype']} {entry['shape']} ".encode()
                yield f"tensor/{name}", digest(described + content[start:end])


def nemotron_nas(directory: Path) -> Figures:
    """Tensors and configuration of a checkpoint for engines that read nemotron-nas."""
    yield from safetensors_tensors(directory)
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    yield from ((f"config/{key}", plain(value)) for key, value in config.items() if key not in CONFIG_LEFT_OUT)


def gguf(file: Path) -> Figures:
    """Tensors and metadata of a GGUF file."""
    reader = GGUFReader(file)
    for tensor in reader.tensors:
        described = f"{tensor.name} {tensor.tensor_type.name} {tensor.shape.tolist()} ".encode()
        yield f"tensor/{tensor.name}", digest(described + tensor.data.tobytes())
    for key, field in reader.fields.items():
        if not key.startswith(tuple(GGUF_LEFT_OUT)):
            yield f"metadata/{key}", plain(field.contents())


# --- Collecting -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One model, the program, and a folder of their own. What is pruned stays there for the steps that come after."""

    name: str
    program: Path
    shared: Path
    folder: Path

    @property
    def model(self) -> str:
        return self.name if self.name == "demo" else str(self.shared / "models" / self.name)

    @property
    def text(self) -> str:
        return str(self.shared / "data" / "wikitext-2" / "wiki.test.raw")

    def pruned(self, name: str) -> Path:
        return self.folder / "pruned" / name

    def run(self, command: str, *arguments: str | Path) -> Any:
        """The JSON that a command writes, or None where gatenorm refuses.

        Raises:
            RuntimeError: the command failed.
        """
        result = self.folder / "result.json"
        result.unlink(missing_ok=True)
        cache = self.folder / "cache"
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "XDG_CACHE_HOME": str(cache),
            "GATENORM_CACHE": str(cache / "gatenorm"),
            "HF_HUB_OFFLINE": "1",
        }
        line = [str(self.program), command, *map(str, arguments), "--json", str(result)]
        done = subprocess.run(line, cwd=self.folder, env=environment, capture_output=True, text=True)
        if done.returncode == REFUSED:
            return None
        if not result.exists():
            raise RuntimeError(f"{' '.join(line)}: exit status {done.returncode}: {done.stderr.strip()[-500:]}")
        return json.loads(result.read_text(encoding="utf-8"))


def under(name: str, data: Any, normalise: Callable[[Any], Figures]) -> Figures:
    """The figures in the result of a command under a name; the word "refused" where there is no result."""
    if data is None:
        yield name, "refused"
    else:
        yield from ((f"{name}/{part}".strip("/"), value) for part, value in normalise(data))


def inspection(case: Case) -> Figures:
    """Predictions of the cost model."""
    yield from under("", case.run("inspect", case.model), predicted)


def scores(case: Case) -> Figures:
    """Scores by every criterion."""
    for name, options in SCORES.items():
        yield from under(name, case.run("score", case.model, *options), scored)


def plans(case: Case) -> Figures:
    """What each way to choose removes; writes the pruned checkpoints."""
    sources = {name: (case.model, options) for name, options in PRUNINGS.items()}
    sources["pruned again"] = (str(case.pruned(PRUNED)), ("--layers", "1"))
    for name, (model, options) in sources.items():
        data = case.run("prune", model, "-o", case.pruned(name), *options)
        yield name, "refused" if data is None else removed_sublayers(data)


def files(case: Case) -> Figures:
    """What was written when the plans were carried out."""
    for directory in sorted(case.pruned("").iterdir()):
        yield from under(directory.name, directory, checkpoint_files)


def perplexity(case: Case) -> Figures:
    """Perplexity on WikiText-2 of the model and of two pruned ones."""
    options = ("--tasks", "perplexity", "--data", case.text, "--limit", "8", "--window", "256", *FLOAT32)
    for name in (PRUNED, PRUNED_BLOCKS):
        yield from under(name, case.run("eval", case.pruned(name), "--baseline", case.model, *options), measured)


def evaluation(case: Case) -> Figures:
    """Other evaluations, of the model and of a pruned one."""
    options = ["--limit", "4", *FLOAT32]
    if case.name != "demo":  # Which has stories and tasks of its own.
        zeroshot = case.shared / "data" / "zeroshot"
        options += ["--tasks", "positions,retrieval,refusal,zeroshot", "--window", "256"]
        options += ["--data", case.text, "--data", f"zeroshot={zeroshot}"]
    yield from under(PRUNED, case.run("eval", case.pruned(PRUNED), "--baseline", case.model, *options), measured)


def exports(case: Case) -> Figures:
    """Files for other engines, of the model and of two pruned ones."""
    pruned = {name: str(case.pruned(name)) for name in (PRUNED, PRUNED_BLOCKS)}
    sources = {"whole": case.model, **pruned}
    for source, model in sources.items():
        for form, dtype in EXPORTS:
            out = case.folder / f"{source}-{dtype}.{form}"
            data = case.run("export", model, "--to", form, "--dtype", dtype, "-o", out)
            yield from under(out.name, data and out, gguf if form == "gguf" else nemotron_nas)


def verification(case: Case) -> Figures:
    """What llama.cpp computes from exported files, against the reference."""
    for source, model, dtype in (("whole", case.model, "f32"), (PRUNED, case.pruned(PRUNED), "q8_0")):
        exported = case.folder / f"{source}-{dtype}.gguf"
        if exported.exists():
            data = case.run("verify", exported, "--against", model, "--engine", "llamacpp", "--tokens", "16")
            yield from under(exported.name, data, measured)


def curve(case: Case) -> Figures:
    """Perplexity by number of removed sublayers."""
    options = ("--counts", "1,2", "--seeds", "2", "--limit", "4", "--window", "128", *TOKENS)
    data = case.run("curve", case.model, "--data", case.text, "--criteria", "gate-norm,cosine@random", *options)
    yield from under("", data, curved)


def recovery(case: Case) -> Figures:
    """Four steps of training."""
    text, out = case.shared / "data" / "tinystories" / "valid_sample.txt", case.folder / "recovered"
    options = ("--steps", "4", "--batch", "2", "--length", "64", "--watch-every", "2", "--watch-windows", "4")
    data = case.run("recover", case.pruned(PRUNED), "-o", out, "--data", text, "--dtype", "float32", *options)
    yield from under("", data, measured)
    if data is not None:
        yield from checkpoint_files(out)


def audit(case: Case) -> Figures:
    """A whole audit but for speed, for the models that AUDITS names."""
    if case.name not in AUDITS:
        return
    out = case.folder / "audit"
    options = ["--limit", "4", "--engine", "none", "--no-recover", "--threads", "1", *FLOAT32, *AUDITS[case.name]]
    if case.name != "demo":
        options += ["--data", case.text, "--zeroshot", str(case.shared / "data" / "zeroshot")]
    yield from under("", case.run("audit", case.model, "-o", out, *options), audited)
    for file in sorted(out.rglob("*.safetensors")):
        yield f"files/{file.parent.name}/{file.name}", digest(file.read_bytes())


# In this order: later steps use the directories and files of earlier ones.
STEPS = (inspection, scores, plans, files, perplexity, evaluation, exports, verification, curve, recovery, audit)


def renamed(name: str) -> str:
    """A name with today's words for those in RENAMED."""
    return "/".join(RENAMED.get(part, part) for part in name.split("/"))


def collect(program: Path, shared: Path, models: Sequence[str]) -> dict[str, Any]:
    """All figures of all models, and the steps that failed."""
    figures: dict[str, Any] = {}
    failures: dict[str, str] = {}
    began = time.monotonic()
    for model in models:
        with tempfile.TemporaryDirectory(prefix="compare-figures-") as folder:
            case = Case(model, program.absolute(), shared.absolute(), Path(folder))
            for step in STEPS:
                kind = f"{model}/{step.__name__}"
                print(f"{time.monotonic() - began:5.0f} s  {kind}", file=sys.stderr)
                try:
                    for part, value in step(case):
                        name = renamed(f"{kind}/{part}".rstrip("/"))
                        if name in figures:
                            raise ValueError(f"{name} was collected twice")
                        figures[name] = value
                except (RuntimeError, OSError, LookupError, AttributeError, TypeError, ValueError) as error:
                    failures[kind] = f"{type(error).__name__}: {error}"
    seconds = round(time.monotonic() - began)
    left_out = {**LEFT_OUT, **GGUF_LEFT_OUT, **CONFIG_LEFT_OUT}
    return {"seconds": seconds, "left_out": left_out, "failures": failures, "figures": figures}


# --- Comparing --------------------------------------------------------------------------------------------------------


def kind_of(name: str) -> str:
    """The step that a figure comes from."""
    return name.split("/")[1]


def values(figure: Any) -> int:
    """How many single values a figure holds."""
    return sum(map(values, figure)) if isinstance(figure, list) else 1


def differences(name: str, before: Any, after: Any) -> Iterator[str]:
    """A line for each value that differs."""
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for position, pair in enumerate(zip(before, after, strict=True)):
            yield from differences(f"{name}[{position}]", *pair)
    elif before != after:
        yield f"{name}: {before!r} before, {after!r} after"


def compare(before: Mapping[str, Any], after: Mapping[str, Any], models: Sequence[str]) -> int:
    """Print how many figures of each kind were compared, and every difference; 1 if there is any, or a failed step."""
    first, second = before["figures"], after["figures"]
    counts: dict[str, list[int]] = {}
    report = []
    for name in dict.fromkeys([*first, *second]):
        if name.split("/")[0] not in models:
            continue
        row = counts.setdefault(kind_of(name), [0, 0, 0, 0])
        if name in first and name in second:
            found = list(differences(name, first[name], second[name]))
            row[:3] = row[0] + 1, row[1] + values(first[name]), row[2] + bool(found)
            report += found
        else:
            row[3] += 1
            report.append(f"{name}: only {'before' if name in first else 'after'}")
    for when, side in (("before", before), ("after", after)):
        failures = {step: why for step, why in side["failures"].items() if step.split("/")[0] in models}
        report += [f"{step}: failed {when}: {why}" for step, why in failures.items()]
    if not any(row[0] for row in counts.values()):
        report.append("nothing to compare")
    print(f"{'kind':<14}{'figures':>9}{'values':>9}{'differ':>9}{'one side':>9}")
    for kind, row in [*counts.items(), ("all", [sum(column) for column in zip(*counts.values(), strict=True)])]:
        print(f"{kind:<14}" + "".join(f"{number:>9}" for number in row))
    print("\n".join(report or ["no difference"]))
    return 1 if report else 0


def load(file: Path) -> Any:
    """A collection from its file, with NaN as a word, since NaN does not equal itself."""
    return json.loads(file.read_text(encoding="utf-8"), parse_constant=str)


def default_shared() -> Path:
    """Where the models and texts lie unless told otherwise."""
    return Path(os.environ.get("GATENORM_SHARED") or Path(__file__).resolve().parent.parent.parent / "shared")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    collecting = commands.add_parser("collect", help="compute all figures with one gatenorm")
    collecting.add_argument("--gatenorm", type=Path, required=True, help="the executable")
    collecting.add_argument("-o", "--out", type=Path, required=True, help="the JSON file to write")
    collecting.add_argument("--shared", type=Path, default=default_shared(), help="the folder with models and texts")
    comparing = commands.add_parser("compare", help="exit status 1 if any figure differs")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    for command in (collecting, comparing):
        command.add_argument("--models", default=",".join(MODELS), help="only these, separated by commas")
    options = parser.parse_args()
    models = options.models.split(",")
    if unknown := [name for name in models if name not in MODELS]:
        parser.error(f"no such model: {', '.join(unknown)}; there are {', '.join(MODELS)}")
    if options.command == "compare":
        return compare(load(options.before), load(options.after), models)
    found = collect(options.gatenorm, options.shared, models)
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    refused = [name for name, value in found["figures"].items() if value == "refused"]
    for kind, count in Counter(map(kind_of, found["figures"])).items():
        print(f"{kind:<14}{count:>7}")
    print(f"refused: {', '.join(refused) or 'nothing'}")
    print("\n".join(f"failed: {step}: {why}" for step, why in found["failures"].items()) or "no step failed")
    return 1 if found["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())

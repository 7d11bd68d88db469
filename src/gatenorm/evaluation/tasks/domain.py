"""Your own workload: how closely a pruned model follows the unpruned one on prompts that you give, or on a text.

The unpruned model is the reference, so no labels are needed.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gatenorm.errors import EvaluationError, printable
from gatenorm.evaluation.core.audit_role import AuditRole
from gatenorm.evaluation.core.divergence import Encoded, measure_workload
from gatenorm.evaluation.core.job import Job, TaskOptions
from gatenorm.evaluation.core.task import Metric, Task
from gatenorm.evaluation.core.text import LINES, Text, about_tokens, data_error, read_bytes, read_rows, read_text
from gatenorm.models.architecture import Work
from gatenorm.models.model import Model
from gatenorm.progress import Progress
from gatenorm.records.audit import StepName
from gatenorm.records.evidence import Data, Workload

# Tokens of a piece of plain text, where the model takes as many.
_PIECE = 256
_NEEDS = "each line is a JSON object with a 'prompt', or with a 'prompt' and a 'reference'"


@dataclass(frozen=True)
class Item:
    """One prompt of the workload; ``line`` is its place in the file, ``reference`` the wanted answer, if any."""

    line: int
    prompt: str
    reference: str | None = None


def prepare(options: TaskOptions) -> list[Job]:
    """The workload that ``--data`` names, as a job that needs the baseline beside the model.

    Raises:
        EvaluationError: no file is given, or it cannot be read.
    """
    if options.data is None:
        raise data_error("data-missing", "is missing", expected=f"your own prompts (.jsonl: {_NEEDS}) or a plain text")
    path = Path(options.data).expanduser()
    raw = read_bytes(options.data, path)
    digest = hashlib.sha256(raw).hexdigest()
    if path.suffix.lower() in LINES:
        source: list[Item] | Text = read_items(options.data, path, raw)
    else:
        source = read_text(options.data, options.text_field)
    # The same bytes are other items as lines with prompts, as text, or in another field.
    form = source.protocol if isinstance(source, Text) else "prompts"
    length = min(options.window or _PIECE, options.context or _PIECE)

    def compare(model: Model, baseline: Model, progress: Progress | None) -> Workload:
        items = encoded(baseline, source, length, options.limit)
        workload = measure_workload(model, baseline, items, options.new_tokens, progress)
        how = (
            "prompts as they stand in the file, no chat template added"
            if isinstance(source, list)
            else f"pieces of {length} tokens, the first half as the prompt, the second as the reference"
        )
        data = Data(name=printable(path.name), sha256=digest, items=len(items))
        stated = msgspec.structs.replace(workload.protocol, text=how)
        return msgspec.structs.replace(workload, protocol=stated, data=data)

    key = {"data": digest, "form": form, "length": length, "limit": options.limit, "new_tokens": options.new_tokens}
    return [Job("domain", "your workload", "items", key, compare=compare, passes=_passes(source, length, options))]


def _passes(source: list[Item] | Text, length: int, options: TaskOptions) -> dict[Work, float]:
    """Both models write a continuation of each prompt, and read it once more."""
    if isinstance(source, Text):
        items, tokens = max(1, about_tokens(len(source.content)) // length), length
    else:
        items = max(1, len(source))
        tokens = about_tokens(sum(len(item.prompt) + len(item.reference or "") for item in source)) // items + 1
    asked = 2.0 * min(items, options.limit or items)
    return {Work.prefill(tokens): 2 * asked, Work.decode(tokens): asked * options.new_tokens}


def read_items(source: str, path: Path, raw: bytes) -> list[Item]:
    """The prompts, and the references where there are any, of a JSON-lines file.

    Raises:
        EvaluationError: a line without a prompt, with an empty one, or with something else than text in either.
    """
    items = []
    for line, row in read_rows(source, path, raw):
        prompt, reference = row.get("prompt"), row.get("reference")
        if not isinstance(prompt, str) or not prompt.strip():
            raise data_error("row-field-missing", f"has no 'prompt' in line {line}", source, expected=_NEEDS)
        if reference is not None and (not isinstance(reference, str) or not reference):
            raise data_error(
                "row-value-wrong",
                f"has an empty 'reference' in line {line}",
                source,
                hint="give a text, or leave it out",
            )
        items.append(Item(line, prompt, reference))
    return items


def encoded(model: Model, source: list[Item] | Text, length: int, limit: int | None) -> list[Encoded]:
    """Items in tokens: a prompt with special tokens, its own or the tokenizer's, and what the reference adds to it.

    Raises:
        EvaluationError: an item longer than the model's input, or a text too short to be cut.
    """
    if isinstance(source, Text):
        ids = _ids(model, source.content)
        pieces = [tuple(ids[n : n + length]) for n in range(0, len(ids), length)]
        whole = [piece for piece in pieces if len(piece) == length] or pieces[:1]
        if len(whole[0]) < 4:
            raise data_error("text-too-short", f"{source.name} has {len(whole[0])} tokens: too few to continue")
        half = len(whole[0]) // 2
        texts = [model.tokenizer.decode(piece[:half]) for piece in whole[:limit]]
        cut = zip(whole[:limit], texts, strict=True)
        return [Encoded(n, shown, piece[:half], piece[half:]) for n, (piece, shown) in enumerate(cut, 1)]
    pairs = []
    for item in source[:limit]:
        prompt = _ids(model, item.prompt)
        reference: list[int] = []
        if item.reference is not None:
            # Encoded together, since a tokenizer may join what meets at the border; cut where the prompt's tokens end.
            joint = item.prompt + ("" if item.prompt[-1].isspace() or item.reference[0].isspace() else " ")
            reference = _ids(model, joint + item.reference)[len(prompt) :]
        total = len(prompt) + len(reference)
        if model.context and total > model.context:
            raise EvaluationError(
                "prompt-too-long",
                f"line {item.line} has {total} tokens with its reference; the model takes {model.context}",
                hint="shorten it",
            )
        if not prompt:
            raise EvaluationError(
                "prompt-without-tokens", f"the tokenizer makes no token of the prompt in line {item.line}"
            )
        pairs.append(Encoded(item.line, item.prompt, tuple(prompt), tuple(reference)))
    return pairs


def _ids(model: Model, text: str) -> list[int]:
    """The tokens of a text, with the tokenizer's special ones unless a chat template has written them into it."""
    bos = model.tokenizer.bos_token
    (ids,) = model.encode([text], special=not (bos and text.startswith(bos)))
    return ids


EVALUATION = Task(
    "your own prompts, against the baseline",
    prepare,
    data="text",
    compares=True,
    metric=Metric(
        "kl",
        "nats",
        more_is_better=False,
        gate="domain-divergence",
        reason="no figure is known that would serve everybody: read the worst items first, then set a limit",
    ),
    audit=AuditRole(
        key="domain",
        values="a file with your prompts",
        limit="domain_limit",
        quick=8,
        few=20,
        options=("new_tokens",),
        called="your workload",
        lacking="your own workload",
        step=StepName.WORKLOAD,
    ),
    place=5,
)

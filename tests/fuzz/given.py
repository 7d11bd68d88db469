"""Files that a user names besides the model: data, a refusal rule, a recipe; and weights that were pickled."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import torch

from gatenorm.checkpoint import open_store
from gatenorm.evaluation.core.text import read_text
from gatenorm.evaluation.tasks import domain, refusal, zeroshot
from gatenorm.study.recipe import recipe, recipes
from tests.fuzz.parser import Parser, at, lines, text

_REPLY = "I'm sorry, but I can't help with that. " * 6
_ZEROSHOT = {
    "label": 1,
    "answer": True,
    "sentence": "The _ was in the box.",
    "choices": ["a", "b", "c", "d"],
}


class Given:
    """A folder in which they lie, one at a time."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir()
        (folder / "config.json").write_text('{"model_type": "llama"}')
        (folder / "adapter").mkdir()

    def parsers(self) -> Iterator[Parser]:
        rows = lines({"text": "A text."}, {"text": "Another, with more words.", "id": 2})
        yield Parser("rows of text", (rows,), at(self.folder, "data.jsonl", lambda path: read_text(str(path))), "lines")
        prompts = lines({"prompt": "What is it?", "reference": "A thing."}, {"prompt": "And then?"})
        yield Parser("rows of prompts", (prompts,), at(self.folder, "data.jsonl", _prompts), "lines")
        packaged = files("gatenorm.evaluation").joinpath("data")
        asked = packaged.joinpath("refusal.jsonl").read_bytes().splitlines(keepends=True)
        items = b"".join([*asked[:2], *[line for line in asked if b'"system"' in line][:2]])
        yield Parser("rows of refusal items", (items,), at(self.folder, "data.jsonl", _refusal), "lines")
        yield Parser("rows of zero-shot tasks", tuple(map(_rows, zeroshot.tasks())), self.read_zeroshot, "lines")
        rule = packaged.joinpath("refusal_rule.json").read_bytes()
        yield Parser("refusal rule", (rule,), at(self.folder, "rule.json", _rule))
        recipes_ = tuple(recipes()[name].read_bytes() for name in ("smollm2-rankings", "llama-13b-zeroshot"))
        yield Parser("recipe", recipes_, at(self.folder, "recipe.yaml", _recipe), "yaml")
        yield Parser("pickled weights", _pickled(), self.read_pickled, "bytes")
        adapter = text({"base_model_name_or_path": "org/model", "peft_type": "LORA", "r": 8, "target_modules": ["q"]})
        yield Parser("adapter_config.json", (adapter,), at(self.folder, "adapter/adapter_config.json", _adapter))

    def read_zeroshot(self, content: bytes) -> None:
        """As the first of the tasks whose fields it names, or the first of all."""
        path, tasks = self.folder / "task.jsonl", zeroshot.tasks()
        path.write_bytes(content)
        fits = (name for name in tasks if all(f'"{field}"'.encode() in content for field in tasks[name]["fields"]))
        zeroshot._from_file(next(fits, next(iter(tasks))), path, None)

    def read_pickled(self, content: bytes) -> None:
        """A whole file, or the pickle in one: an archive keeps a sum of it, by which any change would be refused."""
        if not content.startswith(b"PK"):
            content = _archive(content)
        path = self.folder / "pytorch_model.bin"
        path.write_bytes(content)
        store = open_store(path)
        for name in store.specs:
            store.raw(name)


def _rows(task: str) -> bytes:
    fields = zeroshot.tasks()[task]["fields"]
    row = {field: _ZEROSHOT.get(field, "Some words.") for field in fields}
    if task == "winogrande":
        row["answer"] = "1"
    return lines(row, row)


def _prompts(path: Path) -> object:
    return domain.read_items(str(path), path, path.read_bytes())


def _refusal(path: Path) -> object:
    return refusal.read_items(str(path), path, path.read_bytes())


def _rule(path: Path) -> object:
    return refusal.read_rule(str(path)).refuses(_REPLY)


def _recipe(path: Path) -> object:
    return recipe(str(path)).with_data("generic", None, None).in_small(2)


def _adapter(path: Path) -> object:
    return open_store(path.parent)


def _pickled() -> tuple[bytes, bytes]:
    weights = {"a": torch.ones(2, 3), "b": torch.zeros(4, dtype=torch.float16)}
    whole = io.BytesIO()
    torch.save(weights, whole)
    with zipfile.ZipFile(whole) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("data.pkl"))
        return whole.getvalue(), archive.read(name)


def _archive(pickled: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, part in {"data.pkl": pickled, "byteorder": b"little", "version": b"3\n"}.items():
            archive.writestr(f"w/{name}", part)
        for number, size in enumerate((24, 8)):
            archive.writestr(f"w/data/{number}", bytes(size))
    return content.getvalue()

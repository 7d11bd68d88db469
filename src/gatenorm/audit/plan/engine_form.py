"""The form in which an engine is given the models of an audit, and where they lie in it."""

from pathlib import Path

from gatenorm.engines import engine_named
from gatenorm.errors import EvaluationError
from gatenorm.exports.registry import Export, export_form, known

# What pruning writes.
_DIRECTORY = "transformers"
# The unpruned model's export: a name that no variant has, whatever the model is called.
UNPRUNED = "unpruned"


def form_for(engine: str) -> Export | None:
    """What is written for an engine; ``None`` for one that reads the pruned directory itself.

    Raises:
        EvaluationError: there is no such engine, or it reads nothing that can be written.
    """
    reads = engine_named(engine).reads
    if _DIRECTORY in reads:
        return None
    name = next((name for name in reads if name in known()), None)
    if name is None:
        problem, expected = "reads no form that is written", " or ".join((_DIRECTORY, *known()))
        raise EvaluationError("form-unread", problem, field="engine", given=engine, expected=expected)
    return export_form(name)


def export_path(directory: Path, name: str, form: Export) -> Path:
    """Where an audit's directory holds a variant in that form, be it a file or a directory."""
    return directory / "exports" / f"{name}.{form.name}"

"""What commands refuse before any work, where it takes more than one option to be wrong."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from gatenorm.cli import console
from gatenorm.errors import CriterionError, EvaluationError, OutputError, PlanError, named

if TYPE_CHECKING:
    from gatenorm.api.opening import ModelLike
    from gatenorm.calibration.samples import Calibration, Sampling
    from gatenorm.cli.declaration import Option
    from gatenorm.cli.options import ranking
    from gatenorm.criteria.session import ScoringSession


def outputs_apart(given: Mapping[str, Any], options: Mapping[str, Option]) -> None:
    """Raise OutputError for an output in the place of another one, inside of it, in the place of a file that is read,
    or of a file of a model.

    Args:
        given: what was typed for each parameter.
    """
    taken, models, outputs = dict[Path, str](), dict[Path, str](), dict[Path, object]()
    for name, option in sorted(options.items(), key=lambda pair: pair[1].writes):  # what is read comes first
        typed = given.get(name)
        for text in typed if isinstance(typed, (list, tuple)) else (typed,):
            if not option.writes:
                read = [place for part in _parts(text) if (place := _place(part)) is not None]
                taken |= dict.fromkeys(filter(Path.is_file, read), name)
                models |= dict.fromkeys((place for place in read if (place / "config.json").is_file()), name)
                continue
            place = _place(text)
            if place is None:
                continue
            if place in taken:
                problem = f"is the same place as {named(taken[place])}, which would be overwritten"
                hint = "give each output a name of its own"
                raise OutputError("outputs-same", problem, field=name, given=text, hint=hint)
            model = next((models[folder] for folder in place.parents if folder in models), None)
            if model is not None and place.is_file():
                problem = f"is a file of {named(model)}, which would be overwritten"
                hint = "write it elsewhere, or remove it first"
                raise OutputError("output-in-model", problem, field=name, given=text, hint=hint)
            taken[place], outputs[place] = name, text
    for place, text in outputs.items():
        around = next((taken[folder] for folder in place.parents if folder in outputs), None)
        if around is not None:
            problem, hint = f"lies inside {named(around)}, which is written too", "write it beside that"
            raise OutputError("outputs-nested", problem, field=taken[place], given=text, hint=hint)


def _parts(text: object) -> set[str]:
    """What may be a path in the value of an option: all of it, or what stands behind a name or between commas."""
    if not isinstance(text, str):
        return set()
    return {text, text.partition("=")[2], text.partition("@")[2], *re.split("[,=@]", text)}


def _place(text: object) -> Path | None:
    """Where a file or a directory lies or will, links followed; ``None`` for FIFOs and devices, and for no path."""
    if not isinstance(text, str) or not text:
        return None
    try:
        path = Path(text).expanduser().resolve()
        return path if path.is_file() or path.is_dir() or not path.exists() else None
    except (OSError, ValueError, RuntimeError):  # a name that is too long, or a link to itself
        return None


def no_empty_separator(text: str, field: str) -> None:
    """Raise EvaluationError where a text is to be split at nothing."""
    if not text:
        expected = "a separator, such as '<|endoftext|>'"
        raise EvaluationError("documents-empty", "is empty", field=field, expected=expected)


def tokens(how: ranking.Windows, documents: str | None = None) -> Calibration:
    """The calibration that these options ask for; without a source where none is named.

    Raises:
        CalibrationError: numbers that make no calibration.
    """
    from gatenorm.calibration.samples import Calibration

    source, sampling = how["calibration"] or "", self_sampling(how)
    return Calibration(source, how["samples"], how["length"], documents, how["seed"], how["batch_size"], sampling)


def self_sampling(how: ranking.SelfText) -> Sampling:
    """How these options let a model write.

    Raises:
        CalibrationError: a temperature or a share that is none.
    """
    from gatenorm.calibration.samples import Sampling

    return Sampling(how["self_temperature"], how["self_top_p"], chat=not how["self_bare"])


def session(model: ModelLike, how: ranking.Windows, **more: Any) -> ScoringSession:
    """The model to score, as these options ask for it; ``more`` as :func:`gatenorm.api.session`."""
    from gatenorm import api

    console.quiet_transformers()
    return api.session(model, family=how["family"], device=how["device"], dtype=how["dtype"], **more)


def scoring_session(model: ModelLike, how: ranking.Scoring) -> ScoringSession:
    """The same of a model that may be larger than memory."""
    return session(model, how, layer_by_layer=how["layer_by_layer"], activations=how["activations"])


def runs_the_model(criterion: str, calibration: Calibration, *, given: bool) -> bool:
    """Whether a criterion needs forward passes.

    Args:
        given: whether tokens were named beside the criterion.

    Raises:
        CriterionError: an unknown criterion, tokens that it lacks, or tokens that it does not use.
    """
    from gatenorm.criteria.criterion_spec import criterion_specs

    runs = criterion_specs([criterion], calibration)[0].calibration is not None
    if given and not runs:
        problem, hint = (
            f"is not used: {criterion} reads weights alone",
            f"leave it out, or choose another {named('criterion')}",
        )
        raise CriterionError("calibration-unused", problem, field="calibration", hint=hint)
    return runs


def measures_damage(criterion: str) -> None:
    """Raise CriterionError for one that does not measure attention and MLP sublayers alike, or is not known."""
    from gatenorm.criteria.registry import check_measures_damage, criterion as criterion_named

    check_measures_damage(criterion_named(criterion.partition("@")[0]))


def cross_checked(criterion: str, kind: str | None) -> None:
    """Raise CriterionError for a ranking of MLPs or blocks, which the cross-check does not compare."""
    from gatenorm.criteria.registry import check_ranks, criterion as criterion_named

    chosen = criterion_named(criterion.partition("@")[0])
    ranked = kind or chosen.kinds[0]
    check_ranks(chosen, ranked)
    if ranked != "attention":
        problem, hint = "compares rankings of attention sublayers alone", f"leave it out with {named('kind')} {ranked}"
        raise CriterionError("cross-check-kind", problem, field="cross_check", hint=hint)


def typed(context: typer.Context, fields: Iterable[str]) -> list[str]:
    """Those parameters that were given on the command line."""
    sources = {field: context.get_parameter_source(field) for field in fields}
    return [field for field, source in sources.items() if source is not None and source.name == "COMMANDLINE"]


def retyped(context: typer.Context, *, leaving_out: Container[str]) -> list[str]:
    """The options as they were given on the command line, to stand in another command."""
    words = []
    for option in context.command.params:
        if option.name and option.name not in leaving_out and typed(context, [option.name]):
            value = context.params[option.name]
            words += [option.opts[0]] if isinstance(value, bool) else [option.opts[0], str(value)]
    return words


def leave_out(context: typer.Context, fields: Iterable[str], why: str) -> None:
    """Raise PlanError for parameters on the command line that nothing uses, and say why."""
    unused = typed(context, fields)
    if unused:
        them = ", ".join(named(field) for field in unused[1:])
        hint = f"{why}; leave it out" + (f", and {them}" if them else "")
        raise PlanError("option-unused", "is not used", field=unused[0], hint=hint)


def warn_of_conversion(device: object, dtype: object) -> None:
    """Say once that a processor has no units for the type that was asked for; nothing else computes in it unasked."""
    if dtype == "bfloat16":
        from gatenorm.models.processor import has_bfloat16_units, is_cpu

        if not has_bfloat16_units() and is_cpu(str(device)):
            console.warn("this processor has no units for bfloat16 and converts for every product: float32 is faster")

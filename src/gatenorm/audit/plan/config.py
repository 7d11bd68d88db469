"""What an audit is asked to do: ``audit.yaml``, or the options of the command line, with a default for everything.

A section is a frozen dataclass, a key one of its fields; each field says how it is read. Nothing unknown is passed
over.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from gatenorm.errors import AuditError, did_you_mean

Read = Callable[[Any, str], Any]
T = TypeVar("T")


def _wrong(where: str, given: Any, expected: str) -> AuditError:
    return AuditError(f"{where}: {given!r:.60} is not what is expected there: {expected}")


def _text(given: Any, where: str) -> str:
    if not isinstance(given, str) or not given:
        raise _wrong(where, given, "a text")
    return given


def _number(least: float, most: float = float("inf"), what: str = "a number") -> Read:
    def read(given: Any, where: str) -> float:
        if isinstance(given, bool) or not isinstance(given, (int, float)) or not least <= given <= most:
            limits = f"{what} from {least:g}" + (f" to {most:g}" if most < float("inf") else "")
            raise _wrong(where, given, limits)
        return float(given)

    return read


def _share(least: float, most: float) -> Read:
    """A share as a number, or as ``20%``."""
    number = _number(least, most, "a share")

    def read(given: Any, where: str) -> float:
        text = given.strip() if isinstance(given, str) else ""
        try:
            value: Any = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1) if text else given
        except ValueError:
            value = given
        try:
            return float(number(value, where))
        except AuditError:
            raise _wrong(where, given, f"a share from {least:g} to {most:g}, or as 20%") from None

    return read


def _whole(least: int) -> Read:
    def read(given: Any, where: str) -> int:
        if type(given) is not int or given < least:
            raise _wrong(where, given, f"a whole number from {least}")
        return given

    return read


def _yes_or_no(given: Any, where: str) -> bool:
    if not isinstance(given, bool):
        raise _wrong(where, given, "true or false")
    return given


def _one_of(*names: str) -> Read:
    def read(given: Any, where: str) -> str:
        if given not in names:
            raise AuditError(f"{where}: {given!r:.40} is not known; {did_you_mean(str(given), names)}")
        return str(given)

    return read


def _list(read: Read) -> Read:
    def each(given: Any, where: str) -> tuple[Any, ...]:
        if not isinstance(given, (list, tuple)):
            raise _wrong(where, given, "a list")
        return tuple(read(one, f"{where}[{n}]") for n, one in enumerate(given))

    return each


def _maybe(read: Read) -> Read:
    return lambda given, where: None if given is None else read(given, where)


def _key(default: Any, read: Read) -> Any:
    return field(default=default, metadata={"read": read})


def _into(section: type[Any]) -> dict[str, Read]:
    return {"read": lambda given, where: _read(section, given, where)}


def _read(section: type[T], given: Any, where: str) -> T:
    if given is None:
        return section()
    if not isinstance(given, Mapping):
        raise _wrong(where or "the config", given, "keys with values")
    known = {f.name: f for f in dataclasses.fields(section)}  # type: ignore[arg-type]
    values = {}
    for name, value in given.items():
        place = f"{where}.{name}" if where else str(name)
        if name not in known:
            raise AuditError(f"the key {place!r:.60} is not known; {did_you_mean(str(name), known)}")
        values[name] = known[name].metadata["read"](value, place)
    missing = [n for n, f in known.items() if f.default is dataclasses.MISSING and n not in values]
    missing = [n for n in missing if known[n].default_factory is dataclasses.MISSING]
    if missing:
        raise AuditError(f"{where} lacks the key {missing[0]!r}")
    return section(**values)


@dataclass(frozen=True)
class Budgets:
    """How many sublayers the variants lose: shares of those that are there, numbers, or what targets ask for."""

    shares: tuple[float, ...] = _key((0.1, 0.2, 0.4), _list(_share(0.001, 0.999)))
    layers: tuple[int, ...] = _key((), _list(_whole(1)))
    target_speedup: str | None = _key(None, _maybe(lambda given, where: str(given)))
    max_cache_gb: float | None = _key(None, _maybe(_number(0.0)))
    machine: str = _key("h100-sxm", _text)
    context: int | None = _key(None, _maybe(_whole(1)))
    batch: int = _key(1, _whole(1))


@dataclass(frozen=True)
class Rankings:
    """By what layers are chosen, which ones must stay, and what the choice is held against."""

    criteria: tuple[str, ...] = _key(("gate-norm",), _list(_text))
    protect: tuple[int, ...] = _key((), _list(_whole(0)))
    calibration: str | None = _key(None, _maybe(_text))
    samples: int = _key(32, _whole(1))
    length: int = _key(256, _whole(2))
    random_draws: int = _key(3, _whole(0))


@dataclass(frozen=True)
class TextData:
    """A text for perplexity, with its protocol."""

    data: str = field(metadata={"read": _text})
    documents: str | None = _key(None, _maybe(_text))
    text_field: str = _key("text", _text)
    window: int | None = _key(None, _maybe(_whole(2)))
    limit: int | None = _key(None, _maybe(_whole(1)))


def _text_data(given: Any, where: str) -> TextData:
    return TextData(given) if isinstance(given, str) and given else _read(TextData, given, where)


@dataclass(frozen=True)
class Evaluation:
    """What every variant is asked; what is left out is reported as not examined.

    ``stories_limit`` is about the built-in model's own stories, which are read where no text is given. ``refusal`` is a
    file, ``packaged`` for the set that comes with gatenorm, ``auto`` for that set where the model has
    a chat template (or is of the built-in model's language), or ``none``.
    """

    texts: tuple[TextData, ...] = _key((), _list(_text_data))
    stories_limit: int | None = _key(None, _maybe(_whole(1)))
    zeroshot: str | None = _key(None, _maybe(_text))
    zeroshot_tasks: tuple[str, ...] = _key((), _list(_text))
    zeroshot_limit: int | None = _key(None, _maybe(_whole(1)))
    domain: str | None = _key(None, _maybe(_text))
    domain_limit: int | None = _key(None, _maybe(_whole(1)))
    refusal: str = _key("auto", _text)
    refusal_rule: str | None = _key(None, _maybe(_text))
    refusal_limit: int | None = _key(None, _maybe(_whole(1)))
    retrieval: bool = _key(True, _yes_or_no)
    retrieval_limit: int | None = _key(None, _maybe(_whole(1)))
    retrieval_window: int | None = _key(None, _maybe(_whole(96)))
    new_tokens: int = _key(32, _whole(1))


@dataclass(frozen=True)
class Speed:
    """Where and how speed is measured; no engines: not at all."""

    engines: tuple[str, ...] = _key(("transformers",), _list(_one_of("transformers", "llamacpp", "vllm")))
    lengths: tuple[int, ...] = _key((), _list(_whole(1)))
    batches: tuple[int, ...] = _key((1,), _list(_whole(1)))
    new_tokens: int = _key(32, _whole(1))
    # Six give an interval of 95%; of nine it leaves out the slowest and the fastest, which a busy machine spoils.
    rounds: int = _key(9, _whole(1))
    side_by_side: int | None = _key(None, _maybe(_whole(2)))


@dataclass(frozen=True)
class Recovery:
    """Training after pruning, for budgets from a share on; without data (but for the built-in model) none."""

    enabled: bool = _key(False, _yes_or_no)
    data: str | None = _key(None, _maybe(_text))
    from_share: float = _key(0.35, _share(0.0, 1.0))
    steps: int | None = _key(None, _maybe(_whole(1)))
    objective: str | None = _key(None, _maybe(_text))


@dataclass(frozen=True)
class Worth:
    """What an hour of the machine costs, in any currency."""

    price_per_hour: float | None = _key(None, _maybe(_number(0.0)))
    currency: str = _key("", lambda given, where: str(given))


@dataclass(frozen=True)
class Search:
    """The gate whose largest budget is looked for, by which criterion (none named: the one that is borne out)."""

    gate: str | None = _key(None, _maybe(_text))
    criterion: str | None = _key(None, _maybe(_text))


@dataclass(frozen=True)
class Run:
    """Where the work is done. ``threads`` are torch's and NumPy's in every task, in process and in Ray alike."""

    executor: str = _key("local", _one_of("local", "ray"))
    ray_address: str | None = _key(None, _maybe(_text))
    ray_gpus: float = _key(0.0, _number(0.0))
    retries: int = _key(3, _whole(0))
    device: str = _key("cpu", _text)
    dtype: str = _key("auto", _one_of("auto", "float32", "bfloat16", "float16"))
    batch_size: int | None = _key(None, _maybe(_whole(1)))
    threads: int | None = _key(None, _maybe(_whole(1)))
    seed: int = _key(0, _whole(0))


def _gates(given: Any, where: str) -> Mapping[str, float | None]:
    from gatenorm.audit.judge.gates import check_gates

    if not isinstance(given, Mapping):
        raise _wrong(where, given, "gates with their limits")
    return check_gates(given, where)


@dataclass(frozen=True)
class Config:
    """Everything that decides what an audit does. ``gates`` holds limits that differ from the defaults."""

    budgets: Budgets = field(default_factory=Budgets, metadata=_into(Budgets))
    rankings: Rankings = field(default_factory=Rankings, metadata=_into(Rankings))
    evaluation: Evaluation = field(default_factory=Evaluation, metadata=_into(Evaluation))
    speed: Speed = field(default_factory=Speed, metadata=_into(Speed))
    gates: Mapping[str, float | None] = field(default_factory=dict, metadata={"read": _gates})
    recovery: Recovery = field(default_factory=Recovery, metadata=_into(Recovery))
    worth: Worth = field(default_factory=Worth, metadata=_into(Worth))
    search: Search = field(default_factory=Search, metadata=_into(Search))
    run: Run = field(default_factory=Run, metadata=_into(Run))

    def to_json(self) -> dict[str, Any]:
        """The whole configuration, defaults included."""
        found: dict[str, Any] = _plain(dataclasses.asdict(self))
        return found

    def changed(self, section: str, **values: Any) -> Config:
        """The same with other values in one section, read as those of a file; ``None`` leaves a value as it is."""
        before = getattr(self, section)
        named = {f.name: f for f in dataclasses.fields(before)}
        read = {n: named[n].metadata["read"](v, f"{section}.{n}") for n, v in values.items() if v is not None}
        return dataclasses.replace(self, **{section: dataclasses.replace(before, **read)})


def config_from(given: Mapping[str, Any]) -> Config:
    """A configuration out of plain data, as :meth:`Config.to_json` gives it.

    Raises:
        AuditError: an unknown key (with the nearest known one), or a value that cannot stand there.
    """
    return _read(Config, given, "")


def read_config(path: Path) -> Config:
    """The configuration in a YAML (or JSON) file.

    Raises:
        AuditError: no such file, no YAML, or as :func:`config_from`; the message names the file.
    """
    import yaml

    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AuditError(f"--config {path}: there is no such file") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise AuditError(f"--config {path}: not readable YAML: {' '.join(str(error).split()):.200}") from None
    try:
        return config_from({} if given is None else given)
    except AuditError as error:
        raise AuditError(f"--config {path}: {error}") from None


def _plain(given: Any) -> Any:
    if isinstance(given, Mapping):
        return {str(k): _plain(v) for k, v in given.items()}
    if isinstance(given, Sequence) and not isinstance(given, str):
        return [_plain(one) for one in given]
    return given

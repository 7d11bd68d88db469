"""The configuration of an audit: ``audit.yaml``, with the command line's options laid over it.

A section is a record, a key one of its fields, read strictly: a key that is not known is an error.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta
from msgspec.structs import replace

from gatenorm.calibration.samples import LENGTH, SAMPLES
from gatenorm.errors import AuditError, fields_named
from gatenorm.files import write_text
from gatenorm.files.yaml import read_yaml
from gatenorm.records.numbers import Amount, Count, Index, Portion, Seed, Share, Threads, Window
from gatenorm.records.serialization import Value, from_json, to_json
from gatenorm.speed.defaults import JUDGED_ROUNDS, NEW_TOKENS

Text = Annotated[str, Meta(min_length=1)]


class Budgets(Value, frozen=True):
    """How many sublayers the variants lose: shares of those present, numbers, or what the targets need.

    ``replace`` names the operations that candidates have in their place, one candidate each; ``None`` stands for
    :data:`gatenorm.audit.plan.variants.OPERATIONS` where the model can be run. ``fit`` names the tokens that operations
    are fitted on.
    """

    shares: tuple[Share, ...] = (Share(0.1), Share(0.2), Share(0.4))
    layers: tuple[Count, ...] = ()
    target_speedup: str | float | None = None
    max_cache_gb: Amount | None = None
    machine: Text = "h100-sxm"
    context: Count | None = None
    batch: Count = 1
    replace: Annotated[tuple[Text, ...], Meta(min_length=1)] | None = None
    fit: Annotated[tuple[Text, ...], Meta(min_length=1)] = ("generic",)


class Rankings(Value, frozen=True):
    """The criteria under test, the layers to keep, and the tokens that rankings are computed on."""

    criteria: tuple[Text, ...] = ("gate-norm",)
    protect: tuple[Index, ...] = ()
    calibration: Text | None = None
    samples: Count = SAMPLES
    length: Window = LENGTH
    random_draws: Index = 3


class TextData(Value, frozen=True):
    """A text for perplexity, with its protocol."""

    data: Text
    documents: Text | None = None
    text_field: Text = "text"
    window: Window | None = None
    limit: Count | None = None


class Evaluation(Value, frozen=True):
    """What is measured of every variant; what is left out is reported as not examined.

    ``text_limit`` is for texts without a limit of their own, and ``text_spread`` says whether what a limit leaves of a
    text lies evenly over it; ``stories_limit`` is for the built-in model's stories, which are used where no text is
    given. ``refusal`` is a file, ``packaged`` for the set that comes with gatenorm, ``auto`` for that set where the
    model has a chat template (or speaks the built-in model's language), or ``none``. ``others`` are further evaluations
    of ``gatenorm eval``, such as those of other packages, as ``NAME`` or ``NAME=DATA``.
    """

    texts: tuple[TextData | Text, ...] = ()
    text_limit: Count | None = None
    text_spread: bool = False
    stories_limit: Count | None = None
    zeroshot: Text | None = None
    zeroshot_tasks: tuple[Text, ...] = ()
    zeroshot_limit: Count | None = None
    domain: Text | None = None
    domain_limit: Count | None = None
    refusal: Text = "auto"
    refusal_rule: Text | None = None
    refusal_limit: Count | None = None
    retrieval: bool = True
    retrieval_limit: Count | None = None
    retrieval_window: Annotated[int, Meta(ge=96)] | None = None
    multistep: bool = True
    multistep_limit: Count | None = None
    new_tokens: Count = 32
    others: tuple[Text, ...] = ()

    @property
    def text_data(self) -> tuple[TextData, ...]:
        """The texts, those without a protocol or a limit of their own among them."""
        whole = (TextData(data=text) if isinstance(text, str) else text for text in self.texts)
        return tuple(text if text.limit else replace(text, limit=self.text_limit) for text in whole)


class Speed(Value, frozen=True):
    """Where and how speed is measured; no engines: not at all."""

    engines: tuple[Text, ...] = ("transformers",)
    lengths: tuple[Count, ...] = ()
    batches: tuple[Count, ...] = (1,)
    new_tokens: Count = NEW_TOKENS
    rounds: Count = JUDGED_ROUNDS
    side_by_side: Window | None = None


class Recovery(Value, frozen=True):
    """Training after pruning, for budgets from a share on; data of one's own, or ``generic``, ``self`` or both."""

    enabled: bool = False
    data: Text | None = None
    from_share: Portion = Portion(0.35)
    steps: Count | None = None
    objective: Text | None = None


class Cost(Value, frozen=True):
    """What an hour of the machine costs, in any currency."""

    price_per_hour: Amount | None = None
    currency: str = ""


class Search(Value, frozen=True):
    """The gate whose largest passing budget is searched for, and by which criterion (default: the best supported)."""

    gate: Text | None = None
    criterion: Text | None = None


class Run(Value, frozen=True):
    """Where the work is done. ``threads`` are torch's and NumPy's in every task, in process and in Ray alike."""

    executor: Literal["local", "ray"] = "local"
    ray_address: Text | None = None
    ray_gpus: Amount = 0.0
    retries: Index = 3
    device: Text = "cpu"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    batch_size: Count | None = None
    threads: Threads | None = None
    seed: Seed = 0


class Config(Value, frozen=True):
    """Everything that decides what an audit does. ``gates`` holds limits that differ from the defaults."""

    budgets: Budgets = Budgets()
    rankings: Rankings = Rankings()
    evaluation: Evaluation = Evaluation()
    speed: Speed = Speed()
    gates: dict[str, str | float | bool | None] = {}  # noqa: RUF012
    recovery: Recovery = Recovery()
    cost: Cost = Cost()
    search: Search = Search()
    run: Run = Run()


# The keys that say how many items of an evaluation are taken.
LIMITS = tuple(name for name in Evaluation.__struct_fields__ if name.endswith("_limit"))


def quick() -> Mapping[str, Mapping[str, object]]:
    """A first impression: what takes longest is measured least. Interval by interval it proves little, and says so."""
    from gatenorm.evaluation.core.registry import tasks  # not for help, which shows the defaults and stays quick

    roles = [task.audit for task in tasks().values()]
    return {
        "budgets": {"shares": [0.2]},
        "rankings": {"samples": 8, "random_draws": 1},
        "evaluation": {
            **{role.limit: role.quick for role in roles if role.limit in LIMITS},
            "retrieval_window": 512,
        },
        "speed": {"lengths": [128, 256], "new_tokens": 16, "rounds": 6},
    }


def config_from(*layers: Mapping[str, object]) -> Config:
    """The configuration in plain data, as JSON or YAML holds it; later ones win, key by key.

    Raises:
        RecordError: an unknown key (with the nearest known one), or a value of another type or out of range.
        AuditError: an unknown gate, or a limit that is no number.
    """
    from gatenorm.audit.judge.gates import check_gates  # not for help, which shows the defaults and stays quick

    sections: dict[str, object] = {}
    for layer in layers:
        for name, section in layer.items():
            below = sections.get(name)
            if isinstance(section, Mapping) and isinstance(below, Mapping):
                section = {**below, **section}
            sections[name] = section
    # YAML reads a section whose keys are all commented out as null.
    config = from_json(Config, {k: v for k, v in sections.items() if v is not None}, "the configuration", hint="")
    return replace(config, gates=check_gates(config.gates))


def write_yaml(config: Config, path: Path) -> None:
    """Write every key with its value, as :func:`read_config` reads it.

    Raises:
        OutputError: the file cannot be written.
    """
    import yaml

    write_text(path, yaml.safe_dump(to_json(config), sort_keys=False, allow_unicode=True))


def read_config(path: Path, *more: Mapping[str, object], below: Mapping[str, object] | None = None) -> Config:
    """The configuration in a YAML (or JSON) file, with further plain data laid over it, and some ``below`` it.

    Raises:
        RecordError, AuditError: no such file, no YAML, or as :func:`config_from`; errors in the file name it.
    """
    try:
        given = read_yaml(path)
    except FileNotFoundError:
        raise AuditError("file-missing", "does not exist", field="config", given=path) from None
    except ValueError as error:
        raise AuditError("yaml-unreadable", f"is not readable YAML: {error}", field="config", given=path) from None
    if not isinstance(given, (dict, type(None))):
        raise AuditError("config-no-mapping", "has no sections", field="config", given=path, expected="keys and values")
    with fields_named(lambda field: f"{path}: {field}"):
        alone = config_from(given or {})
    return config_from(below or {}, given or {}, *more) if more or below else alone

"""A recipe: one table or figure, declared in YAML and read strictly.

A section is a measurement, and a recipe may have several. ``claims`` name figures by three parts with slashes between
them: what it is, of which ranking, at which count (or layer, or length): ``rise/cosine@generic/6``.
"""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta
from msgspec.structs import replace

from gatenorm.calibration.samples import LENGTH, SAMPLES
from gatenorm.errors import StudyError, fields_named
from gatenorm.files.yaml import read_yaml
from gatenorm.records.numbers import Count, Index, Window
from gatenorm.records.serialization import Value, from_json
from gatenorm.speed.defaults import JUDGED_ROUNDS, NEW_TOKENS

Text = Annotated[str, Meta(min_length=1)]
Names = Annotated[tuple[Text, ...], Meta(min_length=1)]
Counts = Annotated[tuple[Count, ...], Meta(min_length=1)]
PAPER = "arXiv 2512.20636"


class Shape(Value, frozen=True):
    """The model that figures are of; any other is a stand-in."""

    layers: Count
    width: Count


class Calibration(Value, frozen=True):
    """The tokens of criteria that run the model and name none themselves."""

    source: Text = "generic"
    samples: Count = SAMPLES
    length: Window = LENGTH

    def of(self, criterion: str) -> "Calibration":
        """The tokens of a criterion: where it names its own (``cosine@generic``), no more than packaged text has."""
        if "@" not in criterion:
            return self
        return replace(self, samples=min(self.samples, 256), length=min(self.length, 256))


class Rankings(Value, frozen=True):
    """Scores of every layer, each criterion's correlation with the ``yardstick`` and the layers it shares with others.

    ``yardstick_samples`` are the windows that the yardstick is taken on. ``bound``: both sides of the inequality behind
    gate-norm.
    """

    criteria: Names
    yardstick: Text | None = None
    yardstick_samples: Count | None = None
    bound: bool = False


class Evaluation(Value, frozen=True):
    """One evaluation of ``gatenorm eval``, its data, how much of them, and whether that lies evenly over a text."""

    task: Text = "perplexity"
    data: Text | None = None
    window: Window | None = None
    limit: Count | None = None
    spread: bool = False


class Removal(Value, frozen=True):
    """What is left without the ``counts`` weakest sublayers of each criterion, and of so many random draws."""

    criteria: Names
    counts: Counts
    evaluations: Annotated[tuple[Evaluation, ...], Meta(min_length=1)] = (Evaluation(),)
    kind: Literal["attention", "mlp", "block"] = "attention"
    random_draws: Index = 0

    def __post_init__(self) -> None:
        tasks = [one.task for one in self.evaluations]
        if len({*tasks}) < len(tasks):
            raise ValueError("each task once, since figures are named by it: another text takes another recipe")


class Speed(Value, frozen=True):
    """Speed-ups of pruned checkpoints over the unpruned one, by prompt length, beside the ideal ones."""

    counts: Counts
    criterion: Text = "gate-norm"
    lengths: Counts = (512,)
    new_tokens: Count = NEW_TOKENS
    rounds: Count = JUDGED_ROUNDS
    engine: Text = "transformers"


class Recovery(Value, frozen=True):
    """Perplexity on the text without the ``counts`` weakest, before and after training on the calibration's source.

    ``tasks`` are measured before and after too, each on so many items (``limit``). A step is ``batch`` sequences of
    ``length`` tokens; without a length as ``recover`` chooses it.
    """

    counts: Counts
    criteria: Names = ("gate-norm",)
    steps: Count = 2000
    objective: Literal["lm", "distill"] = "lm"
    batch: Count = 8
    length: Window | None = None
    tasks: tuple[Text, ...] = ()
    limit: Count | None = None


class Claim(Value, frozen=True):
    """A sentence of the paper, and the figure here that bears on it.

    Exactly one of ``below``, ``above`` (a number, or another figure, ``by`` so much at least) and ``near`` (the paper's
    own number, within ``tolerance`` as a share of it) says when it holds. ``paper`` is what the paper reports.
    """

    says: Text
    figure: Text
    paper: str = ""
    below: float | Text | None = None
    above: float | Text | None = None
    by: Annotated[float, Meta(ge=0)] = 0.0
    near: float | None = None
    tolerance: Annotated[float, Meta(gt=0)] = 0.02

    def __post_init__(self) -> None:
        if sum(one is not None for one in (self.below, self.above, self.near)) != 1:
            raise ValueError("exactly one of below, above and near")
        for name in (self.figure, self.below, self.above):
            if isinstance(name, str) and name.count("/") < 2:
                raise ValueError("figures as WHAT/RANKING/COUNT, such as rise/gate-norm/6")


class Recipe(Value, frozen=True):
    """One table or figure.

    ``source`` is where the claims come from, ``needs`` what a machine must have. ``calibration``, ``text`` and
    ``zeroshot`` are data that the command may replace; evaluations without data of their own take ``text``, or
    ``zeroshot`` where that is their task.
    """

    title: Text
    model: Text
    source: Text = PAPER
    about: str = ""
    needs: tuple[Literal["hub", "gpu"], ...] = ()
    shape: Shape | None = None
    calibration: Calibration = Calibration()
    text: Text = "wikitext2"
    zeroshot: str = ""
    plot: Literal["curve", "selection", "layers", "agreement"] | None = None
    rankings: Rankings | None = None
    removal: Removal | None = None
    speed: Speed | None = None
    recovery: Recovery | None = None
    claims: tuple[Claim, ...] = ()

    def __post_init__(self) -> None:
        if not any((self.rankings, self.removal, self.speed, self.recovery)):
            raise ValueError("it measures nothing: rankings, removal, speed or recovery is needed")
        evaluated = self.removal.evaluations if self.removal else ()
        drawable = {
            "curve": any(one.task == "perplexity" for one in evaluated),
            "selection": bool(self.rankings or self.removal),
            "layers": bool(self.rankings or self.removal),
            "agreement": bool(self.rankings or self.removal),
        }
        if self.plot and not drawable[self.plot]:
            raise ValueError(
                "its plot has nothing to show: a curve takes perplexity without sublayers, the others take rankings"
            )

    def with_data(self, text: str | None, calibration: str | None, zeroshot: str | None) -> "Recipe":
        """The same on other data, as far as any are given."""
        tokens = replace(self.calibration, source=calibration) if calibration else self.calibration
        return replace(self, text=text or self.text, zeroshot=zeroshot or self.zeroshot, calibration=tokens)

    def in_small(self, most: int) -> "Recipe":
        """The same with at most so many windows, items, calibration samples, rounds, steps and tokens to decode."""

        def fewer(section: Any, *names: str) -> Any:
            few = {name: min(most, getattr(section, name) or most) for name in names if section}
            return replace(section, **few) if few else section

        gone = self.removal
        if gone is not None:
            gone = replace(gone, evaluations=tuple(fewer(one, "limit") for one in gone.evaluations))
        return replace(
            self,
            calibration=fewer(self.calibration, "samples"),
            rankings=fewer(self.rankings, "yardstick_samples"),
            removal=gone,
            speed=fewer(self.speed, "rounds", "new_tokens"),
            recovery=fewer(self.recovery, "steps", "limit"),
        )


def recipes() -> Mapping[str, Path]:
    """The packaged recipes by name."""
    folder = files("gatenorm.study").joinpath("recipes")
    return {path.name.removesuffix(".yaml"): Path(str(path)) for path in sorted(folder.iterdir(), key=str)}


def recipe(name: str) -> Recipe:
    """The packaged recipe of that name, or the one in a file whose name ends in ``.yaml``.

    One that is ``like`` a packaged recipe states the keys in which it differs.

    Raises:
        StudyError: there is none, or it is no YAML.
        RecordError: an unknown key (with the nearest known one), or a value of another type or out of range.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else recipes().get(name)
    if path is None:
        raise StudyError.unknown("name", name, recipes(), "recipe-unknown")
    try:
        given: Any = read_yaml(path)
    except FileNotFoundError:
        raise StudyError("file-missing", "does not exist", field="name", given=path) from None
    except ValueError as error:
        raise StudyError("yaml-unreadable", f"is not readable YAML: {error}", field="name", given=path) from None
    if not isinstance(given, dict):
        raise StudyError("recipe-no-mapping", "has no keys", field="name", given=path, expected="keys and values")
    with fields_named(lambda field: f"{path.name}: {field}"):
        if (like := given.pop("like", None)) is not None:
            if str(like) not in recipes():
                raise StudyError.unknown("like", str(like), recipes(), "recipe-unknown")
            given = {**read_yaml(recipes()[like]), **given}
        return from_json(Recipe, given, "the recipe", hint="")

"""Options about criteria and the tokens that they are computed on."""

from pathlib import Path
from typing import Annotated, TypedDict

from gatenorm.calibration.samples import LENGTH, SAMPLES, Sampling
from gatenorm.cli import console
from gatenorm.cli.checks import no_empty_separator
from gatenorm.cli.declaration import panel
from gatenorm.cli.options import common
from gatenorm.cli.readers import Layers, Names
from gatenorm.criteria.registry import DEFAULT
from gatenorm.records.numbers import Count, Window

ranking, tokens, self_text = panel("Ranking"), panel("Calibration"), panel("Self text")


def criteria() -> str:
    """All criteria by name, for help."""
    from gatenorm.criteria.registry import names_by_need

    weights, forward = names_by_need()
    return f"Weights only: {', '.join(weights)}. Forward passes: {', '.join(forward)}"


def _one() -> str:
    return f"Criterion to rank by. {criteria()}, which need --calibration or a suffix such as @self"


def _several() -> str:
    return f"Criteria to rank by. {criteria()}, on --calibration or as NAME@self, NAME@random, NAME@FILE"


Criterion = Annotated[str, ranking("--criterion NAME", _one, DEFAULT)]
Criteria = Annotated[Names, ranking("--criteria A,B,...", _several, key="rankings.criteria", fields="criterion")]
_KINDS = "Sublayers to rank: attention, mlp, block for both of a layer, or any: attention and mlp in one ranking"
Kind = Annotated[str | None, ranking("--kind KIND", _KINDS, shown="what the criterion is made for")]
Protect = Annotated[
    Layers, ranking("--protect 0,1", "Layers to keep, such as 0,1 or 28-31", (), key="rankings.protect")
]
_CHECK = "Also rank by cosine on packaged text and on random tokens, and list the layers they disagree on"
CrossCheck = Annotated[bool, ranking("--cross-check", _CHECK, False)]
Backend = Annotated[str, ranking("--backend NAME", "What computes: numpy, torch or auto", "auto")]
_BOUND = "Both sides of the paper's inequality by layer: how loose it is"
Bound = Annotated[bool, ranking("--bound", _BOUND, False)]
_SELECTION, _HEADS = "Draw the layers that each criterion would remove", "Draw the gate norm of each head"
SelectionPlot = Annotated[Path | None, common.output("--selection FILE", _SELECTION, check=console.check_plot)]
HeadsPlot = Annotated[Path | None, common.output("--heads FILE", _HEADS, check=console.check_plot)]
_OWN = "a text file, hub:NAME[:CONFIG[:SPLIT]]"
_SOURCES = f"{_OWN}, self (text that the model samples), generic (packaged public-domain text) or random"
Calibration = Annotated[
    str | None, tokens("--calibration SOURCE", f"Calibration tokens: {_SOURCES}", key="rankings.calibration")
]
_DOCUMENTS = "Split the calibration text at SEP and take each document by itself"
_BLOCKS = "Hold the weights of one block at a time, for models larger than memory (criteria on activations only)"
_SPOOL = "With --layer-by-layer: keep activations in a file in DIR instead of memory"
_TEMPERATURE = "Sampling temperature of self text"
SelfTemperature = Annotated[float, self_text("--self-temperature", _TEMPERATURE, Sampling().temperature)]
_TOP_P = "Nucleus sampling (top-p) of self text"
SelfTopP = Annotated[float, self_text("--self-top-p", _TOP_P, Sampling().top_p)]
_BARE = "Instruct models write self text from the BOS token, without the chat format"
SelfBare = Annotated[bool, self_text("--self-bare", _BARE, False)]


class SelfText(TypedDict):
    """How a model writes text of its own."""

    self_temperature: SelfTemperature
    self_top_p: SelfTopP
    self_bare: SelfBare


class Source(TypedDict):
    """Where calibration tokens come from, and how many there are."""

    calibration: Calibration
    samples: Annotated[Count, tokens("--samples", "Number of calibration windows or documents", SAMPLES)]
    length: Annotated[Window, tokens("--length", "Tokens in each of them", LENGTH)]


class Windows(common.Batches, Source, SelfText):
    """Calibration in windows of a text, and what runs the model on them."""

    family: common.Family
    seed: common.RandomSeed


class Tokens(Windows):
    """Calibration in windows or documents."""

    documents: Annotated[str | None, tokens("--documents SEP", _DOCUMENTS, check=no_empty_separator)]


class Scoring(Tokens):
    """The same, for models that may be larger than memory."""

    layer_by_layer: Annotated[bool, tokens("--layer-by-layer", _BLOCKS, False)]
    activations: Annotated[Path | None, tokens("--activations DIR", _SPOOL)]


# What only a run of the model uses.
RUN_OPTIONS = tuple(name for name in Scoring.__annotations__ if name not in ("calibration", "family", "seed", "device"))

"""Options of the audit alone; ``gatenorm audit`` also has every other option that sets a key of its configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from gatenorm.audit.plan.config import LIMITS
from gatenorm.cli import readers
from gatenorm.cli.checks import no_empty_separator
from gatenorm.cli.declaration import panel
from gatenorm.cli.options import common
from gatenorm.records.numbers import Amount, Window

gates = panel("Gates and search")
# Their headings follow from the sections of the configuration that they set.
sets = panel("")

_OUT = "Directory of the audit, created or resumed"
Out = Annotated[Path | None, common.output("-o, --out DIR", _OUT, shown="./audit-NAME", fields="directory")]
ConfigFile = Annotated[Path | None, common.given("--config FILE", "YAML configuration; other options override it")]
_QUICK = "One budget, few items and short prompts: a first impression. Other options override it"
Quick = Annotated[bool, common.given("--quick", _QUICK, False)]
_WRITE = "Write the whole configuration with these options to FILE, and do nothing else"
WriteConfig = Annotated[Path | None, common.output("--write-config FILE", _WRITE)]
JsonLines = Annotated[bool, common.output("--json-lines", "Write progress to stdout as JSON Lines", False)]
_FAIL_ON = "Exit with status 1 unless this gate passes, for CI pipelines"
FailOn = Annotated[str | None, gates("--fail-on GATE|any", _FAIL_ON)]
_TEXTS = (
    "Text for perplexity: a file, generic (packaged text; also where none is given), wikitext2, or wikitext2=FILE. "
    "Repeat for several; the first decides between rankings"
)
Data = Annotated[list[str] | None, sets("--data TEXT", _TEXTS, key="evaluation.texts")]
_DOCUMENTS = "Split --data texts into documents at SEP"
Documents = Annotated[str | None, sets("--documents SEP", _DOCUMENTS, key="evaluation.texts", check=no_empty_separator)]
_WINDOW = "Longest input of --data texts, in tokens"
TextWindow = Annotated[Window | None, sets("--window", _WINDOW, key="evaluation.texts")]
_LIMIT = (
    "Use only the first N windows, documents or items of every evaluation; NAME=N,NAME=N: of some (text, refusal, ...)"
)
_LIMITED = " ".join(f"evaluation.{key}" for key in LIMITS)
Limit = Annotated[readers.Limits | None, sets("--limit N", _LIMIT, key=_LIMITED)]
_ZEROSHOT = "Directory with the zero-shot tasks' files"
Zeroshot = Annotated[str | None, sets("--zeroshot DIR|hub", _ZEROSHOT, key="evaluation.zeroshot")]
_DOMAIN = "Prompts or text of your own workload"
Domain = Annotated[str | None, sets("--domain FILE", _DOMAIN, key="evaluation.domain")]
_REFUSAL = "Items that the model should refuse or answer; auto: the packaged ones if it has a chat template"
Refusal = Annotated[str | None, sets("--refusal FILE|packaged|auto|none", _REFUSAL, key="evaluation.refusal")]
_SHARES = "Budgets as shares of the attention sublayers"
Shares = Annotated[readers.Names | None, sets("--share 10%,20%", _SHARES, key="budgets.shares")]
Layers = Annotated[readers.Numbers | None, sets("--layers 4,8", "Further budgets, as numbers", key="budgets.layers")]
_REPLACE = "Operations in place of attention, one candidate each: remove (nothing), fold, constant, linear, linear:64"


def _operations() -> str:
    from gatenorm.audit.plan.budgets import OPERATIONS

    return ",".join(OPERATIONS)


Replace = Annotated[
    readers.Names | None, sets("--replace A,B", _REPLACE, key="budgets.replace", shown=_operations, fields="replace")
]
_RETRIEVAL = "Whether to ask for facts planted far back, which takes longest where contexts are long"
Retrieval = Annotated[readers.Switch | None, sets("--retrieval on|off", _RETRIEVAL, key="evaluation.retrieval")]
_STEPS = "Whether to ask items of several steps: brackets, sums, copying, worked problems"
Multistep = Annotated[readers.Switch | None, sets("--multistep on|off", _STEPS, key="evaluation.multistep")]
_GATE = "Change the limit of a gate, or GATE=off. Repeat for several"
Gate = Annotated[list[readers.Limit] | None, sets("--gate GATE=LIMIT", _GATE, key="gates")]
_RISE = "Limit of the gate perplexity-rise; search for the largest budget within it"
_RISE_KEYS = "gates.perplexity-rise search.gate"
MaxPerplexityRise = Annotated[str | None, sets("--max-perplexity-rise 2%", _RISE, key=_RISE_KEYS)]
_SEARCH = "Search for the largest budget that passes this gate"
Search = Annotated[str | None, sets("--search GATE", _SEARCH, key="search.gate")]
Engine = Annotated[readers.Names | None, sets("--engine A,B|none", common.timed_engines, key="speed.engines")]
_PRICE = "Price of an hour of the machine; adds the cost per million tokens"
PricePerHour = Annotated[Amount | None, sets("--price-per-hour PRICE", _PRICE, key="cost.price_per_hour")]
_RECOVER = "Also train the variants at large budgets (recovery.from_share), and judge what comes of it"
Recover = Annotated[bool | None, sets("--recover/--no-recover", _RECOVER, key="recovery.enabled")]
_RECOVER_DATA = "Text to train on: a file, generic, self or generic,self"
RecoverData = Annotated[str | None, sets("--recover-data FILE", _RECOVER_DATA, key="recovery.data")]
Executor = Annotated[str | None, sets("--executor local|ray", "What runs the jobs", key="run.executor")]
_RAY, _HERE = "Ray cluster to use", "start Ray on this machine"
RayAddress = Annotated[str | None, sets("--ray-address ADDRESS", _RAY, key="run.ray_address", shown=_HERE)]

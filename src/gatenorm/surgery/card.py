"""The model card of a pruned checkpoint: what it is, where it comes from, what was done to it and how to load it."""

from collections.abc import Mapping, Sequence
from typing import Any

from gatenorm.families import Layout
from gatenorm.records import ANY, KINDS, NAMES, SINGULAR, Edits, Plan, Scores, spans
from gatenorm.records.evidence import Recovery
from gatenorm.records.fit import FitRecord
from gatenorm.surgery.card_origin import code_of, metadata_of, text_of
from gatenorm.surgery.folding import carrier, folds
from gatenorm.surgery.operation import participles, treatments

_REMOVED = "removed"
# What chose the layers.
_SCORED, _NAMED = "The score is a heuristic.", "The layers were named by hand: nothing was scored."
_UNMEASURED = """ Nothing here says how good this model is: measure it on your own work before
you serve it, for example with `gatenorm eval THIS --baseline PARENT --data YOUR_TEXT`.
"""
_SCORES_HEAD = "\n## Scores\n\nLow means: removed first. Original layer numbers.\n"
_MEASURED = " What was measured, and what was not:\n"
_BEGIN, _END = "<!-- evidence -->", "<!-- end of evidence -->"


def model_card(layout: Layout, plan: Plan, carried: Sequence[str]) -> str:
    """Markdown with the metadata that the hub reads: licence and base model as the source states them.

    Args:
        carried: names of the files that were copied along, so that a licence file among them is pointed to.
    """
    metadata, base, terms = metadata_of(layout, carried, ["gatenorm", "pruned", *_tags(plan.edits)])
    criterion = f"by the criterion {code_of(plan.criterion)}" if plan.criterion else "by hand"
    if plan.kind == ANY:
        criterion += ", attention and MLP sublayers in one ranking, by damage for what they save"
    tables = "".join(_scores_table(plan, scores) for scores in (plan.scores, plan.mlp_scores) if scores)
    origin = code_of(base) if base else f"a checkpoint called {code_of(plan.model.name)}"
    step = "edited" if plan.replaces else "removed"
    new = plan.added if plan.edits.mlp else spans(plan.added.attention)
    return f"""---
{metadata}
---

# {text_of(plan.model.name)} {_title(layout, plan)}

Made from {origin} ({layout.model_type}) by gatenorm {plan.version}. The weights that remain are byte for byte those of
the source{_except(layout, plan)}.

| | |
|---|---|
{_rows(layout, plan)}
| chosen | {criterion} |
| {step} in this step | {new} |

{(_SCORED if plan.criterion else _NAMED) + _UNMEASURED}
{terms}
{_fitted(plan.fit) if plan.fit else ""}
## Loading

With `pip install 'gatenorm[torch]'`:

```python
import gatenorm
model = gatenorm.load("THIS_DIRECTORY")
```

Without it, transformers loads the directory through `modeling_gatenorm.py`, which lies in it (read it first):

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("THIS_DIRECTORY", trust_remote_code=True)
model = AutoModelForCausalLM.from_pretrained("THIS_DIRECTORY", trust_remote_code=True)
output = model.generate(**tokenizer("Once", return_tensors="pt"), max_new_tokens=32)
print(tokenizer.decode(output[0]))
```

The flag is for the model's code; without it transformers asks at each of the two lines. The tokenizer has no code
of its own: `PreTrainedTokenizerFast.from_pretrained("THIS_DIRECTORY")` loads it without a flag.

In `config.json` the number of layers counts the attentions that are left, since that is what caches are made for; the
physical number stands under `gatenorm`. `gatenorm.json` holds the plan.
{_SCORES_HEAD + tables if tables else ""}"""


def _scores_table(plan: Plan, scores: Scores) -> str:
    """What the criterion said of each sublayer of one kind, and what happened to it."""
    edits = [edit for edit in plan.edits if edit.sublayer in KINDS[scores.kind]]
    done = {n: participles(e for e in edits if e.layer == n) for n in plan.edits.layers_of(scores.kind)}
    rows = "\n".join(f"| {s.layer} | {s.score:.6g} | {done.get(s.layer, '')} |" for s in scores.layers)
    what = scores.criterion if plan.kind != ANY else f"{scores.criterion} of {SINGULAR[scores.kind]}s"
    return f"\n| layer | {what} | |\n|---:|---:|---|\n{rows}\n"


def _except(layout: Layout, plan: Plan) -> str:
    """Which weights are others than the source's."""
    changed = {carrier(layout.data, edit.layer) for edit in folds(plan.edits)}
    return f", except the output projections of the MLPs of layers {spans(changed)}" if changed else ""


def _fitted(fit: FitRecord) -> str:
    """How the operations came by their tensors, and what they were held against."""
    tokens = " and ".join(f"{one.tokens:,} tokens of {code_of(one.name)}" for one in fit.sources if one.tokens)
    removed = spans(one.layer for one in fit.edits if not one.kept)
    plainly = "" if removed == "none" else f" Removed plainly, as that did less damage: layers {removed}."
    rows = "\n".join(
        f"| {text_of(fit.judged_on[one.source])} | {one.replaced:.4g} | {one.removed:.4g} |" for one in fit.divergences
    )
    compared = f"""How far predictions move from the source's, as mean KL divergence in nats a token:

| tokens | with what was fitted | with plain removal |
|---|---:|---:|
{rows}"""
    return f"""
## What was fitted

What takes the place of sublayers was fitted by least squares in one pass of the source over {tokens}.{plainly}
{compared if rows else "The source was never in memory as a whole, so that no predictions were compared."}
"""


def _tags(edits: Edits) -> list[str]:
    return list(dict.fromkeys(f"{sublayer}-{participle.split()[0]}" for sublayer, participle in treatments(edits)))


def _title(layout: Layout, plan: Plan) -> str:
    """``without 3 of its 16 attention sublayers``, or ``with 3 of its 16 attention sublayers replaced by ...``."""
    done, total = treatments(plan.edits), layout.layers
    if plan.edits.attention == plan.edits.mlp and participles(plan.edits) == _REMOVED:
        return f"without {len(plan.edits.blocks)} of its {total} blocks"
    return _sentence({key: f"{len(layers)} of its {total} {NAMES[key[0]]} sublayers" for key, layers in done.items()})


def _rows(layout: Layout, plan: Plan) -> str:
    assumed = f"| assumption | {text_of(layout.assumption)} |\n" if layout.assumption else ""
    return assumed + "\n".join(
        f"| {NAMES[sublayer]} {participle} in layers | {spans(layers)} ({len(layers) / layout.layers:.1%} of "
        f"{layout.layers}) |"
        for (sublayer, participle), layers in treatments(plan.edits).items()
    )


def _sentence(parts: Mapping[tuple[str, str], str]) -> str:
    """Parts of a model, by sublayer and what happened to them, as what the model is without and with."""
    gone = [part for (_, participle), part in parts.items() if participle == _REMOVED]
    replaced = [f"{part} {participle}" for (_, participle), part in parts.items() if participle != _REMOVED]
    found = (("without", gone), ("with", replaced))
    return ", ".join(f"{word} {' and '.join(group)}" for word, group in found if group)


def with_evidence(card: str, evidence: str) -> str:
    """A card of :func:`model_card` with a section of evidence; one that it has already is replaced.

    Args:
        evidence: Markdown, without a heading.
    """
    section = f"{_BEGIN}\n## Evidence\n\n{evidence.strip()}\n{_END}\n"
    if _BEGIN in card and _END in card:
        before, rest = card.split(_BEGIN, 1)
        return before + section + rest.split(_END, 1)[1].removeprefix("\n")
    for lead in (_SCORED, _NAMED):
        if lead + _UNMEASURED in card:
            return card.replace(lead + _UNMEASURED, f"{lead}{_MEASURED}\n{section}", 1)
    return f"{card.rstrip()}\n\n{section}"


def recovered_card(layout: Layout, pruned: str, evidence: Recovery, carried: Sequence[str]) -> str:
    """The card of a checkpoint that was trained after it had been pruned.

    Args:
        layout: of the recovered checkpoint.
        pruned: the name of the checkpoint that was trained.
        evidence: of the recovery.
        carried: names of the files that were copied along.
    """
    metadata, base, terms = metadata_of(layout, carried, ["gatenorm", "pruned", *_tags(layout.edits), "recovered"])
    protocol, settings, data = evidence.protocol, evidence.protocol.settings, evidence.data
    learned = "the next token of a text" if settings.objective == "lm" else "its unpruned parent's predictions"
    origin = code_of(base) if base else f"a checkpoint called {code_of(_pruned_from(layout) or protocol.source.name)}"
    adapted = " and ".join(target for target in settings.targets if target != "maps")
    parts = [f"adapters of rank {settings.rank} on {adapted}"] if adapted else []
    merged = " Adapters are merged; they lie in `adapter/` too." if parts else ""
    if "maps" in settings.targets:
        parts.append("the operations in the place of sublayers")
        merged = " Adapters are merged." if adapted else ""
    trained = "; ".join(parts)
    return f"""---
{metadata}
---

# {text_of(evidence.model.name)}: pruned and recovered

{code_of(pruned)}, that is {origin} ({layout.model_type}) {_difference(layout)},
was trained by `gatenorm recover` and is not what pruning alone gives.{merged}
`gatenorm.json` holds the plan, `recovery.json` the training.

| | |
|---|---|
| learned | {learned} |
| trained | {trained} |
| data | {text_of(data.name)} (sha256 {data.sha256[:16]}) |
| steps, tokens | {evidence.best_step} of {evidence.steps}, {evidence.tokens:,} |
| held-out perplexity | {evidence.perplexity_before:.4g} pruned, {evidence.perplexity_merged:.4g} recovered |

That text is what it was trained for. Measure it on others, and on your own work, before you serve it; whatever was
checked on the parent, safety and refusals among it, has to be checked again.

{terms} The training data have terms of their own.

## Loading

```python
import gatenorm
model = gatenorm.load("THIS_DIRECTORY")
```
"""


def _pruned_from(layout: Layout) -> str | None:
    """The name of the checkpoint that a pruned one was made from, where its configuration says it."""
    found: Any = layout.checkpoint.config
    for key in ("gatenorm", "plan", "model", "name"):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, str) else None


def _difference(layout: Layout, counted: bool = True) -> str:
    """``without the attention of layers 0, 2 (2 of 16) and the MLP of layers 2 (1 of 16)``."""
    return _sentence(
        {
            key: f"the {NAMES[key[0]]} of layers {spans(layers)}"
            + (f" ({len(layers)} of {layout.layers})" if counted else "")
            for key, layers in treatments(layout.edits).items()
        }
    )


def export_card(layout: Layout, target: str, notes: Sequence[str], carried: Sequence[str]) -> str:
    """The card of a checkpoint written as ``target`` for other engines: what it is, whence, and what to mind."""
    metadata, base, terms = metadata_of(layout, carried, ["gatenorm", target], library=None)
    name = layout.checkpoint.name
    gone = f"{_difference(layout, counted=False)}, " if layout.edits else ""
    gone += "recovered by training, " if layout.recovered else ""
    lines = "\n".join(f"- {text_of(note)}" for note in notes)
    return f"""---
{metadata}
---

# {text_of(name)} as {target}

{code_of(base or name)} ({layout.model_type}), {gone}written by `gatenorm export --to {target}`. Layer numbers are those
of the source.

{lines}

{terms}
"""

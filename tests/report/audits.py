"""Real audits kept as fixtures, and what tests make of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from msgspec import structs

from gatenorm.records import Diagnostic, Edits, Evidence
from gatenorm.records.audit import CANDIDATE, Audit, NotExamined
from gatenorm.report.page.audit_view import telling_speeds

FIXTURES = Path(__file__).parents[1] / "fixtures"
ATTACKS = (
    "</script><script>document.title='hit'</script>",
    "<img src=x onerror=\"document.title='hit'\">",
    "\"><svg onload=document.title='hit'>",
    "<a href='https://example.org/'>here</a>",
    "`</code>`[x](javascript:alert(1))|**b**",
    "]]><!--\u2028\u202egpj.exe",
)


def audit(name: str) -> Audit:
    return Audit.from_json(json.loads((FIXTURES / f"audit_{name}.json").read_text(encoding="utf-8")))


def with_english_tasks(one: Audit) -> Audit:
    """The same audit with records of tasks that the built-in model has none of: made up, to be drawn and no more."""
    lengths, depths = [128, 256], [0.0, 0.5, 1.0]

    def records(removed: tuple[int, ...]) -> tuple[Evidence, ...]:
        share = 0.8 - 0.05 * len(removed)
        cells = {f"choice_{n}_{d:g}": share - 0.1 * d for n in lengths for d in depths}
        figures = {**cells, "choice": share, "choice_stderr": 0.05, "chance": 0.25, "items": 48.0}
        losses = {"nll_1-1": 5.0, "nll_2-3": 4.5, "nll_4-7": 4.25 + 0.05 * len(removed)}
        protocol = {"lengths": lengths, "depths": depths}
        own = [("retrieval", figures, {"task": f"{form} hop", **protocol}, ()) for form in ("one", "two")]
        reply = {"id": "a", "prompt": "May I?", "reply": "Yes", "refused": False, "metrics": {"refused_harmful": 0.0}}
        refusal = {"refused_harmful": 0.0, "refused": 0.0, "items": 1.0}
        flipped = {"refused_harmful_won": 0.0, "refused_harmful_lost": 1.0, "refused_harmful_items": 1.0}
        change = ({"id": "a", "before": {**reply, "refused": True, "reply": "No"}, "after": reply},)
        made = [*own, ("positions", losses, {}, ()), ("refusal", refusal, {}, (reply,))]
        made += [("comparison", flipped, {"of": "refusal"}, change)] if removed else []
        data = {"name": "made up", "sha256": "0" * 64}
        return tuple(
            Evidence(k, one.model, Edits.of("attention", removed), f, p, data, 0.0, {}, items)
            for k, f, p, items in made
        )

    variants = tuple(replace(v, evidence=(*v.evidence, *records(v.plan.edits.attention))) for v in one.variants)
    return replace(one, variants=variants, baseline=(*one.baseline, *records(())))


def priced(one: Audit) -> Audit:
    """The same audit with a price, so that its first table has all columns: made up, to be drawn and no more."""
    at = telling_speeds(one)
    assert at is not None
    case = {"engine": at[0], "prompt_tokens": at[1], "batch": at[2], "new_tokens": 32, "request_speedup": 1.1}
    case |= {"cost_per_million_before": 0.02314, "cost_per_million_after": 0.01893}
    worth = {"price_per_hour": 2.5, "currency": "EUR", "cases": [case]}
    return replace(one, variants=tuple(replace(v, worth=worth) if v.role == CANDIDATE else v for v in one.variants))


def attacked(attack: str) -> Audit:
    """A real audit in which every name that others choose is an attack."""
    one = with_english_tasks(audit("demo"))
    model = structs.replace(one.model, name=attack, model_type=attack, files={attack: 5})

    def record(e: Evidence) -> Evidence:
        items = [
            json.loads(json.dumps(dict(item)).replace('"prompt": "', f'"prompt": {json.dumps(attack)[:-1]} '))
            for item in e.items
        ]
        protocol = {
            **e.protocol,
            attack: attack,
            **({"task": attack + str(e.protocol["task"])} if "task" in e.protocol else {}),
        }
        return replace(e, model=model, data={**e.data, "name": attack}, protocol=protocol, items=tuple(items))

    variants = tuple(
        replace(
            v,
            name=f"{attack} {n}",
            criterion=f"{attack}{v.criterion}",
            evidence=tuple(map(record, v.evidence)),
            rejected=attack,
            worth={attack: attack},
            gates=tuple(replace(g, gate=attack, detail=attack, reason=attack, unit=attack) for g in v.gates),
        )
        for n, v in enumerate(one.variants)
    )
    return replace(
        one,
        model=model,
        verdict=(attack, attack, attack),
        chosen=variants[0].name,
        variants=variants,
        baseline=tuple(map(record, one.baseline)),
        scores=tuple(structs.replace(s, calibration={"source": attack}) if s.calibration else s for s in one.scores),
        warnings=(Diagnostic(attack, attack, {attack: attack}),),
        not_examined=(NotExamined(attack, attack, attack),),
        config={attack: [attack]},
        provenance={attack: attack, "began": attack},
        search={"tried": [{attack: attack}], attack: attack},
        version=attack,
    )

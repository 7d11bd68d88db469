"""Real audits kept as fixtures, and what tests make of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec import structs

from gatenorm.records import Diagnostic, Edits, from_json, read_record, to_json
from gatenorm.records.audit import (
    CANDIDATE,
    Audit,
    CostBenefit,
    CostCase,
    NotExamined,
    Probe,
    Search,
    StepName,
    Verdict,
)
from gatenorm.records.evidence import (
    Bucket,
    Cell,
    Change,
    ChangedItem,
    Comparison,
    Data,
    Evidence,
    Figure,
    Measurements,
    Positions,
    Refusal,
    RefusalItem,
    RefusalProtocol,
    Retrieval,
    RetrievalProtocol,
    UnevenTasks,
    Workload,
    WorkloadItem,
    WorkloadProtocol,
    evidence_from_json,
)
from gatenorm.records.provenance import Provenance
from gatenorm.report.page.audit_view import quoted_request
from tests.calibrations import calibration

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
    return read_record(Audit, FIXTURES / f"audit_{name}.json", "an audit")


def with_english_tasks(one: Audit) -> Audit:
    """The same audit with records of tasks that the built-in model has none of: made up, to be drawn and no more."""
    lengths, depths = (128, 256), (0.0, 0.5, 1.0)

    def records(removed: tuple[int, ...]) -> Measurements:
        share = 0.8 - 0.05 * len(removed)
        data = Data(name="made up", sha256="0" * 64)
        whose = {"model": one.model, "edits": Edits.of("attention", removed), "data": data}
        asked = RetrievalProtocol(
            asks="where",
            lengths=lengths,
            depths=depths,
            mean_tokens={},
            items_a_cell=8,
            candidates=4,
            scoring="",
            chat_template=False,
        )
        found = [
            Retrieval(
                **whose,
                form=f"{form} hop",
                choice=Figure(value=share, stderr=0.05),
                greedy=Figure(value=share, stderr=0.05),
                margin=Figure(value=1.0),
                chance=0.25,
                count=48,
                cells=tuple(
                    Cell(length=n, depth=d, choice=share - 0.1 * d, greedy=share) for n in lengths for d in depths
                ),
                protocol=asked,
            )
            for form in ("one", "two")
        ]
        losses = {(1, 1): 5.0, (2, 3): 4.5, (4, 7): 4.25 + 0.05 * len(removed)}
        buckets = tuple(Bucket(first=a, last=b, nll=nll) for (a, b), nll in losses.items())
        reply = RefusalItem(
            id="a", prompt="May I?", reply="Yes", refused=False, expect="refuse", metrics={"refused_harmful": 0.0}
        )
        refusal = Refusal(
            **whose,
            metrics={"refused_harmful": Figure(value=0.0)},
            counts={"refused_harmful": 1},
            count=1,
            refused=0.0,
            empty=0.0,
            items=(reply,),
            protocol=RefusalProtocol(chat_template="", decoding="greedy", new_tokens=4, rule=""),
        )
        before = structs.replace(reply, refused=True, reply="No")
        turned = ChangedItem(id="a", changed=("refused_harmful",), before=before, after=reply)
        change = Comparison(
            **whose,
            of="refusal",
            baseline=one.model,
            baseline_edits=Edits(),
            interval="",
            changes={"refused_harmful": Change(difference=-1.0, items=1, won=0, lost=1)},
            items=(turned,),
        )
        compared = [change] if removed else []
        return Measurements([*found, Positions(**whose, buckets=buckets), refusal, *compared])

    variants = tuple(
        structs.replace(v, evidence=Measurements((*v.evidence, *records(v.plan.edits.attention)))) for v in one.variants
    )
    return structs.replace(one, variants=variants, baseline=Measurements((*one.baseline, *records(()))))


def cost_benefit(engine: str, tokens: int, batch: int, speedup: float, **costs: float) -> CostBenefit:
    """One case with a price."""
    case = CostCase(
        engine=engine,
        prompt_tokens=tokens,
        new_tokens=32,
        batch=batch,
        rounds=6,
        request_speedup=speedup,
        prefill_speedup=speedup,
        decode_speedup=speedup,
        **costs,
    )
    return CostBenefit(cases=(case,), quoted=case, sentence="Pays here.", price_per_hour=2.5, currency="EUR")


def priced(one: Audit) -> Audit:
    """The same audit with a price, so that its first table has all columns: made up, to be drawn and no more."""
    at = quoted_request(one)
    assert at is not None
    costs = {"cost_per_million_before": 0.02314, "cost_per_million_after": 0.01893}
    found = cost_benefit(*at, 1.1, **costs)
    return structs.replace(
        one, variants=tuple(structs.replace(v, cost_benefit=found) if v.role == CANDIDATE else v for v in one.variants)
    )


# What readers of the records tell kinds apart by.
_KINDS = ("schema", "sublayer", "operation", "of", "id", "engine", "topic", "outcome", "aspect", "role")


def spoilt(data: Any, attack: str, name: str = "") -> Any:
    """The same record in plain data with an attack before every text of it."""
    if isinstance(data, dict):
        return {key: spoilt(value, attack, key) for key, value in data.items()}
    if isinstance(data, list):
        return [spoilt(value, attack, name) for value in data]
    return attack + data if isinstance(data, str) and name not in _KINDS else data


def attacked(attack: str) -> Audit:
    """A real audit in which every name that others choose is an attack."""
    one = with_english_tasks(audit("demo"))
    model = structs.replace(one.model, name=attack, model_type=attack, files={attack: 5})

    def record(e: Evidence) -> Evidence:
        return evidence_from_json({**spoilt(to_json(e), attack), "model": to_json(model)})

    variants = tuple(
        structs.replace(
            v,
            name=f"{attack} {n}",
            criterion=f"{attack}{v.criterion}",
            evidence=Measurements(map(record, v.evidence)),
            rejected=attack,
            cost_benefit=structs.replace(cost_benefit(attack, 32, 1, 1.1), sentence=attack, currency=attack),
            gates=tuple(structs.replace(g, gate=attack, detail=attack, reason=attack, unit=attack) for g in v.gates),
        )
        for n, v in enumerate(one.variants)
    )
    return structs.replace(
        one,
        model=model,
        verdict=from_json(Verdict, spoilt(to_json(one.verdict), attack), "verdict"),
        chosen=variants[0].name,
        variants=variants,
        baseline=Measurements(map(record, one.baseline)),
        scores=tuple(structs.replace(s, calibration=calibration(attack)) if s.calibration else s for s in one.scores),
        warnings=(Diagnostic(message=attack, evidence=UnevenTasks(variant=attack, tasks={attack: 1.0}, p=0.05)),),
        not_examined=(NotExamined(StepName.TASKS, attack, attack, attack),),
        config={attack: [attack]},
        provenance=from_json(Provenance, spoilt(to_json(one.provenance), attack), "provenance"),
        search=Search(
            gate=attack,
            ranking=attack,
            limit=1.0,
            found=0,
            assumption=attack,
            probes=(Probe(removed=1, gate=variants[0].gates[0]),),
        ),
        version=attack,
    )


def own_prompts(count: int = 6) -> Workload:
    """What was measured on prompts of one's own, with texts longer than tables show."""
    long = " ".join(["word"] * 30)
    items = [
        WorkloadItem(
            id=n,
            prompt=f"{long} asks for {n}",
            baseline_wrote=f"before {long}",
            model_wrote=f"after {long}",
            greedy_agreement=0.5,
            positions=32,
            kl=1 / n,
            top1=0.5,
        )
        for n in range(1, count + 1)
    ]
    return Workload(
        data=Data(name="prompts.jsonl", sha256="1", items=count),
        protocol=WorkloadProtocol(
            new_tokens=32,
            decoding="greedy",
            chat_template=False,
            distributions="float32",
            order="first",
            text="prompts",
        ),
        baseline=audit("demo").model,
        baseline_edits=Edits(),
        count=count,
        positions=32 * count,
        kl=Figure(value=0.86, stderr=0.12, low=0.55, high=1.17),
        top1=0.5,
        greedy_agreement=0.5,
        greedy_same=0.0,
        items=tuple(items),
    )

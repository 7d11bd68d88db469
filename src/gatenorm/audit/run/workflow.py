"""The seven steps: score, build, perplexity and tasks, your workload, refusal and retrieval, speed, recovery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gatenorm.analysis.agreement import label
from gatenorm.analysis.cross_check import held_against
from gatenorm.audit.judge.gates import gates, hold
from gatenorm.audit.judge.search import ASSUMPTION, largest
from gatenorm.audit.plan import rankings
from gatenorm.audit.plan.budgets import ASKED, Budget, decision_count
from gatenorm.audit.plan.candidates import Candidate, candidate, unstable
from gatenorm.audit.plan.evaluations import Asked
from gatenorm.audit.plan.rankings import Wanted
from gatenorm.audit.run import speed
from gatenorm.audit.run import variant_writer as building
from gatenorm.audit.run.job_cache import Measuring, records_or_raise
from gatenorm.errors import AuditError, CriterionError, did_you_mean
from gatenorm.findings import findings
from gatenorm.records import Evidence, Scores
from gatenorm.records.audit import CANDIDATE, COMPARISON, INCONCLUSIVE, BestSupported, GateResult, NotExamined, Search
from gatenorm.records.evidence import Perplexity, Speed, of_type
from gatenorm.records.rankings import CrossCheck

STEPS = (
    "inspect and score",
    "build variants",
    "perplexity and tasks",
    "your own workload",
    "refusal and retrieval",
    "speed and memory",
    "recovery",
)


class Workflow:
    """One audit at work; every method is a step, or half of one, and leaves what it found behind."""

    def __init__(
        self,
        measuring: Measuring,
        wanted: Sequence[Wanted],
        budgets: Sequence[Budget],
        asked: Sequence[Asked],
        limits: dict[str, float],
    ):
        self.measuring, self.config, self.layout = measuring, measuring.config, measuring.layout
        self.wanted, self.budgets, self.asked, self.limits = list(wanted), list(budgets), list(asked), limits
        self.protect = self.config.rankings.protect
        self.scores: dict[str, Scores] = {}
        self.cross_check: CrossCheck | None = None
        self.best: BestSupported | None = None
        self.search: Search | None = None
        self.baseline: list[Evidence] = []
        self.candidates: list[Candidate] = []
        self.comparisons: list[Candidate] = []
        self.not_examined: list[NotExamined] = []
        self.details: dict[int, str] = {}

    def score(self) -> None:
        """Step 1: all rankings, the cross-check, and which of them measurements support best."""
        self.measuring.begin(1, STEPS[0])
        content, threads = self.measuring.content, self.measuring.threads
        jobs = [rankings.score_job(one, self.layout, self.config, content, threads) for one in self.wanted]
        for job in jobs:
            self.measuring.reporter.ledger.expect(job.like)
        for one, result in zip(self.wanted, self.measuring.results(jobs), strict=True):
            if result.scores is None:
                self._without(one, result.error)
                continue
            self.scores[one.name] = one.own(result.scores)
        asked = [self.scores[one.name] for one in self._asked_for() if one.name in self.scores]
        if not asked:
            raise CriterionError(
                "no-ranking", f"{self.wanted[0].name} could not be computed, and nothing else was asked for"
            )
        checks = [self.scores[one.name] for one in self.wanted if one.check and one.name in self.scores]
        count = decision_count([b.count for b in self.budgets], len(self.layout.attention_layers))
        if checks:
            self.cross_check = held_against(asked[0], checks, count, self.protect)
        losses = self._losses(asked, checks, count)
        self.best = rankings.best_supported(asked, checks, count, losses)
        self.details[1] = f"{len(self.scores)} rankings; best supported: {self.best.ranking} ({self.best.why})"

    def build(self) -> None:
        """Step 2: budgets, the search for the largest that passes, and the candidates' directories."""
        assert self.best is not None
        self.measuring.begin(2, STEPS[1])
        chosen = list(dict.fromkeys([*(one.name for one in self._asked_for()), self.best.ranking]))
        self._expect(len([name for name in chosen if name in self.scores]) * len(self.budgets))
        self._search()
        for name in chosen:
            if name in self.scores:
                self.candidates += [self._variant(name, budget, CANDIDATE) for budget in self.budgets]
        if self.search is not None and self.search.found:
            found = self._variant(self.search.ranking, Budget(self.search.found, ASKED), CANDIDATE)
            if found.name not in {c.name for c in self.candidates}:
                self.candidates.append(found)
        others = [name for name in self.scores if name not in chosen]
        self.comparisons = [self._variant(name, budget, COMPARISON) for name in others for budget in self.budgets]
        building.build(self.measuring, self.candidates)
        self.details[2] = f"{len(self.candidates)} candidates written, {len(self.comparisons)} comparisons in memory"

    def perplexity_and_tasks(self) -> None:
        """Step 3: the texts on everything, early rejection, then tasks on what is left."""
        self.measuring.begin(3, STEPS[2])
        texts = [a for a in self.asked if a.feeds == "texts"]
        self._evaluate(texts, self.candidates)
        if texts:
            self._evaluate(texts[:1], self.comparisons, baseline=False)
        for one in self.candidates:
            self._reject(one)
        self._evaluate([a for a in self.asked if a.step == 3 and a.feeds != "texts"], self.candidates)
        rejected = [c.name for c in self.candidates if c.rejected]
        self.details[3] = f"{len(rejected)} rejected early" + (f": {', '.join(rejected)}" if rejected else "")

    def workload(self) -> None:
        """Step 4: the user's own prompts."""
        self.measuring.begin(4, STEPS[3])
        self._evaluate([a for a in self.asked if a.feeds == "domain"], self.candidates, baseline=False)

    def refusal_and_retrieval(self) -> None:
        """Step 5: what averages do not show."""
        self.measuring.begin(5, STEPS[4])
        self._evaluate([a for a in self.asked if a.feeds in ("refusal", "retrieval")], self.candidates)

    def speed(self) -> None:
        """Step 6: exports, whether they compute the same, and timings, alone."""
        self.measuring.begin(6, STEPS[5])
        alive = [c for c in self.candidates if not c.rejected]
        missing, done = speed.measure(self.measuring, alive, self.baseline)
        self.not_examined += missing
        self.details[6] = done

    def recover(self) -> None:
        """Step 7: training after aggressive budgets, when asked for, and everything once more."""
        self.measuring.begin(7, STEPS[6])
        if not self.config.recovery.enabled:
            self.not_examined.append(NotExamined("recovery", "it was not asked for", "set recovery.enabled"))
            return
        recovered, why = building.recover(self.measuring, self.candidates)
        if why:
            self.not_examined.append(NotExamined("recovery", why))
        for asked in self.asked:
            self._evaluate([asked], recovered, baseline=False)
        alive = [one for one in recovered if not one.rejected]
        self.not_examined += speed.measure_recovered(self.measuring, alive, self.baseline)
        timed = any(of_type(one.records, Speed) for one in alive)
        self.not_examined = speed.without_repeats(self.not_examined, timed)
        self.candidates += recovered
        self.details[7] = f"{len(recovered)} variants recovered"

    def _asked_for(self) -> list[Wanted]:
        return [one for one in self.wanted if not one.check and not one.baseline]

    def _without(self, one: Wanted, why: str) -> None:
        """A ranking that could not be made: fatal for the first one asked for, told for all others."""
        if one is self.wanted[0]:
            raise CriterionError("ranking-failed", why)
        what = "the cross-check" if one.check else "a ranking"
        self.not_examined.append(NotExamined(f"{what} {one.name}", why))

    def _variant(self, name: str, budget: Budget, role: str) -> Candidate:
        return candidate(self.layout, self.scores[name], budget, self.protect, role)

    def _losses(self, asked: Sequence[Scores], checks: Sequence[Scores], count: int) -> dict[str, float]:
        """Loss on the first text of every ranking's choice, in nats a token; none without a text."""
        text = next((a for a in self.asked if a.feeds == "texts"), None)
        if text is None:
            return {}
        variants = [self._variant(label(s), Budget(count, ""), COMPARISON) for s in (*asked, *checks)]
        jobs = [self.measuring.evaluation(text, v.name, None, v.drop) for v in variants]
        found = {}
        for job in jobs:
            self.measuring.reporter.ledger.expect(job.like)
        for variant, result in zip(variants, self.measuring.results(jobs), strict=True):
            for record in of_type(result.records, Perplexity):
                found[variant.ranking] = record.nll
        return found

    def _expect(self, candidates: int) -> None:
        """Tell the ledger what the coming steps will take, so that time left can be told early."""
        ledger = self.measuring.reporter.ledger
        others = (len(self.scores) - candidates // max(1, len(self.budgets))) * len(self.budgets)
        for asked in self.asked:
            like = self.measuring.evaluation(asked, "", None, ()).like
            ledger.expect(like, candidates + (0 if asked.paired else 1))
        text = next((a for a in self.asked if a.feeds == "texts"), None)
        if text is not None:
            ledger.expect(self.measuring.evaluation(text, "", None, ()).like, others)

    def _search(self) -> None:
        asked = self.config.search
        if asked.gate is None:
            return
        assert self.best is not None
        gate, limit = gates()[asked.gate], self.limits[asked.gate]
        name = asked.criterion or self.best.ranking
        if name not in self.scores:
            raise AuditError(
                "criterion-not-ranked",
                "is not among the rankings of this audit",
                field="search.criterion",
                given=name,
                hint=did_you_mean(name, self.scores),
            )
        needed = [a for a in self.asked if a.feeds == gate.needs]
        before = [e for a in needed if not a.paired for e in self._of_baseline(a)]
        free = len([i for i in self.layout.attention_layers if i not in self.protect])

        def probe(count: int) -> GateResult:
            one = self._variant(name, Budget(count, ASKED), CANDIDATE)
            jobs = [self.measuring.evaluation(a, one.name, None, one.drop) for a in needed]
            for job in jobs:
                self.measuring.reporter.ledger.expect(job.like)
            results = self.measuring.results(jobs)
            held = hold(gate, limit, findings(before, [e for r in results for e in r.records]))
            failed = next((r.error for r in results if r.error), None)
            return held if failed is None else replace(held, outcome=INCONCLUSIVE, detail=f"not measured: {failed}")

        found, probes = largest(min(free, len(self.layout.attention_layers) - 1), probe)
        self.search = Search(
            gate=gate.name, ranking=name, limit=limit, found=found, assumption=ASSUMPTION, probes=probes
        )

    def _of_baseline(self, asked: Asked) -> Sequence[Evidence]:
        job = self.measuring.evaluation(asked, self.layout.checkpoint.name, None, ())
        (result,) = self.measuring.results([job])
        return records_or_raise(result)

    def _evaluate(self, asked: Sequence[Asked], variants: Sequence[Candidate], *, baseline: bool = True) -> None:
        """Ask the unpruned model and every variant that is not rejected; a variant that fails is rejected."""
        for one in asked if baseline else ():
            if not one.paired:
                self.baseline += self._of_baseline(one)
        alive = [v for v in variants if not v.rejected]
        ledger = self.measuring.reporter.ledger
        for one in asked:
            gone = len(variants) - len(alive)
            ledger.expect(self.measuring.evaluation(one, "", None, ()).like, -gone)
        pairs = [(variant, one) for variant in alive for one in asked]
        jobs = [self.measuring.evaluation(one, v.name, self._directory(v), v.drop) for v, one in pairs]
        for (variant, _), result in zip(pairs, self.measuring.results(jobs), strict=True):
            if result.error:
                variant.rejected = variant.rejected or f"it could not be measured: {result.error}"
            for record in result.records:
                variant.records.append(building.named(record, variant, self.measuring))

    def _directory(self, variant: Candidate) -> str | None:
        return str(self.measuring.state.directory / variant.directory) if variant.directory else None

    def _reject(self, one: Candidate) -> None:
        before = {e.data.sha256: e for e in of_type(self.baseline, Perplexity)}
        for record in of_type(one.records, Perplexity):
            partner = before.get(record.data.sha256)
            if partner is not None and not one.rejected:
                one.rejected = unstable(partner.perplexity, record.perplexity)

"""The seven steps: score, build, perplexity and tasks, your workload, refusal and retrieval, speed, recovery."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from gatenorm.analysis.agreement import label
from gatenorm.analysis.comparison import held_against
from gatenorm.audit.judge.gates import evaluate_gate, gates
from gatenorm.audit.judge.ranking import best_supported
from gatenorm.audit.judge.search import ASSUMPTION, largest
from gatenorm.audit.judge.selection import unstable
from gatenorm.audit.plan.budgets import ASKED, Budget, decision_count
from gatenorm.audit.plan.evaluations import PERPLEXITY, PlannedEvaluation
from gatenorm.audit.plan.rankings import PlannedRanking, source_key
from gatenorm.audit.run import speed, variant_writer
from gatenorm.audit.run.job_cache import JobCache
from gatenorm.audit.run.jobs import Score
from gatenorm.audit.run.variant import Variant, planned_variant
from gatenorm.errors import AuditError, CriterionError
from gatenorm.findings import findings
from gatenorm.records import ATTENTION, REMOVE, Evidence, Scores
from gatenorm.records.audit import (
    CANDIDATE,
    COMPARISON,
    INCONCLUSIVE,
    BestSupported,
    GateResult,
    NotExamined,
    Role,
    Search,
    Setting,
    StepName,
)
from gatenorm.records.evidence import Perplexity, Speed, of_type
from gatenorm.records.rankings import CrossCheck

# What asks for the last step.
RECOVERS = Setting("recovery.enabled", "true")


class Workflow:
    """One audit at work; every method is a step, or half of one, and leaves its results in the attributes.

    A step returns what it found in a line; for one that only evaluates, the names of its evaluations say enough.
    """

    def __init__(self, cache: JobCache):
        self.cache, self.plan, self.config, self.layout = cache, cache.plan, cache.config, cache.layout
        self.protect = self.config.rankings.protect
        self.scores: dict[str, Scores] = {}
        self.cross_check: CrossCheck | None = None
        self.best: BestSupported | None = None
        self.search: Search | None = None
        self.baseline: list[Evidence] = []
        self.candidates: list[Variant] = []
        self.comparisons: list[Variant] = []
        self.not_examined: list[NotExamined] = list(self.plan.missing)
        self.details: dict[StepName, str] = {}

    def run(self) -> None:
        """All steps in their order; those without work of their own evaluate the candidates."""
        steps = {
            StepName.SCORE: self._score,
            StepName.BUILD: self._build,
            StepName.TASKS: self._perplexity_and_tasks,
            StepName.SPEED: self._speed,
            StepName.RECOVERY: self._recover,
        }
        for name in StepName:
            self.cache.begin(name)
            if name in steps:
                self.details[name] = steps[name]()
            else:
                self._evaluate([planned for planned in self.plan.evaluations if planned.step == name], self.candidates)

    def evaluations(self, *feeds: str) -> list[PlannedEvaluation]:
        """The planned evaluations that feed one of these gates."""
        return [planned for planned in self.plan.evaluations if planned.gate_evaluation in feeds]

    def directory(self, variant: Variant) -> Path:
        """Where the variant's checkpoint lies."""
        return self.cache.state.directory / variant.directory

    def _score(self) -> str:
        """All rankings, the cross-check, and which of them measurements support best."""
        jobs = [self._score_job(planned) for planned in self.plan.rankings]
        for planned, result in zip(self.plan.rankings, self.cache.run(jobs), strict=True):
            if result.scores is None:
                self._ranking_failed(planned, result.error)
            else:
                self.scores[planned.name] = planned.relabelled(result.scores)
        requested = [self.scores[one.name] for one in self.plan.requested if one.name in self.scores]
        if not requested:
            problem = f"{self.plan.rankings[0].name} could not be computed, and no other criterion was given"
            raise CriterionError("no-ranking", problem)
        checks = [self.scores[one.name] for one in self.plan.rankings if one.check and one.name in self.scores]
        count = decision_count([b.count for b in self.plan.budgets], len(self.layout.removable(ATTENTION)))
        if checks:
            self.cross_check = held_against(requested[0], checks, count, self.protect)
        self.best = best_supported(requested, checks, count, self._losses([*requested, *checks], count))
        return f"{len(self.scores)} rankings; best supported: {self.best.ranking} ({self.best.why})"

    def _build(self) -> str:
        """Budgets, the search for the largest that passes, and the candidates' directories."""
        assert self.best is not None
        chosen = list(dict.fromkeys([*(one.name for one in self.plan.requested), self.best.ranking]))
        chosen = [name for name in chosen if name in self.scores]
        others = [name for name in self.scores if name not in chosen]
        budgets = self.plan.budgets
        self._expect(len(chosen) * self.plan.candidates_per_ranking, len(others) * len(budgets))
        self._search()
        self.candidates = [
            self._variant(name, budget, CANDIDATE, operation)
            for name in chosen
            for budget in budgets
            for operation in budget.operations
        ]
        if self.search is not None and self.search.found:
            largest_passing = self._variant(self.search.ranking, Budget(self.search.found, ASKED), CANDIDATE)
            if largest_passing.name not in {c.name for c in self.candidates}:
                self.candidates.append(largest_passing)
        self.comparisons = [self._variant(name, budget, COMPARISON) for name in others for budget in budgets]
        variant_writer.build(self.cache, [c for c in self.candidates if c.operation == REMOVE])
        self._fit([c for c in self.candidates if c.operation != REMOVE])
        return f"{len(self.candidates)} candidates written, {len(self.comparisons)} comparisons in memory"

    def _perplexity_and_tasks(self) -> str:
        """The texts on everything, early rejection, then tasks on what is left."""
        texts, others = (
            self.evaluations(PERPLEXITY),
            [p for p in self.plan.evaluations if p.gate_evaluation != PERPLEXITY],
        )
        self._evaluate(texts, self.candidates)
        if texts:
            self._evaluate(texts[:1], self.comparisons, baseline=False)
        for variant in self.candidates:
            variant.rejected = variant.rejected or unstable(self.baseline, variant.records)
        self._evaluate([planned for planned in others if planned.step == StepName.TASKS], self.candidates)
        rejected = [c.name for c in self.candidates if c.rejected]
        return f"{len(rejected)} rejected early" + (f": {', '.join(rejected)}" if rejected else "")

    def _speed(self) -> str:
        """Exports, whether they compute the same, and timings, alone."""
        remaining = [c for c in self.candidates if not c.rejected]
        missing, detail = speed.measure(self.cache, remaining, self.baseline)
        self.not_examined += missing
        return detail

    def _recover(self) -> str:
        """Training after aggressive budgets, when enabled, and every evaluation once more."""
        if not self.config.recovery.enabled:
            gap = NotExamined.unless(StepName.RECOVERY, "recovery", "it was not asked for", RECOVERS)
            self.not_examined.append(gap)
            return ""
        recovered, why = variant_writer.recover(self.cache, self.candidates)
        if why:
            self.not_examined.append(NotExamined(StepName.RECOVERY, "recovery", why))
        for planned in self.plan.evaluations:
            self._evaluate([planned], recovered, baseline=False)
        remaining = [variant for variant in recovered if not variant.rejected]
        self.not_examined += speed.measure_recovered(self.cache, remaining, self.baseline)
        timed = any(of_type(variant.records, Speed) for variant in remaining)
        self.not_examined = speed.without_repeats(self.not_examined, timed)
        self.candidates += recovered
        return f"{len(recovered)} variants recovered"

    def _score_job(self, planned: PlannedRanking) -> Score:
        title, like = f"scoring by {planned.name}", planned.like
        if planned.source is None:  # weights are scored on the CPU
            how = {"criterion": planned.criterion, "seed": planned.seed, "device": "cpu", "dtype": "auto"}
            return self.cache.job(Score, title, like, **how)
        settings = self.config.rankings
        return self.cache.job(
            Score,
            title,
            like,
            criterion=planned.criterion,
            source=planned.source,
            tokens=source_key(planned.source),
            samples=settings.samples,
            length=min(settings.length, self.layout.context or settings.length),
        )

    def _ranking_failed(self, planned: PlannedRanking, why: str) -> None:
        """Fatal for the first ranking; reported for all others."""
        if planned is self.plan.rankings[0]:
            raise CriterionError("ranking-failed", why)
        what = "the cross-check" if planned.check else "a ranking"
        self.not_examined.append(NotExamined(StepName.SCORE, f"{what} {planned.name}", why))

    def _variant(self, name: str, budget: Budget, role: Role, operation: str = REMOVE) -> Variant:
        return planned_variant(self.layout, self.scores[name], budget, self.protect, role, operation)

    def _fit(self, variants: Sequence[Variant]) -> None:
        """Fit the operations of candidates; those that turn out to be none of their own are not measured."""
        missing = variant_writer.fit(self.cache, variants)
        gone = {gap.what for gap in missing}
        self.not_examined += missing
        self.candidates = [c for c in self.candidates if c.name not in gone]
        for planned in self.plan.evaluations:
            self.cache.reporter.ledger.expect(planned.like, -len(gone))

    def _losses(self, scores: Sequence[Scores], count: int) -> dict[str, Perplexity]:
        """Perplexity on the first text of every ranking's choice; none without a text."""
        measured = {}
        for text in self.evaluations(PERPLEXITY)[:1]:
            variants = [self._variant(label(s), Budget(count, ""), COMPARISON) for s in scores]
            jobs = [self.cache.evaluation(text, v.name, edits=v.edits) for v in variants]
            for variant, result in zip(variants, self.cache.run(jobs), strict=True):
                for record in of_type(result.records, Perplexity):
                    measured[variant.ranking] = record
        return measured

    def _expect(self, candidates: int, comparisons: int) -> None:
        """Announce the jobs of the coming steps to the ledger, so that the time left can be estimated early."""
        ledger = self.cache.reporter.ledger
        for planned in self.plan.evaluations:
            ledger.expect(planned.like, candidates + (0 if planned.paired else 1))
        for text in self.evaluations(PERPLEXITY)[:1]:
            ledger.expect(text.like, comparisons)

    def _search(self) -> None:
        settings = self.config.search
        if settings.gate is None:
            return
        assert self.best is not None
        gate, limit = gates()[settings.gate], self.plan.limits[settings.gate]
        name = settings.criterion or self.best.ranking
        if name not in self.scores:
            problem = "is not among the rankings of this audit"
            raise AuditError.unknown("search.criterion", name, self.scores, "criterion-not-ranked", problem)
        needed = self.evaluations(gate.needs)
        before = [e for planned in needed if not planned.paired for e in self._of_baseline(planned)]
        removable = self.layout.removable(ATTENTION)
        free = len([i for i in removable if i not in self.protect])

        def probe(count: int) -> GateResult:
            variant = self._variant(name, Budget(count, ASKED), CANDIDATE)
            results = self.cache.run([self.cache.evaluation(p, variant.name, edits=variant.edits) for p in needed])
            after = [e for result in results for e in result.records]
            judged = evaluate_gate(gate, limit, findings(before, after))
            error = next((result.error for result in results if result.error), None)
            return judged if error is None else replace(judged, outcome=INCONCLUSIVE, detail=f"not measured: {error}")

        passing, probes = largest(min(free, len(removable) - 1), probe)
        self.search = Search(
            gate=gate.name, ranking=name, limit=limit, found=passing, assumption=ASSUMPTION, probes=probes
        )

    def _of_baseline(self, planned: PlannedEvaluation) -> Sequence[Evidence]:
        (result,) = self.cache.results([self.cache.evaluation(planned, self.layout.checkpoint.name)])
        if result.error:
            raise AuditError("baseline-failed", f"the unpruned model cannot be measured: {result.error}")
        return result.records

    def _evaluate(
        self, planned: Sequence[PlannedEvaluation], variants: Sequence[Variant], *, baseline: bool = True
    ) -> None:
        """Evaluate the unpruned model and every variant that is not rejected; a variant that fails is rejected."""
        for one in planned if baseline else ():
            if not one.paired:
                self.baseline += self._of_baseline(one)
        remaining = [v for v in variants if not v.rejected]
        for one in planned:
            self.cache.reporter.ledger.expect(one.like, len(remaining) - len(variants))
        pairs = [(variant, one) for variant in remaining for one in planned]
        jobs = [
            self.cache.evaluation(one, v.name, str(self.directory(v)) if v.directory else None, v.edits)
            for v, one in pairs
        ]
        for (variant, _), result in zip(pairs, self.cache.results(jobs), strict=True):
            if result.error:
                variant.rejected = variant.rejected or f"it could not be measured: {result.error}"
            for record in result.records:
                variant.records.append(variant_writer.under_its_name(record, variant, self.cache))

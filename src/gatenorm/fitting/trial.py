"""Fitted operations against plain removal: which do less damage to predictions, alone and together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from msgspec import structs

from gatenorm.calibration.samples import Samples
from gatenorm.calibration.shared_prefix import SharedPrefix, divergence
from gatenorm.fitting.moments import Moments, ReadFrom
from gatenorm.fitting.solve import Problem
from gatenorm.models.model import Model
from gatenorm.records import REMOVE, Edit, Edits
from gatenorm.records.fit import Divergence
from gatenorm.surgery.operation import Weights, operation_named

# Tokens of each source on which a fit is held against removal: two passes an edit, so they are few.
_JUDGED = 1024
# Logits of so many tokens at a time are kept for comparison.
_AT_A_TIME = 512
# What a fitted update is multiplied by while it does more damage than removal; then removal takes its place.
_SCALES = (1.0, 0.5, 0.25)

Sequences = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Kept:
    """What fits of one unedited model measured, for later ones on the same tokens.

    Attributes:
        moments: of tokens and sublayers, whatever operation they are for. Memory as :meth:`MomentObserver.nbytes`.
        removals: the divergences of plain removals.
    """

    moments: dict[tuple[Sequences, ReadFrom], Moments] = field(default_factory=dict)
    removals: dict[tuple[Sequences, Edits], float] = field(default_factory=dict)


def removal(edit: Edit) -> Edit:
    """The removal of the same sublayer."""
    return structs.replace(edit, operation=REMOVE)


def weights_of(edit: Edit, problem: Problem) -> Weights:
    """The tensors of an edit's operation, fitted."""
    operation = operation_named(edit.operation)
    assert operation.fit is not None  # checked
    return {name: np.asarray(values, np.float32) for name, values in operation.fit(problem).items()}


def judged(held: Samples) -> Samples:
    """The first sequences, of 1,024 tokens or a few more."""
    kept, tokens = [], 0
    for sequence in held.sequences:
        kept.append(sequence)
        tokens += len(sequence)
        if tokens >= _JUDGED:
            break
    rows = max(1, _AT_A_TIME // max(map(len, kept)))
    return replace(held, sequences=tuple(kept), batch_size=rows)


class Trial:
    """Which edits do less damage than removal, alone and together.

    Args:
        held_out: tokens of the sources of the problems, in their order; each is judged by maps that have not seen its
            source, where there are others.
        others: tokens of other sources.

    Attributes:
        kept: the edits that do less damage.
        scales: what each fitted update is multiplied by.
        alone, together: the divergences that were measured last.
    """

    def __init__(
        self,
        model: Model,
        edits: Edits,
        fitted: Edits,
        held_out: Mapping[str, Samples],
        others: Mapping[str, Samples],
        known: Kept,
    ):
        self._model, self._known, self._plain = model, known, edits - fitted
        self._tokens = [(name, judged(samples)) for name, samples in (*held_out.items(), *others.items())]
        self._sources = len(held_out)
        self.kept: list[Edit] = list(fitted)
        self.scales = dict.fromkeys(fitted, 1.0)
        self.alone: dict[Edit, tuple[Divergence, ...]] = {}
        self.together: tuple[Divergence, ...] = ()

    def run(self, problems: Mapping[Edit, Problem]) -> None:
        """Measure, shrink what does more damage than removal, and give up what still does."""
        open_edits = list(self.kept)
        for scale in _SCALES:
            self.scales |= dict.fromkeys(open_edits, scale)
            self._measure(problems, open_edits)
            open_edits = [edit for edit in open_edits if not all(one.better for one in self.alone[edit])]
            if not open_edits:
                break
        self.kept = [edit for edit in self.kept if edit not in open_edits]
        if open_edits and self.kept:
            self._measure(problems, [])
        for scale in _SCALES[1:]:  # what helps alone may harm together
            if self._together_better:
                return
            self.scales |= {edit: min(scale, self.scales[edit]) for edit in self.kept}
            self._measure(problems, [])
        if not self._together_better:
            self.kept = []

    @property
    def _together_better(self) -> bool:
        return all(one.better for one in self.together)

    def _measure(self, problems: Mapping[Edit, Problem], one_by_one: Sequence[Edit]) -> None:
        """The divergences of these edits alone, and of all that are kept, source by source."""
        alone: dict[Edit, list[Divergence]] = {edit: [] for edit in one_by_one}
        together = []
        removed = Edits(removal(edit) for edit in (*self.scales, *self._plain))
        mixed = Edits((*self.kept, *(removal(e) for e in self.scales if e not in self.kept))) | self._plain
        for at, (source, samples) in enumerate(self._tokens):
            blind = at if at < self._sources else None
            weights = {edit: weights_of(edit, problems[edit].judged(blind, self.scales[edit])) for edit in self.kept}
            singles = [Edits([one]) for edit in one_by_one for one in (removal(edit), edit)]
            found = self._divergences(samples, weights, [*singles, removed, mixed])
            for edit in one_by_one:
                without, replaced = found[Edits([removal(edit)])], found[Edits([edit])]
                alone[edit].append(Divergence(source=source, removed=without, replaced=replaced))
            together.append(Divergence(source=source, removed=found[removed], replaced=found[mixed]))
        self.alone |= {edit: tuple(found) for edit, found in alone.items()}
        self.together = tuple(together)

    def _divergences(
        self, samples: Samples, weights: Mapping[Edit, Weights], wanted: Sequence[Edits]
    ) -> dict[Edits, float]:
        """What each set of edits does to predictions; removals, which no fit changes, are measured once."""
        known = self._known.removals
        found = {one: known[samples.sequences, one] for one in wanted if (samples.sequences, one) in known}
        missing = [one for one in wanted if one not in found]
        if missing:
            figures = SharedPrefix(self._model, samples, weights=weights, figure=divergence)
            found |= dict(zip(missing, figures(missing), strict=True))
        for one in missing:
            if all(edit.operation == REMOVE for edit in one):
                known[samples.sequences, one] = found[one]
        return found

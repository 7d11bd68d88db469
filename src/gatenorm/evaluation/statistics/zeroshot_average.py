"""The mean over zero-shot tasks, and how it changed."""

import hashlib
import math
from collections.abc import Sequence

from gatenorm.evaluation.statistics.paired_statistics import INTERVAL, mean_change
from gatenorm.records.evidence import (
    AverageProtocol,
    Comparison,
    Data,
    Evidence,
    Figure,
    ZeroShot,
    ZeroShotAverage,
    kind_of,
    of_type,
)


def averaged(
    before: Sequence[Evidence], after: Sequence[Evidence], changes: Sequence[Comparison]
) -> tuple[tuple[ZeroShotAverage, ...], tuple[ZeroShotAverage, ...], tuple[Comparison, ...]]:
    """The averages of both models, where they have one, and the changes with that of the average at the end."""
    first, second = average(before), average(after)
    change = average_difference(changes, second) if first is not None and second is not None else None
    own = tuple((mean,) if mean is not None else () for mean in (first, second))
    return own[0], own[1], (*changes, *((change,) if change is not None else ()))


def average(records: Sequence[Evidence]) -> ZeroShotAverage | None:
    """The mean over the tasks of one model, where there are at least two.

    ``average`` takes ``acc_norm`` of the tasks that have it and ``acc`` of the others, ``average_acc`` takes ``acc`` of
    all; the standard error is ``sqrt(sum of the tasks' squared standard errors) / tasks``, left out where that of a
    task is unknown, as it is of a single item.
    """
    own = of_type(records, ZeroShot)
    if len(own) < 2:
        return None
    entering = {r.name: r.headline for r in own}
    digest = hashlib.sha256("\n".join(r.data.sha256 for r in own).encode()).hexdigest()
    return ZeroShotAverage(
        model=own[0].model,
        edits=own[0].edits,
        average=_mean([r.metrics[entering[r.name]] for r in own]),
        average_acc=_mean([r.metrics["acc"] for r in own]),
        tasks=len(own),
        count=sum(r.count for r in own),
        protocol=AverageProtocol(average=entering, average_acc="acc of every task", harness="lm_eval"),
        data=Data(name="+".join(entering), sha256=digest),
        seconds=math.fsum(r.seconds for r in own),
        versions=own[0].versions,
    )


def _mean(figures: Sequence[Figure]) -> Figure:
    errors = [figure.stderr for figure in figures if figure.stderr is not None]
    known = len(errors) == len(figures)
    return Figure(
        value=math.fsum(figure.value for figure in figures) / len(figures),
        stderr=math.sqrt(math.fsum(error**2 for error in errors)) / len(figures) if known else None,
    )


def average_difference(changes: Sequence[Comparison], average: ZeroShotAverage) -> Comparison | None:
    """How the average changed: the mean of the tasks' paired differences, their intervals combined as independent."""
    entering = average.protocol.average
    own = [c for c in changes if c.of == kind_of(ZeroShot) and c.name in entering]
    if len(own) != len(entering):
        return None
    return Comparison(
        model=average.model,
        edits=average.edits,
        of=average.kind,
        baseline=own[0].baseline,
        baseline_edits=own[0].baseline_edits,
        interval=INTERVAL,
        changes={
            "average": mean_change([c.changes[entering[c.name]] for c in own], average.count),
            "average_acc": mean_change([c.changes["acc"] for c in own], average.count),
        },
        data=average.data,
        versions=average.versions,
    )

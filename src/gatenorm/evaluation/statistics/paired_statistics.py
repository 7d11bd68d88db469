"""Two models on the same items: the mean difference and how sure one can be of it.

Both models answer the same items, so what varies from item to item in the same way for both cancels out: the interval
of a paired difference is narrower than that of two figures taken apart.
"""

import math
from collections.abc import Sequence

from gatenorm.errors import EvaluationError
from gatenorm.records.evidence import Change, ChangedItem, Comparison, Evidence, Figure

# The standard normal's 97.5% point.
Z = 1.959963984540054
INTERVAL = "95%, items paired; shares: Agresti and Min 2005, else Student's t with the items' own spread"


def paired_shares(first: Sequence[float], second: Sequence[float]) -> Change:
    """The difference of two shares of the same items, each item 0 or 1 for either model.

    With ``n`` items of which ``b`` turned right and ``c`` wrong the difference is ``(b - c) / n``. The interval adds
    half an item to each of the four cells of the table, ``n' = n + 2, b' = b + 1/2, c' = c + 1/2``, and is
    ``(b' - c') / n' +- Z sqrt(b' + c' - (b' - c')^2 / n') / n'`` (Agresti and Min, Statistics in Medicine 24, 2005): it
    does not shrink to nothing where no item changed.
    """
    n = _same_length(first, second)
    won = sum(b > a for a, b in zip(first, second, strict=True))
    lost = sum(b < a for a, b in zip(first, second, strict=True))
    return from_counts(n, won, lost)


def from_counts(items: int, won: int, lost: int) -> Change:
    """As :func:`paired_shares`, where only the numbers of items that turned right and wrong are known."""
    total, b, c = items + 2, won + 0.5, lost + 0.5
    middle = (b - c) / total
    half = Z * math.sqrt(b + c - (b - c) ** 2 / total) / total
    low, high = max(-1.0, middle - half), min(1.0, middle + half)
    difference, p = (won - lost) / items, exact(won, lost)
    return Change(difference=difference, low=low, high=high, items=items, won=won, lost=lost, p=p)


def paired_means(first: Sequence[float], second: Sequence[float], weights: Sequence[float] | None = None) -> Change:
    """The difference of two weighted means over the same items, with its interval by :func:`mean_with_error`.

    ``D = sum w d / sum w`` with ``d = second - first``; the interval is ``D`` and to both sides ``t`` standard errors,
    ``t`` the 97.5% point of Student's distribution with n - 1 degrees of freedom. One item alone gives no
    interval.
    """
    n = _same_length(first, second)
    mean, error = mean_with_error([b - a for a, b in zip(first, second, strict=True)], weights)
    if n == 1:
        return Change(difference=mean, items=n)
    half = t_quantile(n - 1) * error
    return Change(difference=mean, low=mean - half, high=mean + half, items=n)


def t_quantile(degrees: int) -> float:
    """The ``t`` with ``P(-t < T < t) = 95%`` for ``T`` of Student's distribution with that many degrees of freedom.

    With few items the spread is uncertain too: 1.96 standard errors around the mean of two hold the truth in 70% of
    cases only.
    """
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.975))


def mean_with_error(values: Sequence[float], weights: Sequence[float] | None = None) -> tuple[float, float]:
    """A weighted mean and its standard error, infinite for one value.

    ``M = sum w v / sum w``; its variance is that of a ratio estimator, ``n / (n - 1) sum w^2 (v - M)^2 / (sum w)^2``,
    since the weights (tokens of an item) are drawn with the items.
    """
    n = len(values)
    w = [1.0] * n if weights is None else list(weights)
    total = math.fsum(w)
    mean = math.fsum(wi * vi for wi, vi in zip(w, values, strict=True)) / total
    if n == 1:
        return mean, math.inf
    spread = math.fsum((wi * (vi - mean)) ** 2 for wi, vi in zip(w, values, strict=True))
    return mean, math.sqrt(n / (n - 1) * spread) / total


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95% interval of a median, whatever the values' distribution: from the k-th smallest to the k-th largest.

    Every value lies above the true median as likely as below it, so both ends lie on one side of it with probability
    ``2 P(Binomial(n, 1/2) < k)``; ``k`` is the largest for which that is at most 5%. Fewer than six values have none.
    """
    n, ordered = len(values), sorted(values)
    k = next(k for k in range(n + 1) if exact(n - k, k) > 0.05)
    return (ordered[k - 1], ordered[n - k]) if k else None


def exact(won: int, lost: int) -> float:
    """McNemar's exact test: how likely a split as uneven as this one is for ``won + lost`` fair coins."""
    n, fewer = won + lost, min(won, lost)
    if n == 0:
        return 1.0
    logs = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(fewer + 1)]
    return min(1.0, 2 * math.fsum(math.exp(log - n * math.log(2)) for log in logs))


def mean_figure(values: Sequence[float]) -> Figure:
    """A mean and, from two values on, its standard error."""
    mean, error = mean_with_error(values)
    return Figure(value=mean, stderr=error if len(values) > 1 else None)


def compare(baseline: Evidence, model: Evidence) -> Comparison | None:
    """What changed between two records of the same task, or ``None`` where their items cannot be paired.

    They cannot where items or data differ, or the tokens that both models cut a text into.
    """
    before = {item.id: item for item in baseline.paired_items}
    after = {item.id: item for item in model.paired_items}
    if not before or before.keys() != after.keys() or baseline.data.sha256 != model.data.sha256:
        return None
    if baseline.data.tokens_sha256 != model.data.tokens_sha256:
        return None  # a mean per token of one is no match for the other's
    changes: dict[str, Change] = {}
    turned: dict[int | str, list[str]] = {}
    for metric in dict.fromkeys(name for item in baseline.paired_items for name in item.metrics):
        ids = [i for i, item in before.items() if metric in item.metrics]
        first = [before[i].metrics[metric] for i in ids]
        second = [after[i].metrics[metric] for i in ids]
        if {*first, *second} <= {0.0, 1.0}:
            change = paired_shares(first, second)
            for i, a, b in zip(ids, first, second, strict=True):
                if a != b:
                    turned.setdefault(i, []).append(metric)
        else:
            weights = [before[i].weight for i in ids]
            if weights != [after[i].weight for i in ids]:
                continue  # other tokens
            change = paired_means(first, second, weights)
        changes[metric] = change
    if not changes:
        return None
    return Comparison(
        of=model.kind,
        name=model.task,
        model=model.model,
        edits=model.edits,
        baseline=baseline.model,
        baseline_edits=baseline.edits,
        interval=INTERVAL,
        changes=changes,
        data=model.data,
        versions=model.versions,
        items=tuple(
            ChangedItem(id=i, changed=tuple(turned[i]), before=before[i], after=after[i]) for i in before if i in turned
        ),
    )


def _same_length(first: Sequence[float], second: Sequence[float]) -> int:
    if len(first) != len(second) or not first:
        raise EvaluationError(
            "not-paired", f"{len(first)} and {len(second)} items cannot be paired", expected="the same ones, at least 1"
        )
    return len(first)

"""What the log-likelihoods of several continuations of one prompt say, where one of them is right."""

import math
from collections.abc import Sequence


def judged(likelihoods: Sequence[float], answer: int) -> dict[str, float]:
    """One item's metrics out of its candidates' log-likelihoods ``l``, the right one's ``l_r`` at index ``answer``.

    ``accuracy`` is 1 where ``l_r`` is the largest, ``probability`` is ``p_r = exp(l_r) / sum_c exp(l_c)``,
    ``log_probability`` its logarithm and ``margin`` is ``l_r - max_{c != r} l_c``, both in nats.
    """
    right, best = likelihoods[answer], max(likelihoods)
    log_sum = best + math.log(math.fsum(math.exp(value - best) for value in likelihoods))
    rival = max(value for number, value in enumerate(likelihoods) if number != answer)
    return {
        "accuracy": float(max(range(len(likelihoods)), key=likelihoods.__getitem__) == answer),
        "probability": math.exp(right - log_sum),
        "log_probability": right - log_sum,
        "margin": right - rival,
    }

"""Least squares: from moments to what an operation stores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from operator import add
from typing import Any

import numpy as np

from gatenorm.fitting.moments import Float64, Moments

# Shares of the mean diagonal of ``sum x x'`` that are tried as the ridge.
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True)
class Problem:
    """One sublayer's least squares: moments of the tokens of each source, and of those that were held out.

    Attributes:
        intercept: whether maps have one, which no ridge draws to zero.
        scale: what solutions are multiplied by: below 1 they are drawn towards removal.
        left_out: the source whose tokens the solutions do not see.
    """

    fitted: Sequence[Moments]
    held_out: Sequence[Moments]
    intercept: bool = False
    scale: float = 1.0
    left_out: int | None = None

    @property
    def _total(self) -> Moments:
        return self._sum(self.left_out)

    def _sum(self, left_out: int | None) -> Moments:
        """Of all sources but one; a single source is never left out."""
        parts = [m for at, m in enumerate(self.fitted) if at != left_out] or list(self.fitted)
        return reduce(add, parts)

    def _map(self, left_out: int | None, ridge: float) -> Float64:
        """With an intercept it is the last column."""
        total = self._sum(left_out)
        return solve(total.with_intercept(), ridge, free=1) if self.intercept else solve(total, ridge)

    @cached_property
    def chosen(self) -> tuple[float, float]:
        """The ridge whose map explains most on tokens that it was not fitted on, and the share that it leaves there.

        Where there are several sources each is judged by maps that were fitted on the others, so that what helps on
        one kind of text and harms on another is drawn back. One source is judged on its own held-out tokens.
        """
        left = {ridge: self._unexplained(ridge) for ridge in RIDGES}
        best = min(left, key=lambda ridge: (left[ridge], -ridge))
        return best, left[best]

    def unexplained(self, linear: bool) -> float:
        """The share of the updates' squares on held-out tokens that the solution leaves: a map's, or a constant's."""
        if linear:
            return self.chosen[1]
        shares = [m.unexplained_by((total := self._sum(at)).u / total.count) for at, m in enumerate(self.held_out)]
        return float(np.mean(shares))

    def _unexplained(self, ridge: float) -> float:
        held_out = [m.with_intercept() if self.intercept else m for m in self.held_out]
        return float(np.mean([m.unexplained(self._map(at, ridge)) for at, m in enumerate(held_out)]))

    def judged(self, left_out: int | None, scale: float) -> Problem:
        """The same problem at a scale, blind to one source, with the ridge that was chosen for all."""
        return self._changed(left_out=left_out, scale=scale)

    def scaled(self, scale: float) -> Problem:
        """The same problem at another scale."""
        return self._changed(scale=scale)

    def _changed(self, **fields: Any) -> Problem:
        other = replace(self, **fields)
        if self.fitted[0].xx.any():  # a constant needs no ridge; a map's is chosen once, not for every source and scale
            other.__dict__["chosen"] = self.chosen
        return other

    def constant(self) -> Float64:
        """The mean update ``sum u / n`` [width]."""
        total = self._total
        return self.scale * total.u / total.count

    def linear(self) -> Float64:
        """``A`` [width, inputs], see :func:`solve`, with the chosen ridge."""
        return self.scale * self._map(self.left_out, self.chosen[0])

    def affine(self) -> tuple[Float64, Float64]:
        """``A`` [width, inputs] and ``c`` [width] of ``A x + c``, where there is an intercept.

        Raises:
            ValueError: there is none.
        """
        if not self.intercept:
            raise ValueError("the map has no intercept: ask for linear")
        found = self.linear()
        return found[:, :-1], found[:, -1]

    def low_rank(self, rank: int) -> tuple[Float64, Float64]:
        """``up`` [width, rank] and ``down`` [rank, width]: reduced-rank regression.

        Among products of that rank this one has the least ``sum |A x - up down x|^2``: with ``P`` the eigenvectors of
        ``A (sum x x') A'`` with the largest eigenvalues, ``up = P`` and ``down = P' A``.

        Source: Izenman, "Reduced-rank regression for the multivariate linear model" (1975).
        """
        matrix = self.linear()
        _, vectors = np.linalg.eigh(matrix @ self._total.xx @ matrix.T)
        up = vectors[:, ::-1][:, :rank]
        return up, up.T @ matrix


def solve(moments: Moments, ridge: float, free: int = 0) -> Float64:
    """``A`` [width, inputs] with the least ``sum |u - A x|^2 + r |A|^2``: ``A = (sum u x') (sum x x' + r I)^-1``.

    Args:
        ridge: ``r`` as a share of the mean diagonal of ``sum x x'``. It draws the map towards removal.
        free: how many of the last inputs it spares.
    """
    drawn = np.arange(len(moments.xx)) < len(moments.xx) - free
    added = ridge * max(float(moments.xx.diagonal()[drawn].mean()), float(np.finfo(float).tiny))
    gram = moments.xx + added * np.diag(drawn)
    return np.asarray(np.linalg.solve(gram, moments.ux.T).T, np.float64)

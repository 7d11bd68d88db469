"""Every formula written out with the matrices that it speaks of, in float64."""

from __future__ import annotations

import numpy as np

from tests.criteria.models import Array, Truth


def gate_matrix(w: Truth) -> Array:
    """``sum_h Wq[h]^T Wk[g(h)]``, ``[width, width]``."""
    return sum(q.T @ k for q, k in zip(w.q, w.group(w.k), strict=True))  # type: ignore[return-value]


def gate_norm(w: Truth) -> float:
    return float(np.linalg.norm(gate_matrix(w)))


def gate_norm_outer(w: Truth) -> float:
    return float(np.linalg.norm(w.q.reshape(-1, w.q.shape[-1]) @ w.k.reshape(-1, w.k.shape[-1]).T))


def gate_norm_heads(w: Truth) -> Array:
    return np.array([np.linalg.norm(q.T @ k) for q, k in zip(w.q, w.group(w.k), strict=True)])


def gate_norm_scaled(w: Truth, scale: float) -> Array:
    d = np.diag(w.gain)
    return scale * np.array([np.linalg.norm(d @ q.T @ k @ d) for q, k in zip(w.q, w.group(w.k), strict=True)])


def ov_norm(w: Truth) -> Array:
    return np.array([np.linalg.norm(o @ v) for o, v in zip(w.o, w.group(w.v), strict=True)])


def gate_ov(w: Truth) -> Array:
    return gate_norm_heads(w) * ov_norm(w)


def weight_magnitude(w: Truth) -> float:
    return float(np.sqrt(sum(float((x**2).sum()) for x in (w.q, w.k, w.v, w.o))))


def rotation(delta: int, head_dim: int, dims: int, theta: float) -> Array:
    """The rotation of a key that lies ``delta`` positions before its query, half-split, ``[head_dim, head_dim]``.

    A key at position ``s`` is turned by ``s`` times the frequency and a query at ``t`` by ``t`` times; what is left in
    their product is a turn of the key by ``s - t = -delta``.
    """
    turn, half = np.eye(head_dim), dims // 2
    for j in range(half):
        angle = -delta * theta ** (-2 * j / dims)
        turn[j, j] = turn[j + half, j + half] = np.cos(angle)
        turn[j, j + half], turn[j + half, j] = -np.sin(angle), np.sin(angle)
    return turn


def gate_norm_rope(w: Truth, dims: int, theta: float, context: int) -> Array:
    energies = np.zeros(len(w.q))
    for delta in range(context):
        turn = rotation(delta, w.q.shape[1], dims, theta)
        energies += [np.linalg.norm(q.T @ turn @ k) ** 2 for q, k in zip(w.q, w.group(w.k), strict=True)]
    return np.sqrt(energies / context)

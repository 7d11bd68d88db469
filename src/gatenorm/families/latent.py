"""Multi-head latent attention: queries, keys and values through low-rank factors with a norm between them.

DeepSeek-V2 projects the stream down to a latent vector, norms it, and projects that up to the heads::

    q[h] = Bq[h] norm(Aq x)          k[h] = [ Bk[h] norm(Akv x) ; Ar x ]          v[h] = Bv[h] norm(Akv x)

``Ar x`` is the part of the key that turns with its position, one for all heads; the last rows of ``q[h]`` meet it.
Every projection is brought to one matrix per head, ``[head_dim, width]``, as everywhere else, so that each criterion is
the formula that it always is. The rotary part therefore enters the gate matrix as the term of its rows.

A norm divides each token by the length of its latent vector, which no matrix does. Here it divides by that length's
root mean square over inputs without a direction: for ``E[x x^T] = 1``, ``E |A x|^2 = ||A||_F^2``, so the matrix is

    W[h] = B[h] diag(gain) A sqrt(rank) / ||A||_F

Like the model, it does not change when ``A`` is rescaled.
"""

from functools import cached_property

import numpy as np

from gatenorm.checkpoint.dtypes import Float32
from gatenorm.errors import FamilyError
from gatenorm.families.attention import AttentionWeights, Projection
from gatenorm.families.layout import Layout
from gatenorm.families.schema import Latent


class LatentWeights(AttentionWeights):
    """Attention weights of a layer whose queries (where they are), keys and values come through a latent vector."""

    @cached_property
    def q(self) -> Projection:
        """``Wq``, one entry a head: the rows that do not turn, then those that do."""
        factors = self._latent.q
        if factors is None:
            return self._projection("q")
        down, norm, up = factors
        latent = self._normed(self._matrix(down), norm)
        return self._projected(up, [rows @ latent for rows in self._up(up, self.layout.head_dim)])

    @cached_property
    def k(self) -> Projection:
        """``Wk``, one entry a head: the rows through the latent vector, then those that turn, which all heads share."""
        up, heads, latent, turning = self._keys_and_values
        own = self.layout.head_dim - len(turning)
        return self._projected(up, [np.concatenate([rows[:own] @ latent, turning]) for rows in heads])

    @cached_property
    def v(self) -> Projection:
        """``Wv``, one entry a head."""
        up, heads, latent, turning = self._keys_and_values
        own = self.layout.head_dim - len(turning)
        return self._projected(up, [rows[own:] @ latent for rows in heads])

    def sources(self, role: str) -> dict[str, float]:
        factors = self._latent.q if role == "q" else self._latent.kv if role in ("k", "v") else None
        return super().sources(role) if factors is None else {factors.down: 1.0, factors.up: 1.0}

    def bias(self, role: str) -> Float32 | None:
        """That of ``o``; those of the factors, in front of a norm, are nobody's bias."""
        return super().bias(role) if role == "o" else None

    @property
    def _latent(self) -> Latent:
        assert self.layout.data.latent is not None
        return self.layout.data.latent

    @cached_property
    def _keys_and_values(self) -> tuple[str, Float32, Float32, Float32]:
        """The projection up, its rows by head, the matrix to the latent vector (normed), the shared rows that turn."""
        lay = self.layout
        down, norm, up = self._latent.kv
        rows = self._matrix(down)
        rank = len(rows) - lay.turning
        heads = self._up(up, lay.head_dim - lay.turning + lay.value_dim)
        return up, heads, self._normed(rows[:rank], norm), rows[rank:]

    def _matrix(self, module: str) -> Float32:
        return self.layout.checkpoint.float32(self.layout.tensor(self.layer, f"{module}.weight"))

    def _normed(self, down: Float32, norm: str) -> Float32:
        gain = self._vector(self.layout.tensor(self.layer, f"{norm}.weight"), {len(down)})
        length = float(np.linalg.norm(down)) or 1.0
        return down * (gain[:, None] * np.float32(np.sqrt(len(down)) / length))

    def _up(self, module: str, rows: int) -> Float32:
        """The rows of each head, ``[heads, rows, rank]``."""
        matrix = self._matrix(module)
        return matrix.reshape(self.layout.heads, rows, matrix.shape[1])

    def _projected(self, module: str, heads: list[Float32]) -> Projection:
        for head in heads:
            head.flags.writeable = False
        return Projection(self.layout.tensor(self.layer, f"{module}.weight"), "F32", tuple(heads))

    def _shapes(self) -> dict[str, tuple[int, int]]:
        lay = self.layout
        queries, rank, own = lay.heads * lay.head_dim, lay.latent_rank, lay.head_dim - lay.turning
        shapes = {
            "o": (lay.width, lay.heads * lay.value_dim),
            "kv_down": (rank + lay.turning, lay.width),
            "kv_up": (lay.heads * (own + lay.value_dim), rank),
            "q": (queries, lay.width),
        }
        if "q_down" in lay.projections:
            down = lay.tensor(self.layer, f"{lay.projections['q_down']}.weight")
            narrow = lay.checkpoint.spec(down).shape[0] if down in lay.checkpoint else 0
            shapes |= {"q_down": (narrow, lay.width), "q_up": (queries, narrow)}
        return {role: shapes[role] for role in lay.projections}


def attention_weights(layout: Layout, layer: int) -> AttentionWeights:
    """The attention weights of one layer; nothing is read before it is used.

    Raises:
        FamilyError: the layer does not exist or has lost its attention.
    """
    if layer not in layout.attention_layers:
        raise FamilyError(
            "no-attention", f"layer {layer} has no attention", expected=f"one of {list(layout.attention_layers)}"
        )
    return (LatentWeights if layout.data.latent else AttentionWeights)(layout, layer)

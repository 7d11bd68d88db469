"""The weights that the training of the built-in model starts from: random, but a few heads already look somewhere.

From random weights alone a model this small spends millions of tokens before its heads look up earlier words, which is
what nearly every sentence of the tiny world needs. So the heads that such a lookup is made of (an induction head,
and the head that tells each position its previous word) are there in outline from the start, in the spirit of mimetic
initialisation (Trockman and Kolter 2023, arXiv 2305.09828); what they are used for is learnt. Everything else starts
as the identity: attention outputs and MLP outputs are zero.

The stream of width D is laid out at the start as 1 dimension that is constant, D/2 - 1 for the word, and D/4 each for
the word one back and the word two back. Nothing holds the training to this layout.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

CONSTANT = 2.0
GAIN = 2.0
COPY = 0.3
SHARPNESS = 3.0
LAST_GAIN = 0.1
LOOKUPS = (1, 2, 3)
# Pairs of rotary dimensions that turn less than once over the whole context; the faster ones tell positions apart.
_SLOW = 0.01


def initialise(model: Any) -> None:
    """Fill a Llama's weights in place, from torch's global generator."""
    config = model.config
    width, half = config.hidden_size, config.hidden_size // 2
    words = torch.randn(config.vocab_size, half - 1)
    words *= half**0.5 / words.norm(dim=1, keepdim=True)  # Of one length: else positions are not told apart sharply.
    with torch.no_grad():
        embedding = model.model.embed_tokens.weight
        embedding.zero_()
        embedding[:, 0] = CONSTANT
        embedding[:, 1:half] = words
        model.model.norm.weight.fill_(LAST_GAIN)
        for layer in model.model.layers:
            attention, mlp = layer.self_attn, layer.mlp
            for module in (attention.q_proj, attention.k_proj, attention.v_proj, mlp.gate_proj, mlp.up_proj):
                nn.init.normal_(module.weight, std=width**-0.5)
            for module in (attention.o_proj, mlp.down_proj):
                nn.init.zeros_(module.weight)
        speeds = config.rope_parameters["rope_theta"] ** (-torch.arange(0, config.head_dim, 2) / config.head_dim)
        seen = _orthonormal(half - 1, width // 4).T
        _look_back(model.model.layers[0].self_attn, speeds, seen)
        for number in LOOKUPS:
            if number < len(model.model.layers):
                _look_up(model.model.layers[number].self_attn, speeds, seen)


def _look_back(attention: Any, speeds: Tensor, seen: Tensor) -> None:
    """The first two heads write the word one back and two back (as ``seen`` [D/4, D/2 - 1] shows it) into the stream.

    Their logits depend on the distance alone: query and key are the constant dimension, and the query of the head that
    looks ``n`` back is turned by ``n`` positions, which only the fast pairs notice.
    """
    size, pairs = len(seen), len(speeds)
    fast = (speeds >= _SLOW) * SHARPNESS
    key, value = attention.k_proj.weight[: 2 * pairs], attention.v_proj.weight[: 2 * pairs]
    key.zero_()
    key[:pairs, 0] = fast
    value.zero_()
    value[:size, 1 : 2 * size] = seen
    for head, back in enumerate((1, 2)):
        query = attention.q_proj.weight[head * 2 * pairs : (head + 1) * 2 * pairs]
        query.zero_()
        query[:pairs, 0] = fast * torch.cos(back * speeds)
        query[pairs:, 0] = -fast * torch.sin(back * speeds)
        begin = (2 + head) * size
        attention.o_proj.weight[begin : begin + size, head * 2 * pairs : head * 2 * pairs + size] = torch.eye(size)


def _look_up(attention: Any, speeds: Tensor, seen: Tensor) -> None:
    """Heads of the first group look for the word after an earlier occurrence of this word, the others for the word
    after next of an earlier occurrence of the previous one; all copy what they find.

    Query and key show words through the same random directions, in the slow pairs only: the others would lose the
    match over a distance.
    """
    size, pairs = len(seen), len(speeds)
    slow = (speeds < _SLOW).repeat(2)[:, None] * GAIN
    groups = attention.k_proj.weight.shape[0] // (2 * pairs)
    shared = attention.q_proj.weight.shape[0] // (2 * pairs) // groups
    word, one_back, two_back = slice(1, 2 * size), slice(2 * size, 3 * size), slice(3 * size, 4 * size)
    for group in range(groups):
        directions = _orthonormal(2 * pairs, 2 * pairs)[:, :size] * slow
        found = _orthonormal(2 * size - 1, 2 * pairs)
        rows = slice(group * 2 * pairs, (group + 1) * 2 * pairs)
        attention.k_proj.weight[rows] = 0
        attention.v_proj.weight[rows] = 0
        attention.k_proj.weight[rows, two_back if group else one_back] = directions
        attention.v_proj.weight[rows, word] = found.T
        for head in range(group * shared, (group + 1) * shared):
            rows = slice(head * 2 * pairs, (head + 1) * 2 * pairs)
            attention.q_proj.weight[rows] = 0
            if group:
                attention.q_proj.weight[rows, one_back] = directions
            else:
                attention.q_proj.weight[rows, word] = directions @ seen
            attention.o_proj.weight[word, rows] = COPY * found


def _orthonormal(rows: int, columns: int) -> Tensor:
    """Random orthonormal columns."""
    found: Tensor = torch.linalg.qr(torch.randn(rows, columns))[0]
    return found

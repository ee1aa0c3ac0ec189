"""Priors and potentials against the same as scores that PyTorch's `flex_attention` modifies, and as formulas."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention.flex_attention import flex_attention

import marginals as mg

N, HEADS = 9, 2
SEGMENTS = torch.tensor([0, 0, 0, 1, 1, 1, 1, 2, 2])
SLOPES = torch.tensor([0.5, 0.125], dtype=torch.float64)
TABLE = torch.linspace(-1, 1, 2 * N * HEADS, dtype=torch.float64).reshape(2 * N, HEADS)
IMPOSSIBLE = -float("inf")


def masked(may):
    return lambda score, b, h, i, j: torch.where(may(i, j), score, IMPOSSIBLE)


# What is in the model, tensors that it reads, and the same as a function of score and indices.
CASES = {
    "causal": ({"prior": "causal"}, {}, masked(lambda i, j: j <= i)),
    "sliding window": (
        {"prior": mg.prior.Window(left=2, right=0)},
        {},
        masked(lambda i, j: (j <= i) & (i - j <= 2)),
    ),
    "documents": (
        {"prior": mg.prior.Causal() * mg.prior.Segments()},
        {"segments_q": SEGMENTS[None], "segments_k": SEGMENTS[None]},
        masked(lambda i, j: (j <= i) & (SEGMENTS[i] == SEGMENTS[j])),
    ),
    "prefix": (
        {"prior": "bias"},
        {"bias": (torch.arange(N) <= torch.arange(N)[:, None]) | (torch.arange(N) < 3)},
        masked(lambda i, j: (j <= i) | (j < 3)),
    ),
    "alibi": (
        {"prior": mg.prior.Causal() * mg.prior.Alibi(slopes=SLOPES)},
        {},
        lambda score, b, h, i, j: torch.where(j <= i, score - SLOPES[h] * (i - j), IMPOSSIBLE),
    ),
    "softcap": (
        {"potential": mg.potential.Dot(softcap=0.7)},
        {},
        lambda score, b, h, i, j: 0.7 * torch.tanh(score / 0.7),
    ),
    "relative bias": (
        {"prior": "bias"},
        {"bias": TABLE[torch.arange(N)[:, None] - torch.arange(N) + N].permute(2, 0, 1)},
        lambda score, b, h, i, j: score + TABLE[i - j + N, h],
    ),
}


def draw(*shapes):
    generator = torch.Generator().manual_seed(8)
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes
    ]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_scores_are_modified_as_by_flex_attention(name):
    parts, tensors, modify = CASES[name]
    q, k, v = draw((2, HEADS, N, 16), (2, HEADS, N, 16), (2, HEADS, N, 16))
    model = mg.Model(**{"structure": "each-query-picks-one", "potential": "dot", **parts})
    mean, log_z = model(q, k, **tensors).ask(mg.Mean(v), mg.LogPartition())
    # It trains on no processor.
    expected = flex_attention(q.detach(), k.detach(), v.detach(), score_mod=modify)
    torch.testing.assert_close(mean, expected, rtol=1e-9, atol=1e-9)

    b, h, i, j = (
        torch.arange(size).reshape(shape)
        for size, shape in [(2, (-1, 1, 1, 1)), (HEADS, (-1, 1, 1)), (N, (-1, 1)), (N, (-1,))]
    )
    scores = modify(q @ k.mT / 4, b, h, i, j)
    written = scores.softmax(-1) @ v
    torch.testing.assert_close(log_z, scores.logsumexp(-1), rtol=1e-9, atol=1e-9)
    upstream = torch.randn(written.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mine, theirs = (torch.autograd.grad(out, (q, k, v), upstream) for out in (mean, written))
    for own, other in zip(mine, theirs):
        torch.testing.assert_close(own, other, rtol=1e-9, atol=1e-9)

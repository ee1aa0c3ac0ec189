"""Attention on PyTorch's tensors against PyTorch's own and against formulas differentiated by its tape."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

import marginals as mg

DOT = mg.Model("each-query-picks-one", potential="dot")
CLOSE = {"rtol": 1e-9, "atol": 1e-9}


def draw(*shapes, dtype=torch.float64):
    generator = torch.Generator().manual_seed(5)
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for shape in shapes
    ]


def nodes(dtype=torch.float64):
    return draw((2, 4, 5, 8), (2, 4, 7, 8), (2, 4, 7, 6), dtype=dtype)


def same_with_gradients(got, expected, inputs, **close):
    """Whether two answers agree, and their gradients in all the inputs."""
    torch.testing.assert_close(got, expected, **(close or CLOSE))
    upstream = torch.randn(got.shape, generator=torch.Generator().manual_seed(6), dtype=got.dtype)
    mine = torch.autograd.grad(got, inputs, upstream, retain_graph=True)
    theirs = torch.autograd.grad(expected, inputs, upstream, retain_graph=True)
    for own, other in zip(mine, theirs):
        torch.testing.assert_close(own, other, **(close or CLOSE))


def test_the_mean_is_attention():
    q, k, v = nodes()
    same_with_gradients(DOT(q, k).ask(mg.Mean(v)), scaled_dot_product_attention(q, k, v), (q, k, v))


def test_causal():
    q, k, v = draw((2, 4, 6, 8), (2, 4, 6, 8), (2, 4, 6, 3))
    model = mg.Model("each-query-picks-one", "causal", "dot")
    expected = scaled_dot_product_attention(q, k, v, is_causal=True)
    same_with_gradients(model(q, k).ask(mg.Mean(v)), expected, (q, k, v))


@pytest.mark.parametrize("shape", [(2, 4, 5, 7), (5, 7), (1, 4, 1, 7), (2, 1, 5, 1)])
def test_learned_biases(shape):
    q, k, v, bias = draw((2, 4, 5, 8), (2, 4, 7, 8), (2, 4, 7, 6), shape)
    model = mg.Model("each-query-picks-one", "bias", "dot")
    expected = scaled_dot_product_attention(q, k, v, attn_mask=bias)
    same_with_gradients(model(q, k, bias=bias).ask(mg.Mean(v)), expected, (q, k, v, bias))


def test_masks_of_truth_values():
    q, k, v = nodes()
    mask = torch.tensor(np.random.default_rng(3).random((2, 1, 5, 7)) < 0.6)
    mask[..., 0] = True
    model = mg.Model("each-query-picks-one", "bias", "dot")
    expected = scaled_dot_product_attention(q, k, v, attn_mask=mask)
    same_with_gradients(model(q, k, bias=mask).ask(mg.Mean(v)), expected, (q, k, v))


def test_grouped_heads():
    q, k, v = draw((2, 6, 5, 8), (2, 2, 7, 8), (2, 2, 7, 6))
    expected = scaled_dot_product_attention(q, k, v, enable_gqa=True)
    same_with_gradients(DOT(q, k).ask(mg.Mean(v)), expected, (q, k, v))


def test_learned_rates_and_scales():
    q, k, v = draw((2, 4, 5, 8), (2, 4, 7, 8), (2, 4, 7, 6))
    rho = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64, requires_grad=True)
    scale = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    model = mg.Model("each-query-picks-one", mg.prior.Geometric(rho=rho), mg.potential.Dot(scale=scale))
    distance = (torch.arange(5)[:, None] - torch.arange(7)).abs()
    scores = scale * q @ k.mT + distance * torch.log1p(-rho)[:, None, None]
    mean, entropy = model(q, k).ask(mg.Mean(v), mg.Entropy())
    same_with_gradients(mean, scores.softmax(-1) @ v, (q, k, v, rho, scale))
    log_p = scores.log_softmax(-1)
    same_with_gradients(entropy, -(log_p.exp() * log_p).sum(-1), (q, k, rho, scale))


def test_several_answers_are_one_loss():
    q, k, v = nodes()
    log_p = (q @ k.mT * 8**-0.5).log_softmax(-1)
    p = log_p.exp()

    def loss(mean, log_z, entropy, mass):
        return (mean**2).sum() + log_z.sin().sum() + (entropy**3).sum() + (mass**2).sum()

    answers = DOT(q, k).ask(mg.Mean(v), mg.LogPartition(), mg.Entropy(), mg.ColumnMass())
    written = (
        p @ v,
        (q @ k.mT * 8**-0.5).logsumexp(-1),
        -(p * log_p).sum(-1),
        p.sum(-2),
    )
    mine = torch.autograd.grad(loss(*answers), (q, k, v))
    theirs = torch.autograd.grad(loss(*written), (q, k, v))
    for own, other in zip(mine, theirs):
        torch.testing.assert_close(own, other, **CLOSE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_other_formats(dtype):
    q, k, v = nodes(dtype)
    digits = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype]
    mean, entropy = DOT(q, k).ask(mg.Mean(v), mg.Entropy())
    assert mean.dtype == dtype and entropy.dtype == torch.float32
    expected = scaled_dot_product_attention(*(x.double() for x in (q, k, v))).to(dtype)
    same_with_gradients(mean, expected, (q, k, v), rtol=digits, atol=digits)


def test_any_strides():
    q, k, v = draw((2, 5, 4, 8), (2, 7, 4, 8), (2, 4, 6, 7))
    turned = q.transpose(1, 2), k.transpose(1, 2), v.mT
    expected = scaled_dot_product_attention(*turned)
    same_with_gradients(DOT(*turned[:2]).ask(mg.Mean(turned[2])), expected, (q, k, v))
    shared = v[:1].mT.expand(2, 4, 7, 6)
    expected = scaled_dot_product_attention(*turned[:2], shared)
    same_with_gradients(DOT(*turned[:2]).ask(mg.Mean(shared)), expected, (q, k, v))


def test_answers_without_gradients():
    q, k, v = nodes()
    best, mean = DOT(q, k).ask(mg.TopK(2), mg.Mean(v))
    assert mean.requires_grad and not best.index.requires_grad and not best.probability.requires_grad
    with torch.no_grad():
        assert not DOT(q, k).ask(mg.Mean(v)).requires_grad
    p = (q @ k.mT * 8**-0.5).softmax(-1)
    torch.testing.assert_close(best.index, p.topk(2).indices)


def test_arrays_and_tensors_may_be_mixed():
    q, k, v = nodes()
    got = DOT(q, k.detach().numpy()).ask(mg.Mean(v.detach().numpy()))
    same_with_gradients(got, scaled_dot_product_attention(q, k.detach(), v.detach()), (q,))


def test_memory_is_differentiated():
    states, patterns = draw((1, 1, 3, 4), (1, 1, 6, 4))
    model = mg.Model(
        mechanism={"hopfield": {"beta": 1.5, "steps": 2, "tolerance": 0.0, "differentiation": "unrolled"}}
    )
    z = states
    for _ in range(2):
        z = (1.5 * z @ patterns.mT).softmax(-1) @ patterns
    got = model(states=states, patterns=patterns).ask("state")
    same_with_gradients(got, z, (states, patterns))

"""Posteriors inside functions that `torch.compile` compiles whole."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch.library import opcheck

import marginals as mg
import marginals._compiled  # noqa: F401

DOT = mg.Model("each-query-picks-one", "causal", "dot")
# The default compiles what is between in C++, where there is a compiler.
BACKENDS = ["aot_eager", *(["inductor"] if shutil.which("g++") else [])]


def draw(*shapes):
    generator = torch.Generator().manual_seed(2)
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes
    ]


def loss(q, k, v):
    out, entropy, mass = DOT(q * 2, k).ask(mg.Mean(v), mg.Entropy(), mg.ColumnMass())
    return (out.sin() ** 2).sum() - (entropy * 0.1).sum() + (mass**2).sum()


@pytest.mark.parametrize("backend", BACKENDS)
def test_functions_are_compiled_whole(backend):
    torch.compiler.reset()
    tensors = draw((2, 4, 6, 8), (2, 2, 6, 8), (2, 2, 6, 5))
    compiled = torch.compile(loss, fullgraph=True, backend=backend)
    got, expected = compiled(*tensors), loss(*tensors)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    mine, theirs = torch.autograd.grad(got, tensors), torch.autograd.grad(expected, tensors)
    for own, other in zip(mine, theirs):
        torch.testing.assert_close(own, other, rtol=1e-11, atol=1e-11)


def test_sizes_may_vary():
    torch.compiler.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=True)
    for nodes in (5, 6, 9):
        tensors = draw((1, 2, nodes, 4), (1, 2, nodes, 4), (1, 2, nodes, 3))
        torch.testing.assert_close(compiled(*tensors), loss(*tensors), rtol=1e-12, atol=1e-12)


def of_a_structure(structure):
    """A model of the structure and nodes for it, as arguments of the operator."""
    tables = {"each-query-picks-k": {"k": 2}, "walk": {"hops": 2}, "semi-markov": {"longest": 2}}
    spec = {structure: tables[structure]} if structure in tables else structure
    if structure in ("walk", "each-query-picks-a-pair"):
        names, potential = ["q", "k", "v", "second-keys"], "dot"
        tensors = draw((1, 2, 4, 3), (1, 2, 4, 3), (1, 2, 4, 3), (1, 2, 4, 3))
    else:
        names, potential = ["scores", "v"], "scores"
        tensors = draw((1, 2, 4, 4), (1, 2, 4, 3))
    model = mg.Model(spec, potential=potential).to_json()
    return tensors, names, model, ["mean", "entropy", "kl"], 0, False


STRUCTURES = [part["name"] for part in mg._native.parts() if part["kind"] == "structure"]


@pytest.mark.parametrize("structure", [name for name in STRUCTURES if "pair" not in name])
def test_operators_are_as_pytorch_wants_them(structure):
    opcheck(torch.ops.marginals.ask.default, of_a_structure(structure))


def test_what_is_not_known_before_is_refused_by_name():
    with pytest.raises(Exception, match="`entropy` cannot be answered here: its sizes"):
        opcheck(torch.ops.marginals.ask.default, of_a_structure("each-query-picks-a-pair"))


def test_what_has_no_gradient_is_refused_by_name():
    torch.compiler.reset()
    q, k, v = draw((1, 2, 4, 3), (1, 2, 4, 3), (1, 2, 4, 2))
    compiled = torch.compile(lambda q, k: DOT(q, k).ask(mg.TopK(2)), fullgraph=True, backend="aot_eager")
    with pytest.raises(Exception, match="`top-k` cannot be answered here.*outside"):
        compiled(q, k)

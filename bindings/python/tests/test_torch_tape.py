"""How answers stand on PyTorch's tape: every gradient, once, again, forwards, and what is refused."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tomllib
import torch
from torch.autograd import forward_ad
from torch.func import grad, jvp, vmap
from torch.nn.functional import scaled_dot_product_attention

import marginals as mg

DOT = mg.Model("each-query-picks-one", potential="dot")
STRUCTURES = [part for part in mg._native.parts() if part["kind"] == "structure"]
DIFFERENTIABLE = [made for made in mg._questions.QUESTIONS.values() if made.differentiable]
CAPABILITIES = Path(__file__).resolve().parents[3] / "docs" / "capabilities.md"


def draw(*shapes, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes
    ]


def capabilities(mark):
    """Which questions of which structures the library says it answers so."""
    text = CAPABILITIES.read_text(encoding="utf-8").partition("## Questions × structures")[2]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.partition("\n1. ")[0].splitlines()
        if line.startswith("|")
    ]
    names = rows[0][1:]
    return {(row[0], name) for row in rows[2:] for name, cell in zip(names, row[1:]) if cell == mark}


@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda part: part["name"])
def test_gradients_of_every_question_are_differences(structure):
    example = tomllib.loads(f"entry = {structure['example']}")["entry"]
    model = mg.Model(example, "bias", "dot")
    nodes = 4
    names = ["q", "k", "v", "bias"]
    tensors = draw((1, 2, nodes, 3), (1, 2, nodes, 3), (1, 2, nodes, 2), (nodes, nodes))
    if "pair" in structure["name"]:
        names += ["second_keys", "second_values"]
        tensors += draw((1, 2, nodes, 3), (1, 2, nodes, 2), seed=2)
    if structure["name"] == "chain":
        names.append("transitions")
        tensors += draw((nodes, nodes), seed=3)
    checked = set()
    for made in DIFFERENTIABLE:
        own_names, own = list(names), list(tensors)
        for read in made.reads:
            own_names.append(read.replace(".", "_"))
            own += draw((1, 2, nodes, 3), seed=4)

        def answer(*given, made=made, own_names=own_names):
            return model(**dict(zip(own_names, given))).ask(made.name)

        try:
            answer(*own)
        except mg.errors.NotAnswerableError:
            continue
        assert torch.autograd.gradcheck(answer, own, fast_mode=True, check_forward_ad=False), made.name
        checked.add(made.name)
    listed = {question for question, name in capabilities("∂") if name == structure["name"]}
    assert checked >= listed and checked, listed - checked


@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda part: part["name"])
def test_forward_mode_of_every_structure_is_differences(structure):
    example = tomllib.loads(f"entry = {structure['example']}")["entry"]
    model = mg.Model(example, "bias", "dot")
    tensors = draw((1, 2, 4, 3), (1, 2, 4, 3), (1, 2, 4, 2), (1, 2, 4, 4))
    (second,) = draw((1, 2, 4, 3), seed=2)

    def mean(q, k, v, bias):
        return model(q, k, bias=bias, second_keys=second.detach()).ask(mg.Mean(v))

    def check():
        return torch.autograd.gradcheck(mean, tensors, fast_mode=True, check_forward_ad=True)

    if ("jvp", structure["name"]) in capabilities("✓"):
        assert check()
    else:
        with pytest.raises(mg.errors.NotAnswerableError, match="`jvp` cannot be answered"):
            check()


def test_gradients_of_mechanisms_are_differences():
    q, k, v = draw((1, 2, 5, 3), (1, 2, 5, 3), (1, 2, 5, 2))
    alpha, beta = (torch.full((1, 2, 1), x, dtype=torch.float64, requires_grad=True) for x in (1.5, 4.0))
    expanding = mg.Model(mechanism={"expanding": {"lost": 0.0}})

    def expanded(q, k, v, alpha, beta):
        return expanding(q, k, v=v, alpha=alpha, beta=beta).ask("mean", "log-evidence", "rho")

    assert torch.autograd.gradcheck(expanded, (q, k, v, alpha, beta), fast_mode=True)
    points, means = draw((1, 1, 12, 2), (1, 1, 3, 2))
    mixture = mg.Model(mechanism={"mixture": {"components": 3, "steps": 300, "tolerance": 0.0}})
    posterior = mixture(points=points, means=means.detach())
    fitted = posterior.ask("means", "weights")
    upstream = [torch.ones_like(x) for x in fitted]
    (found,) = torch.autograd.grad(fitted, points, upstream)
    # Weights add up to 1 whatever the points are, and where all points go the means go.
    torch.testing.assert_close(found.sum((0, 1, 2)), torch.full((2,), 3.0, dtype=torch.float64))
    with pytest.raises(mg.errors.UnknownNameError, match="there is no upstream gradient named `grad.mass`"):
        posterior.ask("mass").sum().backward()


def test_gradients_are_asked_for_again():
    q, k, v = draw((1, 2, 4, 3), (1, 2, 5, 3), (1, 2, 5, 2))
    loss = DOT(q, k).ask(mg.Mean(v)).square().sum()
    first = torch.autograd.grad(loss, (q, k, v), retain_graph=True)
    second = torch.autograd.grad(loss, (q, k, v))
    assert all(torch.equal(a, b) for a, b in zip(first, second))


def test_what_a_pass_keeps_goes_with_its_answers():
    q, k, v = draw((1, 2, 4, 3), (1, 2, 5, 3), (1, 2, 5, 2))
    for differentiated in (False, True):
        out = DOT(q, k).ask(mg.Mean(v))
        call = weakref.ref(out.grad_fn.call)
        assert call() is not None and call().kept is not None
        if differentiated:
            out.sum().backward()
        del out
        gc.collect()
        assert call() is None


def test_passes_leave_no_memory_behind():
    resource = pytest.importorskip("resource")
    q, k, v = draw((4, 8, 128, 64), (4, 8, 128, 64), (4, 8, 128, 64))

    def passes(count):
        for number in range(count):
            answers = DOT(q, k).ask(mg.Mean(v), mg.Entropy())
            if number % 2:
                torch.autograd.grad(answers[0].sum() + answers[1].sum(), (q, k, v))
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = passes(20)
    # Each keeps 2 MB of a mean and half a megabyte beside: a hundred would be seen.
    assert passes(100) - before < 50_000


def test_threads_share_models_and_nodes():
    q, k, v = draw((2, 4, 40, 8), (2, 4, 50, 8), (2, 4, 50, 8))
    shared = DOT(q, k).ask(mg.Mean(v)).square().sum()
    expected = torch.autograd.grad(shared, (q, k, v), retain_graph=True)

    def work(number):
        loss = shared if number % 2 else DOT(q, k).ask(mg.Mean(v)).square().sum()
        return torch.autograd.grad(loss, (q, k, v), retain_graph=True)

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(work, range(24)):
            assert all(map(torch.equal, found, expected))


def test_second_derivatives_are_refused_by_name():
    q, k, v = draw((1, 2, 4, 3), (1, 2, 5, 3), (1, 2, 5, 2))
    (first,) = torch.autograd.grad(DOT(q, k).ask(mg.Mean(v)).square().sum(), q, create_graph=True)
    with pytest.raises(mg.errors.NotAnswerableError, match="`mean` cannot.*second derivatives"):
        torch.autograd.grad(first.sum(), q)
    # What only passes through them is none.
    expected = torch.autograd.grad(scaled_dot_product_attention(q, k, v).square().sum(), q)[0]
    torch.testing.assert_close(first, expected)


def test_forward_mode_of_the_mean():
    tensors = [x.detach() for x in draw((1, 2, 4, 3), (1, 2, 5, 3), (1, 2, 5, 2))]
    tangents = [x.detach() for x in draw((1, 2, 4, 3), (1, 2, 5, 3), (1, 2, 5, 2), seed=2)]

    def ours(q, k, v):
        return DOT(q, k).ask(mg.Mean(v))

    def written(q, k, v):
        return (q @ k.mT * 3**-0.5).softmax(-1) @ v

    for got, expected in zip(
        jvp(ours, tuple(tensors), tuple(tangents)), jvp(written, tuple(tensors), tuple(tangents))
    ):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)
    with forward_ad.dual_level():
        q = forward_ad.make_dual(tensors[0], tangents[0])
        got = forward_ad.unpack_dual(ours(q, *tensors[1:])).tangent
        with pytest.raises(mg.errors.NotAnswerableError, match="`entropy`.*forward mode"):
            DOT(q, tensors[1]).ask(mg.Entropy())
    torch.testing.assert_close(got, jvp(lambda q: written(q, *tensors[1:]), (tensors[0],), (tangents[0],))[1])
    assert torch.autograd.gradcheck(
        ours, draw((1, 2, 4, 3), (1, 2, 5, 3), (1, 2, 5, 2)), check_forward_ad=True
    )


def test_functions_are_mapped_and_differentiated():
    q, k, v = (x.detach() for x in draw((3, 1, 2, 4, 3), (1, 2, 5, 3), (3, 1, 2, 5, 2)))
    ours = vmap(lambda q, v: DOT(q, k).ask(mg.Mean(v)))(q, v)
    torch.testing.assert_close(ours, (q @ k.mT * 3**-0.5).softmax(-1) @ v, rtol=1e-9, atol=1e-9)
    got = vmap(grad(lambda q, v: DOT(q, k).ask(mg.Mean(v)).square().sum()))(q, v)
    expected = vmap(grad(lambda q, v: ((q @ k.mT * 3**-0.5).softmax(-1) @ v).square().sum()))(q, v)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)
    tangent = torch.ones_like(q)
    got = vmap(lambda q, t: jvp(lambda q: DOT(q, k).ask(mg.Mean(v[0])), (q,), (t,))[1])(q, tangent)
    written = lambda q: (q @ k.mT * 3**-0.5).softmax(-1) @ v[0]  # noqa: E731
    torch.testing.assert_close(got, jvp(written, (q,), (tangent,))[1], rtol=1e-9, atol=1e-9)
    with pytest.raises(mg.errors.NotAnswerableError, match="`geometric.rho` cannot.*mapped over"):
        prior = mg.Model("each-query-picks-one", mg.prior.Geometric(rho=0.1), "dot")
        rho = torch.tensor([0.1], dtype=torch.float64)
        of_rho = grad(lambda rho, q: prior(q, k, geometric_rho=rho).ask(mg.Entropy()).sum())
        vmap(of_rho, (None, 0))(rho, q)


@pytest.mark.parametrize("device", ["meta"])
def test_other_devices_are_refused_by_name(device):
    q, k, _ = draw((1, 2, 4, 3), (1, 2, 5, 3), (1, 2, 5, 2))
    with pytest.raises(mg.errors.DeviceError, match=f"`k` lies on the device {device}"):
        DOT(q, k.to(device)).ask(mg.Entropy())
    with pytest.raises(mg.errors.EntriesError, match="`k` is laid out as"):
        DOT(q, k.to_sparse()).ask(mg.Entropy())
    with pytest.raises(mg.errors.EntriesError, match="`k` holds .*complex"):
        DOT(q, k.to(torch.complex128)).ask(mg.Entropy())
    with pytest.raises(mg.errors.EntriesError, match="`k`"):
        DOT(q, k.float()).ask(mg.Entropy())

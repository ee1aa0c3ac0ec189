"""What block-slot attention answers in PyTorch, for the Rust test `block_slots` to agree with.

Run from anywhere, in an environment with torch 2.15.0 and safetensors 0.8:

    python tools/reference/block_slots.py [FOLDER]

It rewrites crates/marginals-burn/tests/data/block_slots.safetensors. Written from Singh, Kim & Ahn
2023 (arXiv 2211.01177, section 3.2); the weights are named as in the authors' module `SysBinder`
(github.com/singhgautam/sysbinder, MIT), with which it is compared, output and gradients, where
FOLDER is a checkout of it.
"""

import subprocess
import sys

import torch
import torch.nn.functional as F

from modules import difference, normal, record, write
from slots import gru, linear, norm


def per_block(x, blocks):
    """[..., K d] as [..., K, d], every block normalised by itself."""
    x = x.unflatten(-1, (blocks, -1))
    return F.layer_norm(x, x.shape[-1:])


def block_linear(w, name, x):
    """x [..., K, i] through a matrix per block."""
    y = torch.einsum("...ki,kio->...ko", x, w[f"{name}.w"])
    return y + w[f"{name}.b"].view(y.shape[-2:])


def on_diagonal(weight, blocks):
    """A GRU's weight with everything but the blocks on the diagonal of each gate set to 0."""
    rows, columns = weight.shape[0] // 3, weight.shape[1]
    mask = torch.block_diag(*[torch.ones(rows // blocks, columns // blocks)] * blocks)
    return weight * mask.to(weight).repeat(3, 1)


def prototypes(w, blocks):
    x = w["prototype_memory.mem_params"][0]
    for index in [0, 2, 4, 6]:
        x = linear(w, f"prototype_memory.mem_proj.{index}", F.relu(x) if index else x)
    return F.layer_norm(x, x.shape[-1:])


def block_slot_attention(w, inputs, *, iterations=3, epsilon=1e-8):
    """`inputs`: x [B, M, I] and the noise [B, N, S] that slots start from."""
    blocks = w["mlp.0.w"].shape[0]
    cell = {
        f"gru.{name}": on_diagonal(w[f"gru.gru.{name}"], blocks)
        for name in ["weight_ih", "weight_hh"]
    } | {f"gru.{name}": w[f"gru.gru.{name}"] for name in ["bias_ih", "bias_hh"]}
    slots = w["slot_mu"] + w["slot_log_sigma"].exp() * inputs["noise"]
    x = norm(w, "norm_inputs", inputs["x"])
    k, v = linear(w, "project_k", x), linear(w, "project_v", x)
    memory = prototypes(w, blocks)
    for _ in range(iterations):
        q = linear(w, "project_q", norm(w, "norm_slots", slots))
        scores = torch.einsum("bns,bms->bnm", q, k) / q.shape[-1] ** 0.5
        attention = scores.softmax(dim=1) + epsilon
        attention = attention / attention.sum(dim=2, keepdim=True)
        slots = gru(cell, "gru", attention @ v, slots)
        hidden = F.relu(block_linear(w, "mlp.0", per_block(slots, blocks)))
        slots = slots + block_linear(w, "mlp.2", hidden).flatten(-2)
        query = per_block(slots, blocks)
        scores = torch.einsum("bnkd,pkd->bnkp", query, memory) / query.shape[-1] ** 0.5
        slots = torch.einsum("bnkp,pkd->bnkd", scores.softmax(-1), memory).flatten(-2)
    return slots


def weights(inputs, slots, blocks, prototypes, hidden):
    own = slots // blocks
    w = {"slot_mu": normal(1, 1, slots), "slot_log_sigma": normal(1, 1, slots, scale=0.3)}
    for name, width in [("norm_inputs", inputs), ("norm_slots", slots)]:
        w[f"{name}.weight"] = 1 + normal(width, scale=0.2)
        w[f"{name}.bias"] = normal(width, scale=0.2)
    for name, width in [("project_q", slots), ("project_k", inputs), ("project_v", inputs)]:
        w[f"{name}.weight"] = normal(slots, width, scale=1.5 * width**-0.5)
    for half in ["ih", "hh"]:
        # Full, as a checkpoint holds it before its first step: what is masked must not be read.
        w[f"gru.gru.weight_{half}"] = normal(3 * slots, slots, scale=own**-0.5)
        w[f"gru.gru.bias_{half}"] = normal(3 * slots, scale=0.5)
    for name, i, o in [("mlp.0", own, hidden // blocks), ("mlp.2", hidden // blocks, own)]:
        w[f"{name}.w"] = normal(blocks, i, o, scale=1.5 * i**-0.5)
        w[f"{name}.b"] = normal(1, blocks * o, scale=0.5)
    memory = "prototype_memory"
    w[f"{memory}.mem_params"] = normal(1, prototypes, blocks, own)
    for index, i, o in [(0, 1, 4), (2, 4, 4), (4, 4, 4), (6, 4, 1)]:
        w[f"{memory}.mem_proj.{index}.weight"] = normal(o * own, i * own, scale=(i * own) ** -0.5)
        w[f"{memory}.mem_proj.{index}.bias"] = normal(o * own, scale=0.3)
    return w


def compare(folder):
    """Ours against the authors' module, output and gradients."""
    sys.path.insert(0, folder)
    from unittest.mock import patch

    from sysbinder import SysBinder

    blocks, count = 4, 6
    w = weights(16, 24, blocks, count, 48)
    x, noise = normal(2, 29, 16), normal(2, 5, 24)
    module = SysBinder(3, 5, 16, 24, 48, count, blocks)
    own = {name: tensor for name, tensor in w.items()}
    own["gru.mask_hx"], own["gru.mask_hh"] = module.gru.mask_hx.data, module.gru.mask_hh.data
    module.load_state_dict(own, strict=True)
    module = module.double()
    theirs_x = x.double().requires_grad_()
    with patch.object(torch.Tensor, "normal_", lambda *_, **__: noise.double()):
        theirs, _ = module(theirs_x)
    leaves = {name: tensor.double().requires_grad_() for name, tensor in w.items()}
    our_x = x.double().requires_grad_()
    ours = block_slot_attention(leaves, {"x": our_x, "noise": noise.double()})
    upstream = torch.linspace(-1, 1, ours.numel(), dtype=torch.float64).view_as(ours)
    parameters = dict(module.named_parameters())
    our_gradients = torch.autograd.grad((ours * upstream).sum(), [our_x, *leaves.values()])
    their_gradients = torch.autograd.grad(
        (theirs * upstream).sum(), [theirs_x, *(parameters[name] for name in w)]
    )
    worst = difference(ours, theirs)
    for name, a, b in zip(["x", *w], our_gradients, their_gradients, strict=True):
        if name.startswith("gru.gru.weight"):
            # They mask the weights' data and leave the gradients of what is masked standing.
            a, b = on_diagonal(a, blocks), on_diagonal(b, blocks)
        worst = max(worst, difference(a, b))
    assert worst <= 1e-6, f"differs from the authors' module by {worst}"
    git = ["git", "-C", folder, "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return f"singhgautam/sysbinder {commit}, largest difference {worst:.1e}, output and gradients"


def main():
    torch.manual_seed(20221102)
    tensors = {}
    for name, w, slots, width, settings in [
        ("blocks", weights(10, 12, 3, 5, 18), 4, 10, {}),
        ("one-block", weights(6, 8, 1, 3, 8), 3, 6, dict(iterations=2)),
        ("epsilon", weights(6, 8, 4, 2, 8), 3, 6, dict(iterations=1, epsilon=0.05)),
    ]:
        inputs = {"x": normal(2, 21, width), "noise": normal(2, slots, w["slot_mu"].shape[-1])}
        module = lambda w, i, settings=settings: block_slot_attention(w, i, **settings)  # noqa: E731
        tensors |= record(name, module, w, inputs)
    checks = [compare(sys.argv[1])] if len(sys.argv) > 1 else []
    write("block_slots.safetensors", tensors, checks)


if __name__ == "__main__":
    main()

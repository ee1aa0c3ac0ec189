"""Posteriors that slots and Perceivers end with in PyTorch, for the tests of `infer` to agree with.

Run from anywhere, in an environment with torch 2.15.0 and safetensors 0.8, after slots.py, block_slots.py
and perceiver.py, whose recorded weights and inputs it reads:

    python tools/reference/last_posteriors.py

It rewrites crates/marginals-burn/tests/data/last_posteriors.safetensors: for each case, the probabilities
of its last attention [B, H, N, M] and their entropies in nats, of the inputs of slots [B, H, M] and of the
latents of a Perceiver [B, H, N].
"""

from unittest.mock import patch

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from block_slots import block_slot_attention
from modules import DATA, write
from perceiver import perceiver
from slots import slot_attention


def recorded(file, case):
    tensors = load_file(DATA / file)

    def beginning_with(prefix):
        prefix = f"{case}.{prefix}."
        return {n[len(prefix) :]: x.double() for n, x in tensors.items() if n.startswith(prefix)}

    return beginning_with("weights"), beginning_with("inputs")


def of_slots(axis, run):
    """The last softmax over slots, which lie on `axis`, as [B, H, N, M]."""
    found = []
    softmax = torch.Tensor.softmax

    def seen(scores, dim):
        probabilities = softmax(scores, dim)
        if dim == axis:
            found.append(probabilities)
        return probabilities

    with patch("torch.Tensor.softmax", seen):
        run()
    last = found[-1]
    return last if last.dim() == 4 else last.unsqueeze(1)


def of_inputs(inputs, run):
    """The last attention to so many inputs, as [B, H, N, M]."""
    found = []
    attend = F.scaled_dot_product_attention

    def seen(q, k, v):
        if k.shape[2] == inputs:
            found.append((q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1))
        return attend(q, k, v)

    with patch("torch.nn.functional.scaled_dot_product_attention", seen):
        run()
    return found[-1]


def main():
    tensors = {}

    def case(name, probabilities, axis):
        entropy = -torch.special.xlogy(probabilities, probabilities).sum(axis)
        tensors[f"{name}.marginals"] = probabilities.float().contiguous()
        tensors[f"{name}.entropy"] = entropy.float().contiguous()

    for name, settings in [
        ("paper", {}),
        ("bias", {}),
        ("heads", {"heads": 2}),
        ("many-heads", {"heads": 4}),
        ("plain", {"iterations": 2}),
    ]:
        w, inputs = recorded("slots.safetensors", name)
        case(f"slots.{name}", of_slots(-2, lambda: slot_attention(w, inputs, **settings)), -2)
    w, inputs = recorded("block_slots.safetensors", "blocks")
    case("block-slots.blocks", of_slots(1, lambda: block_slot_attention(w, inputs)), -2)
    for name, settings in [
        ("shared", dict(depth=3, cross_heads=1, latent_heads=2, self_per_cross=1, shared=True)),
        ("separate", dict(depth=2, cross_heads=2, latent_heads=3, self_per_cross=2, shared=False)),
    ]:
        w, inputs = recorded("perceiver.safetensors", name)
        run = lambda: perceiver(w, inputs, classes="to_logits.2.weight" in w, **settings)
        case(f"perceiver.{name}", of_inputs(inputs["x"].shape[1], run), -1)
    write("last_posteriors.safetensors", tensors, [])


if __name__ == "__main__":
    main()

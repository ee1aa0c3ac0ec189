"""What slot attention answers in PyTorch, for the Rust test `slots` to agree with.

Run from anywhere, in an environment with torch 2.15.0 and safetensors 0.8:

    python tools/reference/slots.py

It rewrites crates/marginals-burn/tests/data/slots.safetensors. Written from Algorithm 1 of Locatello
et al. 2020 (arXiv 2006.15055); the weights are named as in the PyPI package `slot-attention`
(1.5.2, MIT), with which it is compared, output and gradients, where the package is installed:

    pip install slot-attention==1.5.2
"""

import torch
import torch.nn.functional as F

from modules import agree, normal, record, write


def linear(w, name, x):
    return F.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))


def norm(w, name, x):
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])


def gru(w, name, x, state):
    """One step of a GRU, the reset gate applied to what the state's weights make of it."""
    a = F.linear(x, w[f"{name}.weight_ih"], w[f"{name}.bias_ih"]).chunk(3, -1)
    b = F.linear(state, w[f"{name}.weight_hh"], w[f"{name}.bias_hh"]).chunk(3, -1)
    reset, update = torch.sigmoid(a[0] + b[0]), torch.sigmoid(a[1] + b[1])
    new = torch.tanh(a[2] + reset * b[2])
    return (1 - update) * new + update * state


def slot_attention(w, inputs, *, iterations=3, heads=1, epsilon=1e-8):
    """`inputs`: x [B, M, I] and the noise [B, N, S] that slots start from."""

    def split(x):
        return x.unflatten(-1, (heads, -1)).transpose(1, 2)

    slots = w["slots_mu"] + w["slots_logsigma"].exp() * inputs["noise"]
    x = norm(w, "norm_input", inputs["x"])
    k, v = split(linear(w, "to_k", x)), split(linear(w, "to_v", x))
    for _ in range(iterations):
        q = split(linear(w, "to_q", norm(w, "norm_slots", slots)))
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        attention = scores.softmax(dim=-2) + epsilon
        attention = attention / attention.sum(dim=-1, keepdim=True)
        updates = (attention @ v).transpose(1, 2).flatten(-2)
        if "combine_heads.weight" in w:
            updates = linear(w, "combine_heads", updates)
        if "gru.weight_ih" not in w:
            slots = updates
            continue
        slots = gru(w, "gru", updates, slots)
        hidden = F.relu(linear(w, "mlp.0", norm(w, "norm_pre_ff", slots)))
        slots = slots + linear(w, "mlp.2", hidden)
    return slots


def weights(inputs, slots, *, hidden=24, heads=1, head=None, bias=True, gated=True):
    head = head or slots // heads
    inner = heads * head
    w = {"slots_mu": normal(1, 1, slots), "slots_logsigma": normal(1, 1, slots, scale=0.3)}

    def matrix(name, outputs, inputs, biased=True):
        # Larger than a trained network's, so that slots differ and gradients are not tiny.
        w[f"{name}.weight"] = normal(outputs, inputs, scale=1.5 * inputs**-0.5)
        if biased:
            w[f"{name}.bias"] = normal(outputs, scale=0.5)

    for name, width in [("to_q", slots), ("to_k", inputs), ("to_v", inputs)]:
        matrix(name, inner, width, bias)
    if heads > 1:
        matrix("combine_heads", slots, inner)
    names = [("norm_input", inputs), ("norm_slots", slots)]
    if gated:
        for half in ["ih", "hh"]:
            w[f"gru.weight_{half}"] = normal(3 * slots, slots, scale=slots**-0.5)
            w[f"gru.bias_{half}"] = normal(3 * slots, scale=0.5)
        matrix("mlp.0", hidden, slots)
        matrix("mlp.2", slots, hidden)
        names.append(("norm_pre_ff", slots))
    for name, width in names:
        w[f"{name}.weight"] = 1 + normal(width, scale=0.2)
        w[f"{name}.bias"] = normal(width, scale=0.2)
    return w


def published(w, x, noise, *, iterations=3, heads=1, epsilon=1e-8):
    """The package's module with our weights; the noise it draws is replaced by ours."""
    from unittest.mock import patch

    from slot_attention import MultiHeadSlotAttention, SlotAttention

    width, hidden = x.shape[-1], w["mlp.0.weight"].shape[0]
    common = dict(iters=iterations, eps=epsilon, hidden_dim=hidden)
    if heads == 1:
        module = SlotAttention(noise.shape[1], width, **common)
    else:
        head = w["to_q.weight"].shape[0] // heads
        module = MultiHeadSlotAttention(
            noise.shape[1], width, heads=heads, dim_head=head, **common
        )
    module = module.double()
    module.load_state_dict({name: x.double() for name, x in w.items()}, strict=True)
    x = x.double().requires_grad_()
    with patch("torch.randn", lambda *_, **__: noise.double()):
        output = module(x)
    upstream = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).view_as(output)
    parameters = dict(module.named_parameters())
    leaves = [x, *(parameters[name] for name in w)]
    return [output, *torch.autograd.grad((output * upstream).sum(), leaves)]


def ours(w, x, noise, **settings):
    w = {name: x.double().requires_grad_() for name, x in w.items()}
    x = x.double().requires_grad_()
    output = slot_attention(w, {"x": x, "noise": noise.double()}, **settings)
    upstream = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).view_as(output)
    return [output, *torch.autograd.grad((output * upstream).sum(), [x, *w.values()])]


def main():
    torch.manual_seed(20200626)
    tensors = {}

    def case(name, w, slots, width, *, batch=2, keys=23, **settings):
        noise = normal(batch, slots, w["slots_mu"].shape[-1])
        inputs = {"x": normal(batch, keys, width), "noise": noise}
        tensors.update(record(name, lambda w, i: slot_attention(w, i, **settings), w, inputs))

    case("paper", weights(10, 12, bias=False), 5, 10)
    case("bias", weights(12, 12), 4, 12)
    # Few slots, whose projections are taken to the inputs' width; and many, where inputs are projected.
    case("heads", weights(12, 12, heads=2), 3, 12, heads=2)
    case("many-heads", weights(12, 12, heads=4, head=5), 11, 12, heads=4)
    case("plain", weights(10, 12, bias=False, gated=False), 6, 10, iterations=2)
    # An epsilon that is felt.
    case("epsilon", weights(10, 12), 5, 10, iterations=1, epsilon=0.05)

    checks = []
    try:
        import slot_attention as _  # noqa: F401
    except ImportError:
        pass
    else:
        for what, heads, head in [("one head", 1, 16), ("four heads", 4, 8)]:
            w = weights(16, 16, heads=heads, head=head)
            x, noise = normal(2, 37, 16), normal(2, 5, 16)
            for epsilon in [1e-8, 0.05]:
                settings = dict(heads=heads, epsilon=epsilon)
                pair = ours(w, x, noise, **settings), published(w, x, noise, **settings)
                checks.append(agree(f"{what}, epsilon {epsilon}", "slot-attention", *pair))
    write("slots.safetensors", tensors, checks)


if __name__ == "__main__":
    main()

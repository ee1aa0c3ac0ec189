"""What a Perceiver answers in PyTorch, for the Rust test `perceiver` to agree with.

Run from anywhere, in an environment with torch 2.15.0 and safetensors 0.8:

    python tools/reference/perceiver.py

It rewrites crates/marginals-burn/tests/data/perceiver.safetensors. Written from Jaegle et al. 2021
(arXiv 2103.03206); the weights are named as in the PyPI package `perceiver-pytorch` (0.11.0, MIT),
with which it is compared, output and gradients, where the package is installed:

    pip install perceiver-pytorch==0.11.0

Weights that layers share are stored once, under layer 1.
"""

import torch
import torch.nn.functional as F

from modules import agree, normal, record, write
from slots import linear, norm


def attention(w, name, x, context, heads):
    def split(y):
        return y.unflatten(-1, (heads, -1)).transpose(1, 2)

    q = split(linear(w, f"{name}.to_q", x))
    k, v = (split(y) for y in linear(w, f"{name}.to_kv", context).chunk(2, -1))
    mean = F.scaled_dot_product_attention(q, k, v)
    return linear(w, f"{name}.to_out", mean.transpose(1, 2).flatten(-2))


def feed_forward(w, name, x):
    hidden = linear(w, f"{name}.fn.net.0", norm(w, f"{name}.norm", x))
    if hidden.shape[-1] == w[f"{name}.fn.net.2.weight"].shape[-1]:
        hidden = F.gelu(hidden)
    else:
        half, gates = hidden.chunk(2, -1)
        hidden = half * F.gelu(gates)
    return x + linear(w, f"{name}.fn.net.2", hidden)


def depth_attention(w, name, states):
    """The mean over states, weighted number by number (Chen et al. 2026, arXiv 2603.15031)."""
    past = torch.stack(states, -2)
    root = torch.sqrt((past**2).mean(-1, keepdim=True) + torch.finfo(torch.float32).eps)
    logits = past / root * w[f"{name}.0.weight"]
    logits = linear(w, f"{name}.2", linear(w, f"{name}.1", logits))
    return (past * logits.softmax(-2)).sum(-2)


def perceiver(w, inputs, *, depth, cross_heads, latent_heads, self_per_cross, shared, classes):
    data = inputs["x"]
    z = w["latents"].expand(data.shape[0], -1, -1)
    states = [z]
    for layer in range(depth):
        own_set = min(layer, 1) if shared else layer
        block = f"layers.{own_set}"
        cross = f"{block}.cross_attn"
        context = norm(w, f"{cross}.norm_context", data)
        x = norm(w, f"{cross}.norm", z)
        z = z + attention(w, f"{cross}.fn", x, context, cross_heads)
        z = feed_forward(w, f"{block}.cross_ff", z)
        for index in range(self_per_cross):
            own = f"{block}.self_attns.{index}"
            x = norm(w, f"{own}.0.norm", z)
            z = z + attention(w, f"{own}.0.fn", x, x, latent_heads)
            z = feed_forward(w, f"{own}.1", z)
        name = f"attn_residuals.{own_set}.to_attn_logits"
        if f"{name}.0.weight" in w:
            states.append(z)
            z = depth_attention(w, name, states)
    if not classes:
        return z
    return linear(w, "to_logits.2", norm(w, "to_logits.1", z.mean(1)))


def weights(
    *, inputs, latents, width, depth, shared, self_per_cross, cross, own, gates=True, classes=None,
    widening=4, rank=None,
):
    """`cross` and `own` are the heads of the two attentions and their widths, `rank` is that of the
    attention over depth."""
    w = {"latents": normal(latents, width)}

    def matrix(name, outputs, columns, bias=True):
        w[f"{name}.weight"] = normal(outputs, columns, scale=columns**-0.5)
        if bias:
            w[f"{name}.bias"] = normal(outputs, scale=0.5)

    def layer_norm(name, columns):
        w[f"{name}.weight"] = 1 + normal(columns, scale=0.2)
        w[f"{name}.bias"] = normal(columns, scale=0.2)

    def attend(name, columns, heads, head):
        layer_norm(f"{name}.norm", width)
        matrix(f"{name}.fn.to_q", heads * head, width, bias=False)
        matrix(f"{name}.fn.to_kv", 2 * heads * head, columns, bias=False)
        matrix(f"{name}.fn.to_out", width, heads * head)

    def network(name):
        hidden = widening * width
        layer_norm(f"{name}.norm", width)
        matrix(f"{name}.fn.net.0", 2 * hidden if gates else hidden, width)
        matrix(f"{name}.fn.net.2", width, hidden)

    for layer in range(min(depth, 2) if shared else depth):
        block = f"layers.{layer}"
        attend(f"{block}.cross_attn", inputs, *cross)
        layer_norm(f"{block}.cross_attn.norm_context", inputs)
        network(f"{block}.cross_ff")
        for index in range(self_per_cross):
            attend(f"{block}.self_attns.{index}.0", width, *own)
            network(f"{block}.self_attns.{index}.1")
        if rank:
            name = f"attn_residuals.{layer}.to_attn_logits"
            w[f"{name}.0.weight"] = 1 + normal(width, scale=0.2)
            matrix(f"{name}.1", rank, width, bias=False)
            matrix(f"{name}.2", width, rank, bias=False)
    if classes:
        layer_norm("to_logits.1", width)
        matrix("to_logits.2", classes, width)
    return w


def compare(shared, classes, rank=None):
    """Ours against the package, output and gradients."""
    from perceiver_pytorch import Perceiver

    shape = dict(inputs=7, latents=6, width=12, depth=3, self_per_cross=2)
    w = weights(**shape, shared=shared, cross=(1, 8), own=(3, 4), classes=classes, rank=rank)
    module = Perceiver(
        num_freq_bands=0, max_freq=1.0, depth=3, input_channels=7, input_axis=1, num_latents=6,
        latent_dim=12, cross_heads=1, latent_heads=3, cross_dim_head=8, latent_dim_head=4,
        num_classes=classes or 1, weight_tie_layers=shared, fourier_encode_data=False,
        self_per_cross_attn=2, final_classifier_head=bool(classes), attn_residual=bool(rank),
        attn_residual_rank=rank or 1,
    ).double()
    for residual in module.attn_residuals if rank else []:
        # Without one it is that of the numbers' format, and trained in f32.
        residual.to_attn_logits[0].eps = torch.finfo(torch.float32).eps
    own = {name: x.double() for name, x in w.items()}
    if shared:
        lists = ["layers", "attn_residuals"]
        own |= {n.replace(f"{a}.1.", f"{a}.2."): x for a in lists for n, x in w.items() if f"{a}.1." in n}
        own = {name: x.double() for name, x in own.items()}
    module.load_state_dict(own, strict=True)
    x = normal(2, 31, 7)
    theirs_x, ours_x = x.double().requires_grad_(), x.double().requires_grad_()
    theirs = module(theirs_x)
    leaves = {name: tensor.double().requires_grad_() for name, tensor in w.items()}
    ours = perceiver(
        leaves, {"x": ours_x}, depth=3, cross_heads=1, latent_heads=3, self_per_cross=2,
        shared=shared, classes=classes,
    )
    upstream = torch.linspace(-1, 1, ours.numel(), dtype=torch.float64).view_as(ours)
    parameters = dict(module.named_parameters())
    pairs = (ours, ours_x, leaves), (theirs, theirs_x, parameters)
    found = [
        [output, *torch.autograd.grad((output * upstream).sum(), [x, *(named[n] for n in w)])]
        for output, x, named in pairs
    ]
    what = f"{'shared' if shared else 'separate'} weights, {classes or 'no'} classes"
    what += f", attention over depth of rank {rank}" if rank else ""
    return agree(what, "perceiver-pytorch", *found)


def main():
    torch.manual_seed(20210304)
    tensors = {}

    def case(name, *, keys=19, **shape):
        w = weights(**shape)
        settings = dict(
            depth=shape["depth"], cross_heads=shape["cross"][0], latent_heads=shape["own"][0],
            self_per_cross=shape["self_per_cross"], shared=shape["shared"],
            classes=shape.get("classes"),
        )
        inputs = {"x": normal(2, keys, shape["inputs"])}
        tensors.update(record(name, lambda w, i: perceiver(w, i, **settings), w, inputs))

    case("shared", inputs=5, latents=4, width=8, depth=3, shared=True, self_per_cross=1,
         cross=(1, 6), own=(2, 4))
    case("separate", inputs=5, latents=4, width=9, depth=2, shared=False, self_per_cross=2,
         cross=(2, 3), own=(3, 3), classes=4, widening=2)
    case("gelu", inputs=4, latents=5, width=6, depth=1, shared=True, self_per_cross=0,
         cross=(1, 6), own=(1, 6), gates=False)
    case("depth", inputs=5, latents=4, width=8, depth=4, shared=True, self_per_cross=1,
         cross=(1, 6), own=(2, 4), rank=3)
    case("depth-separate", inputs=5, latents=4, width=8, depth=3, shared=False, self_per_cross=1,
         cross=(1, 6), own=(2, 4), rank=3, classes=3)

    checks = []
    try:
        import perceiver_pytorch as _  # noqa: F401
    except ImportError:
        pass
    else:
        checks = [compare(shared, classes) for shared in [True, False] for classes in [None, 5]]
        checks += [compare(shared, None, rank=3) for shared in [True, False]]
    write("perceiver.safetensors", tensors, checks)


if __name__ == "__main__":
    main()

"""What other libraries answer in float64 for the mechanisms of the zoo, for the Rust test `zoo`.

Run from the root of the repository, in an environment with torch 2.15.0, transformers 5.23.0,
torch_geometric 2.8.1, numpy 2.x and safetensors 0.8:

    python tools/reference/zoo.py

It rewrites crates/marginals/tests/all/data/zoo.safetensors. Per case the file holds the inputs, the
`mean`, a fixed upstream weight `upstream` of it and the gradients `grad.*` that autograd gives.

From other code: ALiBi's bias (transformers, BLOOM), T5's buckets (transformers, T5), the rotation
(transformers, Llama), attention with sinks (transformers, gpt-oss), GAT and GATv2 whole
(torch_geometric). The rest is PyTorch's attention with the mask, cap or logistic function written
out, and the normalisation model a NumPy convolution.
"""

import os
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch_geometric.nn import GATConv, GATv2Conv
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.gpt_oss.modeling_gpt_oss import eager_attention_forward
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb
from transformers.models.t5.modeling_t5 import T5Attention

OUTPUT = Path("crates/marginals/tests/all/data/zoo.safetensors")


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def impossible_where(condition):
    return torch.zeros(condition.shape, dtype=torch.float64).masked_fill(condition, -torch.inf)


def grid(nodes):
    return torch.arange(nodes)[:, None], torch.arange(nodes)[None, :]


def future(nodes):
    i, j = grid(nodes)
    return impossible_where(j > i)


def case(name, mean, leaves, fixed=None):
    """A case from its answer and the tensors that have gradients."""
    upstream = torch.randn_like(mean)
    gradients = torch.autograd.grad((mean * upstream).sum(), list(leaves.values()))
    tensors = {tensor: x.detach() for tensor, x in leaves.items()} | (fixed or {})
    tensors |= {"mean": mean.detach(), "upstream": upstream}
    tensors |= {f"grad.{tensor}": g for tensor, g in zip(leaves, gradients)}
    for tensor, x in tensors.items():
        assert not x.is_floating_point() or not x.isnan().any(), f"{name}.{tensor} holds NaN"
    return {f"{name}.{tensor}": x.contiguous() for tensor, x in tensors.items()}


def nodes_of(heads=2, nodes=9, width=6, value_width=3, batch=1):
    return {
        "q": normal(batch, heads, nodes, width).requires_grad_(),
        "k": normal(batch, heads, nodes, width).requires_grad_(),
        "v": normal(batch, heads, nodes, value_width).requires_grad_(),
    }


def attend(leaves, mask=None, scale=None):
    return F.scaled_dot_product_attention(
        leaves["q"], leaves["k"], leaves["v"], attn_mask=mask, scale=scale
    )


def scores(leaves):
    return leaves["q"] @ leaves["k"].transpose(-1, -2) / leaves["q"].shape[-1] ** 0.5


def alibi():
    leaves = nodes_of(heads=8, nodes=7)
    bias = build_alibi_tensor(torch.ones(1, 7), 8, torch.float64).reshape(1, 8, 1, 7)
    return case("alibi", attend(leaves, bias + future(7)), leaves)


def relative_positions(name, bidirectional):
    # Long enough for the logarithmic buckets: 32 of them, 128 positions.
    nodes = 150
    leaves = nodes_of(nodes=nodes, width=2, value_width=1)
    table = normal(32, 2).requires_grad_()
    i, j = grid(nodes)
    bucket = T5Attention._relative_position_bucket(j - i, bidirectional, 32, 128)
    mask = table[bucket].permute(2, 0, 1)[None]
    return case(name, attend(leaves, mask, 1.0), leaves | {"table": table})


def sliding_window():
    leaves = nodes_of()
    i, j = grid(9)
    return case("sliding-window", attend(leaves, impossible_where((j > i) | (j <= i - 4))), leaves)


def documents():
    leaves = nodes_of()
    segments = torch.tensor([[3, 3, 3, 5, 5, 3, 1, 1, 1]])
    mask = future(9) + impossible_where(segments.T != segments)
    return case("documents", attend(leaves, mask), leaves, {"segments": segments})


def rotary():
    leaves = nodes_of()
    angle = torch.arange(9)[:, None] * 100.0 ** (-torch.arange(3, dtype=torch.float64) / 3)
    angle = torch.cat([angle, angle], -1)[None]
    q, k = apply_rotary_pos_emb(leaves["q"], leaves["k"], angle.cos(), angle.sin())
    return case("rotary", attend(leaves | {"q": q, "k": k}, future(9)), leaves)


def softcap():
    leaves = nodes_of()
    capped = 0.7 * torch.tanh(scores(leaves) / 0.7)
    return case("softcap", torch.softmax(capped + future(9), -1) @ leaves["v"], leaves)


def attention_sink():
    leaves = nodes_of() | {"null": normal(2).requires_grad_()}
    module = SimpleNamespace(num_key_value_groups=1, sinks=leaves["null"], training=False)
    mean, _ = eager_attention_forward(
        module, leaves["q"], leaves["k"], leaves["v"], future(9), scaling=6 ** -0.5
    )
    return case("attention-sink", mean.transpose(1, 2), leaves)


def softmax_plus_one():
    leaves = nodes_of()
    weight = (scores(leaves) + future(9)).exp()
    mean = weight / (1 + weight.sum(-1, keepdim=True)) @ leaves["v"]
    return case("softmax-plus-one", mean, leaves)


def sigmoid_attention():
    bias = torch.tensor([[[[-numpy.log(9.0)]]]], dtype=torch.float64, requires_grad=True)
    leaves = nodes_of() | {"bias": bias}
    return case("sigmoid-attention", torch.sigmoid(scores(leaves) + bias) @ leaves["v"], leaves)


def graph():
    """Neighbours of each of seven nodes, the last without any; in both forms."""
    neighbours = [[0, 1, 4], [1], [0, 2, 3, 5, 6], [6, 2], [4, 3], [5, 0], []]
    indptr = torch.tensor([0] + [len(row) for row in neighbours]).cumsum(0)
    indices = torch.tensor([j for row in neighbours for j in row])
    target = torch.tensor([i for i, row in enumerate(neighbours) for _ in row])
    return {"indptr": indptr, "indices": indices}, torch.stack([indices, target])


def graph_attention(name, layer, parameters):
    fixed, edges = graph()
    layer = layer.double()
    nodes = normal(7, 5).requires_grad_()
    mean = layer(nodes, edges).reshape(7, 2, 3)
    leaves = {"nodes": nodes} | parameters(layer)
    return case(name, mean, leaves, fixed)


def gat():
    layer = GATConv(5, 3, heads=2, add_self_loops=False, bias=False)
    return graph_attention("gat", layer, lambda layer: {
        "projection": layer.lin.weight, "a.key": layer.att_src, "a.query": layer.att_dst,
    })


def gat_v2():
    layer = GATv2Conv(5, 3, heads=2, add_self_loops=False, bias=False)
    return graph_attention("gatv2", layer, lambda layer: {
        "key": layer.lin_l.weight, "query": layer.lin_r.weight, "a": layer.att,
    })


def normalization_model():
    rng = numpy.random.default_rng(7)
    nodes, pool, sigma = 24, 3.0, 0.3
    drive = rng.gamma(1.0, size=(2, nodes))
    drive[0, :5] = 0.0
    attention = 1 + rng.random((2, nodes))
    offsets = numpy.arange(-nodes + 1, nodes)
    kernel = numpy.exp(-0.5 * (offsets / pool) ** 2)
    driven = attention * drive
    suppressive = [numpy.convolve(row, kernel)[nodes - 1:2 * nodes - 1] for row in driven]
    response = driven / (numpy.stack(suppressive) + sigma)
    tensors = {"drive": drive, "attention": attention, "response": response,
               "pool": numpy.array([pool]), "sigma": numpy.array([sigma])}
    return {f"normalization-model.{name}": torch.tensor(x) for name, x in tensors.items()}


def main():
    torch.manual_seed(20260202)
    tensors = {}
    tensors |= alibi() | sliding_window() | documents() | rotary() | softcap()
    tensors |= relative_positions("relative-positions", True)
    tensors |= attention_sink() | softmax_plus_one() | sigmoid_attention()
    tensors |= gat() | gat_v2() | normalization_model()

    # Beside the target and then renamed, so that an interrupted run leaves the old file whole.
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=OUTPUT.parent) as folder:
        fresh = os.path.join(folder, "fresh")
        save_file(tensors, fresh, metadata={"torch": torch.__version__})
        os.replace(fresh, OUTPUT)
    print(f"{OUTPUT}: {len(tensors)} tensors, {OUTPUT.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()

"""What PyTorch Geometric's GATConv and GATv2Conv answer, for the Rust test `graph_attention`.

Run from anywhere, in an environment with torch 2.15.0, torch_geometric 2.8.1 and safetensors 0.8:

    python tools/reference/graph_attention.py

It rewrites crates/marginals-burn/tests/data/graph_attention.safetensors. The layers are the package's
own; weights are named as there. A case's `output` is the layer's, entry by entry, and after it the
attention of every edge and head, so that gradients are those of both. `edges` [E,2] are (source,
target), in an order that no library would choose; one node has no incoming edge and one hears only
itself.
"""

import torch
from torch_geometric.nn import GATConv, GATv2Conv

from modules import normal, record, write

NODES = 9
EDGES = [
    (4, 1), (0, 2), (8, 0), (2, 2), (7, 3), (1, 4), (3, 1), (6, 6), (5, 0), (0, 4), (2, 1),
    (7, 4), (8, 3), (4, 0), (1, 0), (3, 7), (0, 7), (5, 2), (2, 5), (1, 8), (6, 8), (4, 8),
]
# Those without loops, where the package adds its own after them.
SIMPLE = [edge for edge in EDGES if edge[0] != edge[1]]


def case(name, layer, edges):
    names = {key: x for key, x in layer.named_parameters()}
    # Tied maps are one weight under its first name.
    scale = {"att": 0.7, "att_src": 0.7, "att_dst": 0.7}
    weights = {key: normal(*x.shape, scale=scale.get(key, 0.5)) for key, x in names.items()}
    index = torch.tensor(edges).T

    def run(weights, inputs):
        output, (_, attention) = torch.func.functional_call(
            layer, weights, (inputs["x"], index), {"return_attention_weights": True}
        )
        return torch.cat([output.flatten(), attention.flatten()])

    tensors = record(name, run, weights, {"x": normal(NODES, 5)})
    # The Rust reader knows real tensors alone.
    return tensors | {f"{name}.edges": torch.tensor(edges, dtype=torch.float32)}


def main():
    torch.manual_seed(20171030)
    plain = {"add_self_loops": False}
    tensors = {}
    for name, layer, edges in [
        ("gat", GATConv(5, 3, heads=4, **plain), EDGES),
        ("gat-average", GATConv(5, 3, heads=2, concat=False, negative_slope=0.05, **plain), EDGES),
        ("gat-loops", GATConv(5, 4, heads=2, bias=False), SIMPLE),
        ("gatv2", GATv2Conv(5, 3, heads=4, **plain), EDGES),
        ("gatv2-average", GATv2Conv(5, 3, heads=2, concat=False, bias=False, **plain), EDGES),
        ("gatv2-shared", GATv2Conv(5, 4, heads=2, share_weights=True, **plain), EDGES),
        ("gatv2-loops", GATv2Conv(5, 4, heads=2), SIMPLE),
    ]:
        tensors |= case(name, layer, edges)
    write("graph_attention.safetensors", tensors, ["torch_geometric 2.8.1 itself, in float64"])


if __name__ == "__main__":
    main()

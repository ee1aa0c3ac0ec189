"""What the reference scripts share: where things are, and entropies from full matrices."""

import json
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "crates" / "marginals-burn" / "tests" / "data"
TEXT = (ROOT / "crates" / "marginals-cli" / "data" / "pride-and-prejudice.txt").read_text()


def row_entropies(attentions):
    """[layer][head][query] entropies in nats, from the full attention matrices."""
    entropies = []
    for matrix in attentions:
        matrix = matrix[0].double()
        # xlogy is 0 where the probability is 0, as an impossible edge's share must be.
        entropies.append(-torch.special.xlogy(matrix, matrix).sum(-1))
    return torch.stack(entropies)


def rounded(tensor, digits=7):
    """The tensor as nested lists, short enough to commit."""
    if tensor.dim() == 0:
        return round(tensor.item(), digits)
    return [rounded(part, digits) for part in tensor]


def write(name, content):
    path = DATA / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n")
    print(f"wrote {path.relative_to(ROOT)} ({path.stat().st_size} bytes)")

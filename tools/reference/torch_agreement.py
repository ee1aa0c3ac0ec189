"""What PyTorch answers in float64, for the Rust test `torch_agreement` to agree with.

Run from the root of the repository, in an environment with torch 2.15.0, numpy 2.x and
safetensors 0.8 (the answers do not depend on the versions beyond rounding):

    python tools/reference/torch_agreement.py

It rewrites crates/marginals/tests/all/data/torch_agreement.safetensors. Per case the file holds the
inputs `q` [B,H,N,D], `k` [B,Hk,M,D], `v` [B,Hk,M,Dv] (and `bias` where the model has one), PyTorch's
`mean`, `log-partition` and `entropy`, the fixed upstream weights `upstream.*` of a linear functional
of the three, and that functional's gradients `grad.q`, `grad.k`, `grad.v` (and `grad.bias`).

The mean is torch.nn.functional.scaled_dot_product_attention itself, grouped heads included; the
log-partition is torch.logsumexp and the entropy -sum softmax * log_softmax, of the scores written out;
the gradients are autograd's.
"""

import os
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

OUTPUT = Path("crates/marginals/tests/all/data/torch_agreement.safetensors")


def alibi_slopes(heads: int) -> torch.Tensor:
    """2^(-8h/H) for h = 1..H, H a power of two (Press et al., arXiv 2108.12409)."""
    return 2.0 ** (-8.0 * torch.arange(1, heads + 1, dtype=torch.float64) / heads)


def case(name, *, batch=2, heads=2, key_heads=None, queries=9, keys=11, width=6, value_width=5,
         offset=0, log_weight=None, learned_bias=None):
    """One case; `log_weight(position, key)` is [N,M] or [H,N,M], `learned_bias` a shape."""
    key_heads = key_heads or heads

    def normal(*shape):
        return torch.randn(*shape, dtype=torch.float64)

    q = normal(batch, heads, queries, width).requires_grad_()
    k = normal(batch, key_heads, keys, width).requires_grad_()
    v = normal(batch, key_heads, keys, value_width).requires_grad_()
    leaves = {"q": q, "k": k, "v": v}
    position = torch.arange(queries)[:, None] + offset
    mask = torch.zeros(queries, keys, dtype=torch.float64)
    if log_weight is not None:
        mask = log_weight(position, torch.arange(keys)[None, :])
    if learned_bias is not None:
        bias = normal(*learned_bias)
        # Impossible edges too: every fourth key of every third query.
        if learned_bias[2] > 1 and learned_bias[3] > 1:
            bias[:, :, ::3, ::4] = -torch.inf
        leaves["bias"] = mask = bias.requires_grad_()

    mask = mask.expand(batch, heads, queries, keys)
    scale = width ** -0.5
    mean = F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, scale=scale, enable_gqa=key_heads != heads
    )
    repeated = k.repeat_interleave(heads // key_heads, dim=1)
    scores = scale * q @ repeated.transpose(-1, -2) + mask
    log_p = torch.log_softmax(scores, -1)
    answers = {
        "mean": mean,
        "log-partition": torch.logsumexp(scores, dim=-1),
        # Categorical.entropy and special.entr have NaN gradients where a score is -inf.
        "entropy": -(torch.softmax(scores, -1) * log_p.masked_fill(log_p.isinf(), 0.0)).sum(-1),
    }
    upstream = {question: torch.randn_like(answer) for question, answer in answers.items()}
    functional = sum((upstream[question] * answer).sum() for question, answer in answers.items())
    gradients = torch.autograd.grad(functional, list(leaves.values()))

    tensors = {tensor: x.detach() for tensor, x in leaves.items()}
    tensors |= {question: x.detach() for question, x in answers.items()}
    tensors |= {f"upstream.{question}": x for question, x in upstream.items()}
    tensors |= {f"grad.{tensor}": g for tensor, g in zip(leaves, gradients)}
    for tensor, x in tensors.items():
        assert not x.isnan().any(), f"{name}.{tensor} holds NaN"
    return {f"{name}.{tensor}": x.contiguous() for tensor, x in tensors.items()}


def impossible_where(condition: torch.Tensor) -> torch.Tensor:
    return torch.zeros(condition.shape, dtype=torch.float64).masked_fill(condition, -torch.inf)


def main():
    torch.manual_seed(20260101)
    slopes = alibi_slopes(4)[:, None, None]
    tensors = {}
    tensors |= case("dot")
    tensors |= case("causal", offset=2, log_weight=lambda i, j: impossible_where(j > i))
    tensors |= case(
        "alibi", batch=1, heads=4, offset=2,
        log_weight=lambda i, j: -slopes * (i - j).abs() + impossible_where(j > i),
    )
    tensors |= case(
        "window", keys=14, offset=3,
        log_weight=lambda i, j: impossible_where((j < i - 3) | (j > i + 2)),
    )
    tensors |= case("bias", learned_bias=(1, 2, 9, 11))
    tensors |= case("bias-per-key", learned_bias=(2, 1, 1, 11))
    tensors |= case(
        "grouped", heads=6, key_heads=2, queries=7, keys=7,
        log_weight=lambda i, j: impossible_where(j > i),
    )
    # Past the edge of any tile a forward or backward pass is likely to have.
    tensors |= case("tiles", batch=1, heads=1, queries=37, keys=131, width=9, value_width=3)

    # Beside the target and then renamed, so that an interrupted run leaves the old file whole.
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=OUTPUT.parent) as folder:
        fresh = os.path.join(folder, "fresh")
        save_file(tensors, fresh, metadata={"torch": torch.__version__})
        os.replace(fresh, OUTPUT)
    print(f"{OUTPUT}: {len(tensors)} tensors, {OUTPUT.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()

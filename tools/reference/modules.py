"""What the scripts that record modules with weights share.

A module here is a function of named weights and named inputs, written out with PyTorch's tensor
operations. `record` runs it in float64 on float32 numbers, differentiates the inner product of its
output with fixed random weights in everything, and names the results for the Rust tests:

    CASE.weights.NAME, CASE.inputs.NAME, CASE.output, CASE.upstream, CASE.grad.NAME
"""

import importlib.metadata
import os
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "crates" / "marginals-burn" / "tests" / "data"


def normal(*shape, scale=1.0):
    """Random numbers that float32 holds exactly."""
    return (scale * torch.randn(*shape)).float()


# How far rounding may take PyTorch's own float32 from float64: half of what the Rust tests allow. A
# case that is worse conditioned would test the rounding and not the code.
ROUNDING = 5e-6


def record(name, module, weights, inputs):
    def run(dtype, upstream=None):
        leaves = {
            key: x.to(dtype).requires_grad_() for key, x in {**weights, **inputs}.items()
        }
        output = module({key: leaves[key] for key in weights}, {key: leaves[key] for key in inputs})
        upstream = normal(*output.shape) if upstream is None else upstream
        loss = (output * upstream.to(dtype)).sum()
        gradients = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values()))))
        return output, upstream, gradients

    output, upstream, gradients = run(torch.float64)
    single, _, of_single = run(torch.float32, upstream)
    pairs = {"output": (single, output)} | {k: (of_single[k], g) for k, g in gradients.items()}
    key, worst = max(((k, difference(*pair)) for k, pair in pairs.items()), key=lambda x: x[1])
    print(f"{name}: float32 is {worst:.1e} from float64, at {key}")
    assert worst <= ROUNDING, f"{name} is too badly conditioned to test anything"
    tensors = {f"{name}.weights.{key}": x for key, x in weights.items()}
    tensors |= {f"{name}.inputs.{key}": x for key, x in inputs.items()}
    tensors |= {f"{name}.output": output.detach().float(), f"{name}.upstream": upstream}
    tensors |= {f"{name}.grad.{key}": g.float() for key, g in gradients.items()}
    for key, x in tensors.items():
        assert x.isfinite().all(), f"{key} is not finite"
    return {key: x.contiguous() for key, x in tensors.items()}


def difference(ours, theirs):
    """The largest difference, relative to the largest entry or to 1."""
    ours, theirs = ours.detach().double(), theirs.detach().double()
    return ((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1.0)).item()


def agree(what, package, ours, theirs, tolerance=1e-6):
    """The sentence that a published implementation was agreed with; fails where it was not."""
    worst = max(difference(a, b) for a, b in zip(ours, theirs, strict=True))
    assert worst <= tolerance, f"{what} differs from {package} by {worst}"
    version = importlib.metadata.version(package)
    return f"{what}: {package} {version}, largest difference {worst:.1e}, output and gradients"


def write(file, tensors, checks):
    path = DATA / file
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"torch": torch.__version__, "checks": "; ".join(checks) or "none made"}
    # Beside the target and then renamed, so that an interrupted run leaves the old file whole.
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        fresh = os.path.join(folder, "fresh")
        save_file(tensors, fresh, metadata=about)
        os.replace(fresh, path)
    print(f"{path.relative_to(ROOT)}: {len(tensors)} tensors, {path.stat().st_size / 1024:.0f} KiB")
    print("\n".join(checks) or "no published implementation is installed: none was compared with")

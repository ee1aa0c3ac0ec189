"""PyTorch's side of the peer benchmarks: one JSON request a line in, one JSON reply a line out.

Requests (the field `do` names them):
  hello                                   -> {"torch", "numpy", "python", "threads", "capability"}
  prepare {slot, work, inputs, settings}  -> {"seconds"}: build and warm up one piece of work
  time    {slot, repetitions}             -> {"seconds"}: of all repetitions together
  answer  {slot, path}                    -> {}: write what the work computes as safetensors
  release {slot}                          -> {}: forget the work and its tensors
A failure is {"error"}. The number of threads is the environment's OMP_NUM_THREADS: the C++ that
torch.compile generates has it built in, so it must not change in the life of a process.
"""

import gc
import json
import os
import platform
import sys
import time

import numpy
import ot
import ot.batch
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

WORK = {}


def work(name):
    """Register a builder: (tensors, settings) -> a function that computes named answers."""

    def register(builder):
        WORK[name] = builder
        return builder

    return register


def distances(t):
    queries, keys = t["q"].shape[2], t["k"].shape[2]
    return (torch.arange(queries)[:, None] - torch.arange(keys)[None, :]).abs()


def forward(function):
    def run():
        with torch.inference_mode():
            return function()

    return run


@work("sdpa")
def sdpa(t, settings):
    q, k, v = t["q"], t["k"], t["v"]
    return forward(lambda: {"mean": F.scaled_dot_product_attention(q, k, v)})


@work("sdpa-causal")
def sdpa_causal(t, settings):
    q, k, v = t["q"], t["k"], t["v"]
    return forward(lambda: {"mean": F.scaled_dot_product_attention(q, k, v, is_causal=True)})


def with_gradients(names, t, attend):
    """Forward, then the gradients of <mean, upstream> in the tensors called `names`."""
    leaves = [t[name].requires_grad_() for name in names]

    def run():
        mean = attend()
        gradients = torch.autograd.grad(mean, leaves, t["upstream"])
        return {"mean": mean, **{f"grad.{n}": g for n, g in zip(names, gradients)}}

    return run


@work("sdpa-backward")
def sdpa_backward(t, settings):
    q, k, v = t["q"], t["k"], t["v"]
    return with_gradients(
        ["q", "k", "v"], t, lambda: F.scaled_dot_product_attention(q, k, v)
    )


@work("sdpa-bias-backward")
def sdpa_bias_backward(t, settings):
    q, k, v, bias = t["q"], t["k"], t["v"], t["bias"]
    return with_gradients(
        ["q", "k", "v", "bias"],
        t,
        lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=bias),
    )


@work("sdpa-alibi-backward")
def sdpa_alibi_backward(t, settings):
    q, k, v, slopes, distance = t["q"], t["k"], t["v"], t["alibi.slopes"], distances(t)

    def attend():
        # Inside: learned slopes change with every step.
        mask = -slopes.view(1, -1, 1, 1) * distance
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    return with_gradients(["q", "k", "v", "alibi.slopes"], t, attend)


@work("sdpa-alibi-mask")
def sdpa_alibi_mask(t, settings):
    q, k, v = t["q"], t["k"], t["v"]
    # Built once: a model would keep it between steps.
    mask = -t["alibi.slopes"].view(1, -1, 1, 1) * distances(t)
    return forward(lambda: {"mean": F.scaled_dot_product_attention(q, k, v, attn_mask=mask)})


@work("sdpa-window-mask")
def sdpa_window_mask(t, settings):
    q, k, v = t["q"], t["k"], t["v"]
    mask = (distances(t) < settings["window"]).tril()
    return forward(lambda: {"mean": F.scaled_dot_product_attention(q, k, v, attn_mask=mask)})


def compiled(function):
    return torch.compile(function, fullgraph=True, dynamic=False)


@work("flex-alibi")
def flex_alibi(t, settings):
    q, k, v, slopes = t["q"], t["k"], t["v"], t["alibi.slopes"]

    def score_mod(score, b, h, i, j):
        return score - slopes[h] * (i - j).abs()

    attend = compiled(lambda q, k, v: flex_attention(q, k, v, score_mod=score_mod))
    return forward(lambda: {"mean": attend(q, k, v)})


@work("flex-window")
def flex_window(t, settings):
    q, k, v, window = t["q"], t["k"], t["v"], settings["window"]

    def mask_mod(b, h, i, j):
        return (i >= j) & (i - j < window)

    blocks = create_block_mask(mask_mod, None, None, q.shape[2], k.shape[2], device="cpu")
    attend = compiled(lambda q, k, v: flex_attention(q, k, v, block_mask=blocks))
    return forward(lambda: {"mean": attend(q, k, v)})


def questions(q, k, v):
    """Mean, entropy, KL from the uniform prior, log-evidence and MAP with the least work."""
    scores = (q @ k.mT) * q.shape[-1] ** -0.5
    log_partition = scores.logsumexp(-1)
    marginals = scores.softmax(-1)
    entropy = log_partition - (marginals * scores).sum(-1)
    log_keys = torch.log(torch.tensor(float(k.shape[2])))
    return marginals @ v, entropy, log_keys - entropy, log_partition - log_keys, scores.argmax(-1)


def name_answers(answers):
    return dict(zip(["mean", "entropy", "kl", "log-evidence", "map"], answers))


@work("eager-questions")
def eager_questions(t, settings):
    return forward(lambda: name_answers(questions(t["q"], t["k"], t["v"])))


@work("compiled-questions")
def compiled_questions(t, settings):
    ask = compiled(questions)
    return forward(lambda: name_answers(ask(t["q"], t["k"], t["v"])))


@work("slots")
def slots(t, settings):
    """Algorithm 1 of Locatello et al. 2020, with PyTorch's own modules where it has them."""
    x, start, upstream = t["k"][0], t["q"][0], t["upstream"][0]
    w = {name.removeprefix("weights."): v for name, v in t.items() if name.startswith("weights.")}
    # They make the start, which is given here.
    for name in ["slots_mu", "slots_logsigma"]:
        del w[name]
    leaves = {"x": x, "start": start, **w}
    for leaf in leaves.values():
        leaf.requires_grad_()
    width = x.shape[-1]
    gru = torch.nn.GRUCell(width, width)
    for name in ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]:
        # Registered as they are, so that the gradients are asked of the same tensors.
        delattr(gru, name)
        setattr(gru, name, w[f"gru.{name}"])

    def norm(name, y):
        return F.layer_norm(y, (width,), w[f"{name}.weight"], w[f"{name}.bias"])

    def run():
        state, inputs = start, norm("norm_input", x)
        k, v = F.linear(inputs, w["to_k.weight"]), F.linear(inputs, w["to_v.weight"])
        for _ in range(settings["iterations"]):
            q = F.linear(norm("norm_slots", state), w["to_q.weight"])
            attention = (q @ k.mT * width**-0.5).softmax(dim=-2) + 1e-8
            updates = (attention / attention.sum(dim=-1, keepdim=True)) @ v
            state = gru(updates[0], state[0])[None]
            hidden = F.linear(norm("norm_pre_ff", state), w["mlp.0.weight"], w["mlp.0.bias"])
            state = state + F.linear(F.relu(hidden), w["mlp.2.weight"], w["mlp.2.bias"])
        gradients = torch.autograd.grad(state, list(leaves.values()), upstream)
        return {"output": state, **{f"grad.{n}": g for n, g in zip(leaves, gradients)}}

    return run


# Sums of nothing but −inf have no gradient in PyTorch.
IMPOSSIBLE = -1e9


def structured(log_partitions, differentiated):
    """Log-partitions of `scores` and their gradient, the marginals, and the gradient through those.

    Over hundreds of steps f32 leaves the recursion four digits: it is timed in f32, and compared in f64.
    """

    def builder(t, settings):
        def answers(t, scores, upstream):
            log_partition = log_partitions(scores, t, settings)
            (marginals,) = torch.autograd.grad(
                log_partition.sum(), scores, create_graph=differentiated
            )
            found = {"log-partition": log_partition, "marginals": marginals}
            if differentiated:
                (found["grad.scores"],) = torch.autograd.grad(marginals, scores, upstream)
            return found

        def in_format(t):
            scores = t["bias"].clone().requires_grad_()
            return answers(t, scores, scores.detach().flip(1))

        def run():
            return in_format(t)

        def exactly():
            wide = in_format({name: tensor.double() for name, tensor in t.items()})
            return {name: tensor.float() for name, tensor in wide.items()}

        run.exactly = exactly
        return run

    return builder


def chain_log_partitions(scores, t, settings):
    """The forward recursion, a step of all chains at a time."""
    transitions = t["weights.transitions"]
    forward = scores[..., 0, :]
    for step in range(1, scores.shape[-2]):
        forward = torch.logsumexp(forward[..., :, None] + transitions, -2) + scores[..., step, :]
    return torch.logsumexp(forward, -1)


def tree_log_partitions(scores, t, settings):
    """Eisner's recursion, all spans of one width of all trees at a time. scores[i, j]: j heads i."""
    nodes = scores.shape[-1]

    def diagonal(offset):
        return torch.diagonal(scores, offset, -2, -1)

    # By width: everything hangs from the left end, or from the right one; arcs between the ends.
    from_left = [torch.zeros_like(scores[..., 0])]
    from_right = [torch.zeros_like(scores[..., 0])]
    arcs_from_left, arcs_from_right = [None], [None]

    def combine(left, right, width):
        count = nodes - width
        return torch.logsumexp(
            torch.stack(
                [left[a][..., :count] + right[b][..., a + gap : a + gap + count] for a, b, gap in splits]
            ),
            0,
        )

    for width in range(1, nodes):
        splits = [(a, width - 1 - a, 1) for a in range(width)]
        both = combine(from_left, from_right, width)
        arcs_from_left.append(both + diagonal(-width))
        # The root, node 0, has no head.
        no_head = torch.zeros(nodes - width, dtype=scores.dtype)
        no_head[0] = IMPOSSIBLE
        arcs_from_right.append(both + diagonal(width) + no_head)
        splits = [(a, width - a, 0) for a in range(1, width + 1)]
        from_left.append(combine(arcs_from_left, from_left, width))
        splits = [(a, width - a, 0) for a in range(width)]
        from_right.append(combine(from_right, arcs_from_right, width))
    return from_left[-1][..., 0]


def any_tree_log_partitions(scores, t, settings):
    """The matrix-tree theorem. scores[i, j]: j heads i; node 0 is the root."""
    rows = scores[..., 1:, :]
    nodes = rows.shape[-1]
    own = torch.eye(nodes, dtype=torch.bool)[1:]
    largest = rows.masked_fill(own, IMPOSSIBLE).amax(-1, keepdim=True)
    weights = (rows - largest).exp() * ~own
    laplacian = torch.diag_embed(weights.sum(-1)) - weights[..., 1:]
    return torch.linalg.slogdet(laplacian)[1] + largest.sum((-1, -2))


def subset_log_partitions(scores, t, settings):
    """Elementary symmetric polynomials, a key of all queries at a time."""
    k = settings["k"]
    none = torch.full((*scores.shape[:-1], k), IMPOSSIBLE, dtype=scores.dtype)
    sums = torch.cat([torch.zeros_like(none[..., :1]), none], -1)
    for key in range(scores.shape[-1]):
        picked = sums[..., :-1] + scores[..., key, None]
        sums = torch.cat([sums[..., :1], torch.logsumexp(torch.stack([sums[..., 1:], picked]), 0)], -1)
    return sums[..., -1]


for name, log_partitions in [
    ("chain", chain_log_partitions),
    ("projective-trees", tree_log_partitions),
    ("trees", any_tree_log_partitions),
    ("subsets", subset_log_partitions),
]:
    WORK[name] = structured(log_partitions, differentiated=False)
    WORK[f"{name}-backward"] = structured(log_partitions, differentiated=True)


def transports(solve):
    """Mean and log-partition of matchings from the plan of POT's, a head at a time or all at once."""

    def builder(t, settings):
        def answers(t):
            scores = (t["q"] @ t["k"].mT)[0] * settings["times"] * t["q"].shape[-1] ** -0.5
            plan = solve(scores, settings["tolerance"])
            entropy = -torch.special.xlogy(plan, plan).sum((-2, -1))
            value = (plan * scores).sum((-2, -1)) + entropy
            return {"mean": (plan @ t["v"][0])[None], "log-partition": value[None, :, None]}

        def run():
            with torch.inference_mode():
                return answers(t)

        def exactly():
            wide = answers({name: tensor.double() for name, tensor in t.items()})
            return {name: tensor.float() for name, tensor in wide.items()}

        run.exactly = exactly
        return run

    return builder


def euclidean(tolerance, nodes):
    """Norm of normal errors of this mean size, by which POT stops."""
    return tolerance * (nodes * numpy.pi / 2) ** 0.5


def pot_plans(scores, tolerance):
    """`ot.sinkhorn`, a head at a time."""
    a, b = scores.new_ones(scores.shape[-2]), scores.new_ones(scores.shape[-1])
    stop = {"stopThr": euclidean(tolerance, len(b)), "numItermax": 10_000}
    return torch.stack([ot.sinkhorn(a, b, -head, 1.0, **stop) for head in scores])


def pot_batch_plans(scores, tolerance):
    """`ot.batch`, all heads together."""
    a, b = (scores.new_ones(scores.shape[:1] + (nodes,)) for nodes in scores.shape[-2:])
    stop = {"tol": euclidean(tolerance, scores.shape[-2]), "max_iter": 10_000}
    return ot.batch.solve_batch(-scores, 1.0, a=a, b=b, method="sinkhorn", grad="detach", **stop).plan


WORK["transport"] = transports(pot_plans)
WORK["transport-batch"] = transports(pot_batch_plans)


class Worker:
    def __init__(self):
        self.slots = {}

    def hello(self):
        return {
            "torch": torch.__version__,
            "numpy": numpy.__version__,
            "pot": ot.__version__,
            "python": platform.python_version(),
            "threads": torch.get_num_threads(),
            "capability": torch.backends.cpu.get_cpu_capability(),
        }

    def prepare(self, slot, work, inputs, settings):
        start = time.perf_counter()
        # Cloned out of the mapped file into memory of the allocator's own.
        tensors = {name: tensor.clone() for name, tensor in load_file(inputs).items()}
        self.slots[slot] = WORK[work](tensors, settings)
        self.slots[slot]()
        return {"seconds": time.perf_counter() - start}

    def time(self, slot, repetitions):
        run = self.slots[slot]
        gc.collect()
        gc.disable()
        start = time.perf_counter()
        for _ in range(repetitions):
            run()
        seconds = time.perf_counter() - start
        gc.enable()
        return {"seconds": seconds}

    def answer(self, slot, path):
        run = self.slots[slot]
        run = getattr(run, "exactly", run)
        answers = {name: a.detach().contiguous() for name, a in run().items()}
        save_file(answers, path)
        return {}

    def release(self, slot):
        del self.slots[slot]
        # Every shape is compiled for itself; nothing of the last one is wanted again.
        torch._dynamo.reset()
        gc.collect()
        return {}


def main():
    # Replies own the standard output; whatever else prints goes to standard error.
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    worker = Worker()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = getattr(worker, request.pop("do"))(**request)
        except Exception as failure:  # The other side decides whether to go on.
            reply = {"error": f"{type(failure).__name__}: {failure}"}
        replies.write(json.dumps(reply) + "\n")


if __name__ == "__main__":
    main()

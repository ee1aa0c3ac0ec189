# Written by tools/stubs.py.
from typing import Any

from ._parts import Part

class EachQueryPicksOne(Part):
    """Σ_j φ_ij = 1: p is a softmax over the keys

    In a model file: ``"each-query-picks-one"``
    """

    def __init__(self) -> None: ...

class EachQueryPicksAtMostOne(Part):
    """Σ_j φ_ij ≤ 1: p is a softmax with a null edge: of log-weight `null`, 0 by default; of a logit per query (`"logit"`); or gated, P(no edge) = 1 − σ(g), `{ gate = g }` or, per query, `"gate"`

    In a model file: ``{ each-query-picks-at-most-one = { null = 0.5 } }``

    Settings: `null`.

    Tensors that it reads:
        null.logit [B, H, N], if `null` is `"logit"`: logits of having no edge
        null.gate [B, H, N], if `null` is `"gate"`: log-odds of having an edge
    """

    def __init__(self, *, null: Any = ...) -> None: ...

class EachKeyPicksOne(Part):
    """Σ_i φ_ij = 1: p is a softmax over the queries

    In a model file: ``"each-key-picks-one"``
    """

    def __init__(self) -> None: ...

class Independent(Part):
    """every set of edges: p is the logistic function of the score

    In a model file: ``"independent"``
    """

    def __init__(self) -> None: ...

class NearestAccepted(Part):
    """keys are offered from the last to the first, each accepted with σ(θ), and the first accepted is picked: stick-breaking

    In a model file: ``"nearest-accepted"``
    """

    def __init__(self) -> None: ...

class Walk(Part):
    """paths of h ≤ H picks of a one-step structure, h ~ weights: E[v] = Σ_h P(h) P^h V

    In a model file: ``{ walk = { hops = 2, weights = [0.2, 0.5, 0.3] } }``

    Settings: `hops`, `weights`, `step`.

    Tensors that it reads:
        walk.weights [H, hops + 1], if the file has none: weights of 0, 1, … hops
        walk.log-weights [H, hops + 1], if the file has none: their logarithms
    """

    def __init__(self, *, hops: Any = ..., weights: Any = ..., step: Any = ...) -> None: ...

class Chain(Part):
    """Σ_j φ_ij = 1, p ∝ exp(Σ_i θ_{i, k_i} + Σ_i transitions_{k_{i−1}, k_i}): a linear-chain CRF

    In a model file: ``"chain"``

    Settings: `band`.

    Tensors that it reads:
        transitions [B, H, N − 1, M, M], if present: scores of going from one key to the next; leading axes may be 1 or left out
        start [B, H, M], if present: scores of the first key
        end [B, H, M], if present: scores of the last key
        lengths [B], if present: queries that are there
    """

    def __init__(self, *, band: Any = ...) -> None: ...

class SemiMarkov(Part):
    """Σ_j φ_ij = 1 in segments of one key and at most `longest` queries: a semi-Markov CRF

    In a model file: ``{ semi-markov = { longest = 3 } }``

    Settings: `longest`.

    Tensors that it reads:
        durations [B, H, longest, M], if present: scores of segments by length and key
        transitions [B, H, M, M], if present: scores of one segment's key before the next's
        start [B, H, M], if present: scores of the first key
        end [B, H, M], if present: scores of the last key
        lengths [B], if present: queries that are there
    """

    def __init__(self, *, longest: Any = ...) -> None: ...

class MonotoneAlignment(Part):
    """Σ_j φ_ij = 1 and k_1 < k_2 < … (with stays: ≤): picks go forward only

    In a model file: ``{ monotone-alignment = { moves = "forward-or-stay", ends = "pinned" } }``

    Settings: `moves`, `skips`, `ends`.

    Tensors that it reads:
        lengths [B], if present: queries that are there
        key-lengths [B], if present: keys that are there
    """

    def __init__(self, *, moves: Any = ..., skips: Any = ..., ends: Any = ...) -> None: ...

class ProjectiveArborescence(Part):
    """φ is a tree over the nodes, rooted at node 0, without crossing edges: j is the head of i

    In a model file: ``{ projective-arborescence = { root-edges = "one" } }``

    Settings: `root-edges`.

    Tensors that it reads:
        lengths [B], if present: nodes that are there, the root among them
    """

    def __init__(self, *, root_edges: Any = ...) -> None: ...

class EachQueryPicksK(Part):
    """Σ_j φ_ij = k (`count = "at-most"`: ≤ k): subsets of the keys, by elementary symmetric polynomials

    In a model file: ``{ each-query-picks-k = { k = 2 } }``

    Settings: `k`, `count`.
    """

    def __init__(self, *, k: Any = ..., count: Any = ...) -> None: ...

class EachQueryPicksAPair(Part):
    """Σ_jk φ_ijk = 1 over keys and second keys, θ_ijk = s q_i·(a_j ∘ b_k) + log w_ij w_ik: 2-simplicial attention

    In a model file: ``{ each-query-picks-a-pair = { window = 512, second-window = 32 } }``

    Settings: `window`, `second-window`.

    Tensors that it reads:
        second-keys [B, Hk, M2, D]: second keys of pairs
        second-values [B, Hk, M2, D_v], if present: their values; 1 where absent
    """

    def __init__(self, *, window: Any = ..., second_window: Any = ...) -> None: ...

class Arborescence(Part):
    """directed trees: every node but `root` (0 by default) has one edge, to its head, and heads lead to the root; into it go any number of edges, or one (`root-edges`): Z is a determinant

    In a model file: ``{ arborescence = { root = 0, root-edges = "one" } }``

    Settings: `root`, `root-edges`.

    Tensors that it reads:
        lengths [B], if present: nodes that are there, the root among them
    """

    def __init__(self, *, root: Any = ..., root_edges: Any = ...) -> None: ...

class SpanningTree(Part):
    """undirected trees: edge {i, j} is both (i, j) and (j, i), φ symmetric: Z is a determinant

    In a model file: ``"spanning-tree"``

    Tensors that it reads:
        lengths [B], if present: nodes that are there, the root among them
    """

    def __init__(self) -> None: ...

class Matching(Part):
    """Σ_j φ_ij = 1 and Σ_i φ_ij ≤ 1 (with more queries than keys the other way round): one edge per query and key; Z is a permanent, up to 12 nodes of the smaller side

    In a model file: ``"matching"``

    Settings: `mass`.

    Tensors that it reads:
        lengths [B], if present: queries that are there
        key-lengths [B], if present: keys that are there
        query-mass [B, H, N], if present: masses of the queries; leading axes may be 1
        key-mass [B, H, M], if present: masses of the keys; leading axes may be 1
    """

    def __init__(self, *, mass: Any = ...) -> None: ...

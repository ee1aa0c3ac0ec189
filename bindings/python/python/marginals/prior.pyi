# Written by tools/stubs.py.
from typing import Any

from ._parts import Prior

class Uniform(Prior):
    """log w_ij = 0

    In a model file: ``"uniform"``
    """

    def __init__(self) -> None: ...

class Causal(Prior):
    """log w_ij = 0 for j ≤ i, −∞ ahead

    In a model file: ``"causal"``
    """

    def __init__(self) -> None: ...

class Window(Prior):
    """log w_ij = 0 for i − left ≤ j ≤ i + right, −∞ elsewhere

    In a model file: ``{ window = { left = 127, right = 0 } }``

    Settings: `left`, `right`.
    """

    def __init__(self, *, left: Any = ..., right: Any = ...) -> None: ...

class Segments(Prior):
    """log w_ij = 0 within a segment, −∞ across

    In a model file: ``"segments"``

    Tensors that it reads:
        segments.q [B, N]: the segment number of each query
        segments.k [B, M]: the segment number of each key
    """

    def __init__(self) -> None: ...

class Adjacency(Prior):
    """w_ij = the weights of the edges i → j of a graph, added up, 1 each without weights, 0 where there is none

    In a model file: ``"adjacency"``

    Tensors that it reads:
        adjacency.indptr [B, N + 1]: where the neighbours of a query start
        adjacency.indices [E]: the neighbours, query by query
        adjacency.log-weights [E], if present: the log-weight of each edge
    """

    def __init__(self) -> None: ...

class Bias(Prior):
    """log w_ij = b_ij, given or learned

    In a model file: ``"bias"``

    Tensors that it reads:
        bias [B, H, N, M]: log-weights, shared along axes of length 1
    """

    def __init__(self) -> None: ...

class Geometric(Prior):
    """log w_ij = |d| log(1 − ρ), d the distance

    In a model file: ``{ geometric = { rho = 0.1 } }``

    Settings: `rho`, `distance`.
    """

    def __init__(self, *, rho: Any = ..., distance: Any = ...) -> None: ...

class Alibi(Prior):
    """log w_ij = −m_h |d|, d the distance, with the slopes of the paper or given ones

    In a model file: ``{ alibi = { slopes = [0.5, 0.25] } }``

    Settings: `slopes`, `standard`, `distance`.
    """

    def __init__(self, *, slopes: Any = ..., standard: Any = ..., distance: Any = ...) -> None: ...

class Laplace(Prior):
    """log w_ij = −|d| / scale, d the distance

    In a model file: ``{ laplace = { scale = 8.0 } }``

    Settings: `scale`, `distance`.
    """

    def __init__(self, *, scale: Any = ..., distance: Any = ...) -> None: ...

class GeneralizedGaussian(Prior):
    """log w_ij = −(|d| / scale)^shape, d the distance

    In a model file: ``{ generalized-gaussian = { scale = 8.0, shape = 2.0 } }``

    Settings: `scale`, `shape`, `distance`.
    """

    def __init__(self, *, scale: Any = ..., shape: Any = ..., distance: Any = ...) -> None: ...

class RelativeBuckets(Prior):
    """log w_ij = table[bucket(d), h], d the distance

    In a model file: ``{ relative-buckets = { buckets = 32, max-distance = 128, bidirectional = true } }``

    Settings: `buckets`, `max-distance`, `bidirectional`, `distance`.

    Tensors that it reads:
        relative-bias [buckets, H]: log-weights by bucket and head
    """

    def __init__(self, *, buckets: Any = ..., max_distance: Any = ..., bidirectional: Any = ..., distance: Any = ...) -> None: ...

class KeyBias(Prior):
    """log w_ij = b_j

    In a model file: ``"key-bias"``

    Tensors that it reads:
        key-bias [B, H, M]: log-weights, shared along axes of length 1
    """

    def __init__(self) -> None: ...

class BetaGeometric(Prior):
    """log w_ij = log B(α + 1, β + |d|) − log B(α, β), d the distance

    In a model file: ``{ beta-geometric = { alpha = 1.0, beta = 4.0 } }``

    Settings: `alpha`, `beta`, `distance`.
    """

    def __init__(self, *, alpha: Any = ..., beta: Any = ..., distance: Any = ...) -> None: ...

class Survival(Prior):
    """log w_ij = Σ log f_l over the keys l after j up to i, −∞ ahead

    In a model file: ``"survival"``

    Tensors that it reads:
        survival.log-gates [B, H, M]: logs of the forget gates, shared along axes of B and H of length 1
    """

    def __init__(self) -> None: ...

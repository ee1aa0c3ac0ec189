# Written by tools/stubs.py.
from typing import Any

from . import distance as distance, errors as errors, potential as potential
from . import prior as prior, structure as structure
from ._model import Model as Model, Posterior as Posterior
from ._questions import Question as Question
from .errors import Error as Error

__version__: str

class Mean(Question):
    """E[v]

    The answer is [B, H, N, D_v]. It can be differentiated.

    Args:
        v: the values, [B, Hk, M, D_v].
    """

    def __init__(self, v: Any = None) -> None: ...

class LogPartition(Question):
    """log Z(θ)

    The answer is [B, H, F]. It can be differentiated.
    """

    def __init__(self) -> None: ...

class LogEvidence(Question):
    """log Z(θ) − log Z(log w) = log Σ_φ π(φ) ψ(φ)

    The answer is [B, H, F]. It can be differentiated.
    """

    def __init__(self) -> None: ...

class Entropy(Question):
    """−E[log p]

    The answer is [B, H, F]. It can be differentiated.
    """

    def __init__(self) -> None: ...

class Kl(Question):
    """KL(posterior ‖ prior)

    The answer is [B, H, F]. It can be differentiated.
    """

    def __init__(self) -> None: ...

class ColumnMass(Question):
    """Σ_i p_ij

    The answer is [B, H, M]. It can be differentiated.
    """

    def __init__(self) -> None: ...

class QueryMass(Question):
    """Σ_j p_ij

    The answer is [B, H, N]. It can be differentiated.
    """

    def __init__(self) -> None: ...

class ExpectedDistance(Question):
    """E|i − j|

    The answer is [B, H, N]. It can be differentiated.
    """

    def __init__(self) -> None: ...

class ValueVariance(Question):
    """E[v²] − E[v]²

    The answer is [B, H, N, D_v]. It can be differentiated.

    Args:
        v: the values, [B, Hk, M, D_v].
    """

    def __init__(self, v: Any = None) -> None: ...

class Covariance(Question):
    """E[s v] − E[s] E[v], s_ij = r_i·k_j of the tensor `covariance.r` [B, H, N, D]

    The answer is [B, H, N, D_v]. It can be differentiated.

    Args:
        v: the values, [B, Hk, M, D_v].
        covariance_r: the tensor `covariance.r`.
    """

    def __init__(self, v: Any = None, *, covariance_r: Any = None) -> None: ...

class Jvp(Question):
    """d E[v] in the tangents `tangent.q`, `tangent.k`, `tangent.v` and `tangent.bias`, at least one: E[v̇] + Cov(θ̇, v) where queries choose

    The answer is [B, H, N, D_v]. It has no gradient.

    Args:
        v: the values, [B, Hk, M, D_v].
        tangent_q: the tensor `tangent.q`.
        tangent_k: the tensor `tangent.k`.
        tangent_v: the tensor `tangent.v`.
        tangent_bias: the tensor `tangent.bias`.
    """

    def __init__(self, v: Any = None, *, tangent_q: Any = None, tangent_k: Any = None, tangent_v: Any = None, tangent_bias: Any = None) -> None: ...

class MaxProbability(Question):
    """max_j p_ij, having no edge among the choices

    The answer is [B, H, F]. It has no gradient.
    """

    def __init__(self) -> None: ...

class NullProbability(Question):
    """P(no edge)

    The answer is [B, H, F]. It can be differentiated.
    """

    def __init__(self) -> None: ...

class MaxScore(Question):
    """max_j θ_ij, and where

    The answer is [B, H, N], with its key; [B, H] of each head. It has no gradient.
    """

    def __init__(self) -> None: ...

class MinScore(Question):
    """min_j θ_ij, and where

    The answer is [B, H, N], with its key; [B, H] of each head. It has no gradient.
    """

    def __init__(self) -> None: ...

class Map(Question):
    """argmax_j p_ij, −1 for no edge

    The answer is [B, H, F]; of edge sets [B, H, N]. It has no gradient.
    """

    def __init__(self) -> None: ...

class TopK(Question):
    """the k best edges and their probabilities, asked as top-k=K

    The answer is [B, H, F, K], twice. It has no gradient.

    Args:
        k: the number that it is asked with.
    """

    def __init__(self, k: int) -> None: ...

class Samples(Question):
    """S exact draws, asked as samples=S

    The answer is [S, B, H, F]; sets of edges [S, B, H, N, M]. It has no gradient.

    Args:
        s: the number that it is asked with.
    """

    def __init__(self, s: int) -> None: ...

class Marginals(Question):
    """p_ij = P(φ_ij = 1)

    The answer is [B, H, N, M]. It can be differentiated.
    """

    def __init__(self) -> None: ...

class KBest(Question):
    """the k most probable edge sets, where edges depend on each other

    The answer is [B, H, F, k]; the sets [k, B, H, N] or [k, B, H, N, M]. It has no gradient.

    Args:
        k: the number that it is asked with.
    """

    def __init__(self, k: int) -> None: ...

class MaxMarginals(Question):
    """max over edge sets that have the edge of Σ φ θ

    The answer is [B, H, N, M]. It has no gradient.
    """

    def __init__(self) -> None: ...

class LogCount(Question):
    """log |Φ|, where edges depend on each other

    The answer is [B, H, F]. It has no gradient.
    """

    def __init__(self) -> None: ...

class Hops(Question):
    """P(h | the walk arrives), of walks

    The answer is [B, H, N, hops + 1]. It has no gradient.
    """

    def __init__(self) -> None: ...

class Paths(Question):
    """log p of the paths in the tensor `paths` [paths, nodes], of walks

    The answer is [B, H, paths]. It has no gradient.

    Args:
        paths: the tensor `paths`.
    """

    def __init__(self, *, paths: Any = None) -> None: ...

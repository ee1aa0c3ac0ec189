# Written by tools/stubs.py.
from typing import Any

from ._parts import Part

class Dot(Part):
    """log ψ = scale · q·k, 1/√D by default; with a softcap c, c tanh(scale · q·k / c)

    In a model file: ``{ dot = { scale = 0.125 } }``

    Settings: `scale`, `softcap`.
    """

    def __init__(self, *, scale: Any = ..., softcap: Any = ...) -> None: ...

class Cosine(Part):
    """log ψ = scale · q·k / (‖q‖ ‖k‖)

    In a model file: ``{ cosine = { scale = 10.0 } }``

    Settings: `scale`.
    """

    def __init__(self, *, scale: Any = ...) -> None: ...

class Gaussian(Part):
    """log ψ = −½ (q − k)ᵀ Λ (q − k), Λ a number, `2.0`, or diagonal: a row of one number per coordinate for all heads, `[[1.0, 2.0, 3.0]]`, or a row per head

    In a model file: ``{ gaussian = { precision = 2.0 } }``

    Settings: `precision`.
    """

    def __init__(self, *, precision: Any = ...) -> None: ...

class Additive(Part):
    """log ψ = aᵀ act(W_q q + W_k k), in the forms gat, gatv2 and bahdanau

    In a model file: ``{ additive = { kind = "gatv2", slope = 0.2 } }``

    Settings: `kind`, `slope`.

    Tensors that it reads:
        additive.a [H, F]: a, or a_q of GAT
        additive.a-key [Hk, F], for gat: a_k of GAT
        additive.query [H, F, D], if present: W_q
        additive.key [Hk, F, D], if present: W_k
    """

    def __init__(self, *, kind: Any = ..., slope: Any = ...) -> None: ...

class Rotary(Part):
    """another potential of nodes turned by their positions

    In a model file: ``{ rotary = { base = 10000.0, potential = "dot" } }``

    Settings: `base`, `pairs`, `potential`.
    """

    def __init__(self, *, base: Any = ..., pairs: Any = ..., potential: Any = ...) -> None: ...

class Scores(Part):
    """log ψ_ij as given, in the tensor `scores` [B, H, N, M] in place of q and k

    In a model file: ``"scores"``
    """

    def __init__(self) -> None: ...

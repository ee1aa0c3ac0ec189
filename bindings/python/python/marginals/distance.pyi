# Written by tools/stubs.py.
from typing import Any

from ._parts import Part

class Index(Part):
    """d_ij = i − j, in positions

    In a model file: ``"index"``
    """

    def __init__(self) -> None: ...

class Contextual(Part):
    """d_ij = Σ_{l = j..i} σ(scale · q_i·k_l), scale 1/√D by default

    In a model file: ``{ contextual = { scale = 0.125 } }``

    Settings: `scale`.
    """

    def __init__(self, *, scale: Any = ...) -> None: ...

class Survival(Part):
    """d_ij = −Σ log f_l over the keys l after j up to i; none ahead

    In a model file: ``"survival"``

    Tensors that it reads:
        survival.log-gates [B, H, M]: logs of the forget gates, shared along axes of B and H of length 1
    """

    def __init__(self) -> None: ...

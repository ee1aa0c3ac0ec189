"""Attention as exact posterior inference over the edges of a latent graph.

A :class:`Model` names the graph (a structure), what is known about its edges (a prior) and how content makes
them likely (a potential). Its posterior over edges answers any set of questions in one pass over the keys, in
memory that grows with N and not with N²; PyTorch differentiates the answers.

>>> import numpy as np
>>> import marginals as mg
>>> model = mg.Model("each-query-picks-one", prior="causal", potential="dot")
>>> q, k, v = np.random.default_rng(0).normal(size=(3, 1, 2, 5, 4))
>>> out, entropy = model(q, k).ask(mg.Mean(v), mg.Entropy())
>>> out.shape, entropy.shape
((1, 2, 5, 4), (1, 2, 5))

Tensors are [batch, head, node, width]; key heads divide query heads. Information is in nats. The questions are
those that the library lists, and so are the parts, in :mod:`~marginals.structure`, :mod:`~marginals.prior`,
:mod:`~marginals.potential` and :mod:`~marginals.distance`.
"""

from . import distance, errors, potential, prior, structure
from ._model import Model, Posterior
from ._native import __version__
from ._questions import QUESTIONS, Question
from .errors import Error

# `Mean`, `Entropy` and all others.
globals().update(QUESTIONS)

__all__ = [
    "Error",
    "Model",
    "Posterior",
    "Question",
    "__version__",
    "distance",
    "errors",
    "potential",
    "prior",
    "structure",
    *QUESTIONS,
]

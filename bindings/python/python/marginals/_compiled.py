"""Posteriors inside functions that `torch.compile` compiles: two operators of PyTorch's.

Between them nothing but tensors can be kept, and what a pass has found is none: the backward makes the pass
again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch

from . import _native
from ._asking import asked
from ._questions import BY_NAME
from ._torch import Call, gradients, no_derivative
from .errors import Error

_ASK = "ask(Tensor[] tensors, str[] names, str model, str[] questions, int seed, bool check_nan) -> Tensor[]"
_BACKWARD = (
    "ask_backward(Tensor[] tensors, Tensor[] upstream, str[] names, str[] answered, str model, "
    "str[] questions, int seed) -> Tensor[]"
)
_LIBRARY = torch.library.Library("marginals", "DEF")
_LIBRARY.define(_ASK)
_LIBRARY.define(_BACKWARD)

read = lru_cache(maxsize=256)(_native.Model.from_json)


def answers(
    model: str, usages: tuple[str, ...], tensors: Mapping[str, Any], seed: int, check_nan: bool
) -> Any:
    """The answers of one operator, in the order of asking; the only one by itself."""
    given = [x if isinstance(x, torch.Tensor) else torch.as_tensor(x) for x in tensors.values()]
    outputs = torch.ops.marginals.ask(given, list(tensors), model, list(usages), seed, check_nan)
    return outputs[0] if len(outputs) == 1 else tuple(outputs)


def _call(model: str, questions: Sequence[str], names: Sequence[str], seed: int, check_nan: bool) -> Call:
    return Call(read(model), asked(tuple(questions), False), tuple(names), seed, check_nan)


def _ask(
    tensors: list[torch.Tensor],
    names: list[str],
    model: str,
    questions: list[str],
    seed: int,
    check_nan: bool,
) -> list[torch.Tensor]:
    call = _call(model, questions, names, seed, check_nan)
    found = dict(zip(*call.run(tuple(tensors), keep=False)))
    return [found[name] for name in call.asked.names]


def _ask_backward(
    tensors: list[torch.Tensor],
    upstream: list[torch.Tensor],
    names: list[str],
    answered: list[str],
    model: str,
    questions: list[str],
    seed: int,
) -> list[torch.Tensor]:
    call = _call(model, questions, names, seed, False)
    call.answered, _ = call.run(tuple(tensors), keep=True)
    given = dict(zip(answered, upstream))
    found = gradients(
        call, (True,) * len(tensors), tuple(tensors), tuple(given.get(name) for name in call.answered)
    )
    return [torch.zeros_like(x) if g is None else g.contiguous() for x, g in zip(tensors, found)]


_LIBRARY.impl("ask", _ask, "CPU")
_LIBRARY.impl("ask_backward", _ask_backward, "CPU")


@lru_cache(maxsize=256)
def _factors(model: str) -> str | None:
    """Which axis counts the factors, found by trying sizes that differ; `None` where it is not found."""
    for queries, keys, axes in [
        (5, 7, {5: "N", 7: "M", 1: "1"}),
        # Where queries and keys are the same nodes.
        (6, 6, {6: "N", 1: "1"}),
    ]:
        try:
            return axes.get(read(model).factors(queries, keys))
        except Error:
            continue
    return None


def _shape(usage: str, model: str, sizes: Mapping[str, Any]) -> list[Any]:
    """The sizes of an answer, read from what its question says they are."""
    name = usage.partition("=")[0]
    question = BY_NAME.get(name)
    if question is None or not question.differentiable:
        raise no_derivative(
            name, "functions that are compiled hold only answers with gradients", "Ask it outside of them"
        )
    symbols = dict(sizes)
    if "F" in question.shape:
        axis = _factors(model)
        symbols["F"] = None if axis is None else sizes[axis]
    shape = [symbols.get(symbol.strip()) for symbol in question.shape.strip("[]").split(",")]
    if None in shape:
        raise no_derivative(
            name,
            f"its sizes {question.shape} are not known before it is answered",
            "Ask it outside of the compiled function",
        )
    return shape


@torch.library.register_fake("marginals::ask", lib=_LIBRARY)
def _(tensors: Any, names: Any, model: str, questions: Any, seed: int, check_nan: bool) -> list[torch.Tensor]:
    given = dict(zip(names, tensors))
    sizes: dict[str, Any] = {"1": 1}
    if "scores" in given:
        first = given["scores"]
        sizes["B"], sizes["H"], sizes["N"], sizes["M"] = first.shape
    else:
        first = given["q"]
        sizes["B"], sizes["H"], sizes["N"] = first.shape[:3]
        sizes["M"] = given["k"].shape[2]
    if "v" in given:
        sizes["D_v"] = given["v"].shape[3]
    outputs = []
    for usage in questions:
        question = BY_NAME[usage.partition("=")[0]]
        is_half = first.dtype in (torch.float16, torch.bfloat16) and not question.averages_values
        dtype = torch.float32 if is_half else first.dtype
        outputs.append(first.new_empty(_shape(usage, model, sizes), dtype=dtype))
    return outputs


@torch.library.register_fake("marginals::ask_backward", lib=_LIBRARY)
def _(
    tensors: Any, upstream: Any, names: Any, answered: Any, model: str, questions: Any, seed: int
) -> list[torch.Tensor]:
    return [x.new_empty(x.shape) for x in tensors]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    tensors, ctx.names, ctx.model, ctx.questions, ctx.seed, _ = inputs
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, upstream: list[torch.Tensor | None]) -> Any:
    names = [usage.partition("=")[0] for usage in ctx.questions]
    used = [(name, g) for name, g in zip(names, upstream) if g is not None and BY_NAME[name].differentiable]
    found = torch.ops.marginals.ask_backward(
        list(ctx.saved_tensors),
        [gradient for _, gradient in used],
        ctx.names,
        [name for name, _ in used],
        ctx.model,
        ctx.questions,
        ctx.seed,
    )
    gradients = [g if x.is_floating_point() else None for x, g in zip(ctx.saved_tensors, found)]
    return gradients, None, None, None, None, None


torch.library.register_autograd("marginals::ask", _differentiate, setup_context=_keep, lib=_LIBRARY)

"""Posteriors of PyTorch's tensors, on its tape. Imported where such a tensor comes, and not before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.autograd import forward_ad

from . import _native
from ._arrays import BYTE, TRUTH, foreign, readable
from ._asking import Asked, asked
from ._numpy import in_one_format
from .errors import DeviceError, EntriesError, NotAnswerableError

_are_transformed = torch._C._are_functorch_transforms_active
_REAL = frozenset((torch.float32, torch.float64, torch.float16))
_HALVES = (torch.float16, torch.bfloat16)


def answers(
    model: _native.Model,
    asked: Asked,
    tensors: Mapping[str, Any],
    seed: int,
    check_nan: bool,
) -> tuple[dict[str, Any], dict[str, str]]:
    """The answers by name, as tensors that gradients flow through, and meanings of codes among them."""
    given = tuple(tensors.values())
    call = Call(model, asked, tuple(tensors), seed, check_nan)
    node: Any = None
    if _are_transformed():
        node = Transformed
    elif forward_ad._current_level >= 0 or (torch.is_grad_enabled() and _are_tracked(given)):
        node = Answers
    if node is None:
        call.answered, outputs = call.run(given, keep=False)
    else:
        outputs = node.apply(call, *[on_tape(name, x) for name, x in tensors.items()])
    return dict(zip(call.answered, outputs)), call.meanings


def on_tape(name: str, x: Any) -> torch.Tensor:
    """A tensor, or an array as one."""
    return x if isinstance(x, torch.Tensor) else torch.from_numpy(foreign(name, x))


def _are_tracked(tensors: tuple[Any, ...]) -> bool:
    """Whether a tape that is open records what is made of the tensors."""
    return any([isinstance(x, torch.Tensor) and x.requires_grad for x in tensors])


class Call:
    """What is asked of which model, beside the tensors; and what the forward left."""

    __slots__ = (
        "__weakref__",
        "answered",
        "asked",
        "check_nan",
        "kept",
        "meanings",
        "model",
        "names",
        "seed",
    )

    def __init__(
        self,
        model: _native.Model,
        asked: Asked,
        names: tuple[str, ...],
        seed: int,
        check_nan: bool,
    ) -> None:
        self.model, self.asked, self.names = model, asked, names
        self.seed, self.check_nan = seed, check_nan
        #: The names of the answers, of which one question may have several.
        self.answered: tuple[str, ...] = ()
        #: What the numbers under some of them mean.
        self.meanings: dict[str, str] = {}
        #: What the backward needs of the forward.
        self.kept: _native.Kept | None = None

    def run(self, tensors: tuple[Any, ...], keep: bool) -> tuple[tuple[str, ...], tuple[torch.Tensor, ...]]:
        """The answers of a pass, and their names."""
        arrays = {}
        half = None
        plain = False
        for name, x in zip(self.names, tensors):
            arrays[name] = array(name, x)
            if not isinstance(x, torch.Tensor):
                plain = True
            elif half is None and x.dtype in _HALVES:
                half = x.dtype
        if plain:
            arrays = in_one_format(arrays, dict(zip(self.names, tensors)))
        found, self.meanings, self.kept = _native.ask(
            self.model, self.asked.native, arrays, self.seed, self.check_nan, keep
        )
        outputs = []
        for name, answer in found.items():
            output = torch.from_numpy(answer.view(TRUTH) if answer.dtype == BYTE else answer)
            if half is not None and name in self.asked.averages:
                output = output.to(half)
            outputs.append(output)
        return tuple(found), tuple(outputs)

    def is_differentiable(self, name: str, output: torch.Tensor) -> bool:
        """Whether an answer has a gradient, as far as can be told: a mechanism knows its own."""
        if not output.is_floating_point():
            return False
        return self.model.is_mechanism or name in self.asked.differentiable


def array(name: str, x: Any) -> np.ndarray:
    """A tensor as an array, where it lies."""
    if not isinstance(x, torch.Tensor):
        return readable(name, foreign(name, x))
    if not x.is_cpu:
        raise DeviceError(
            f"`{name}` lies on the device {x.device}, expected the processor's memory. Move it: `{name}.cpu()`",
            name,
        )
    if x.layout is not torch.strided:
        raise EntriesError(f"`{name}` is laid out as {x.layout}, expected a dense tensor", name)
    if x.requires_grad:
        x = x.detach()
    dtype = x.dtype
    if dtype in _REAL:
        return readable(name, (x.resolve_neg() if x.is_neg() else x).numpy())
    if dtype is torch.bfloat16:
        return readable(name, x.view(torch.uint16).numpy(), is_bfloat16=True)
    if x.is_complex() or x.is_quantized:
        raise EntriesError(f"the tensor `{name}` holds {dtype}, expected real numbers", name)
    return readable(name, x.numpy())


def _prepare(ctx: Any, call: Call, tensors: tuple[Any, ...], outputs: tuple[torch.Tensor, ...]) -> None:
    """Leaves what a backward needs. The call is made for one pass, so that what it keeps is that pass's."""
    ctx.call = call
    ctx.save_for_backward(*tensors)
    constant = [x for name, x in zip(call.answered, outputs) if not call.is_differentiable(name, x)]
    if constant:
        ctx.mark_non_differentiable(*constant)
    ctx.set_materialize_grads(False)


class Answers(torch.autograd.Function):
    """Any answers of any model as one node on the tape."""

    @staticmethod
    def forward(ctx: Any, call: Call, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        call.answered, outputs = call.run(tensors, keep=True)
        _prepare(ctx, call, tensors, outputs)
        if forward_ad._current_level >= 0:
            ctx.save_for_forward(*tensors)
        return outputs

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        call, tensors, wanted = ctx.call, ctx.saved_tensors, ctx.needs_input_grad[1:]
        if torch.is_grad_enabled():
            # The backward is recorded too.
            return None, *Gradients.apply(call, wanted, len(tensors), *tensors, *upstream)
        return None, *gradients(call, wanted, tensors, upstream)

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        return tangents_of(Answers, ctx.call, ctx.saved_tensors, tangents)


class Transformed(torch.autograd.Function):
    """The same under transformations of functions (`torch.func`), which take it apart. It would do without
    them too; what lets it be taken apart costs more than a small pass."""

    @staticmethod
    def forward(call: Call, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        call.answered, outputs = call.run(tensors, keep=True)
        return outputs

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
        call, *tensors = inputs
        _prepare(ctx, call, tuple(tensors), output)
        ctx.save_for_forward(*tensors)

    backward = staticmethod(Answers.backward)

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        return tangents_of(Transformed, ctx.call, ctx.saved_tensors, tangents)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], call: Call, *tensors: torch.Tensor) -> Any:
        folded = folded_into_batch(call.names, tensors, in_dims[1:], info.batch_size)
        outputs = Transformed.apply(call, *folded)
        unfolded = tuple(x.unflatten(0, (info.batch_size, -1)) for x in outputs)
        return unfolded, (0,) * len(unfolded)


class Gradients(torch.autograd.Function):
    """The backward as a node of its own, for tapes that record it: what it has no derivative of says so."""

    @staticmethod
    def forward(
        call: Call, wanted: tuple[bool, ...], count: int, *tensors: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, ...]:
        given: Any = tensors[:count]
        return gradients(call, wanted, given, tensors[count:])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        ctx.call = inputs[0]

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], call: Call, wanted: tuple[bool, ...], count: int, *tensors: Any
    ) -> Any:
        given, upstream, size = tensors[:count], tensors[count:], info.batch_size
        folded = folded_into_batch(call.names, given, in_dims[3 : 3 + count], size)
        for name, own, before, is_wanted in zip(call.names, folded, given, wanted):
            if is_wanted and own is before:
                raise no_derivative(
                    name,
                    "all of what is mapped over shares it, and their gradients come as a sum",
                    "Differentiate outside of `vmap`, or give each its own",
                )
        for gradient, dim in zip(upstream, in_dims[3 + count :]):
            if gradient is None:
                folded.append(None)
                continue
            mapped = gradient.expand(size, *gradient.shape) if dim is None else gradient.movedim(dim, 0)
            folded.append(mapped.flatten(0, 1))
        found = Gradients.apply(call, wanted, count, *folded)
        unfolded = tuple(None if g is None else g.unflatten(0, (size, -1)) for g in found)
        return unfolded, tuple(None if g is None else 0 for g in unfolded)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor | None) -> Any:
        raise no_derivative(
            ", ".join(ctx.call.asked.names),
            "gradients have no gradient here: second derivatives are not defined",
            "Take differences of first ones, or write the posterior out in PyTorch",
        )


def no_derivative(question: str, why: str, instead: str) -> NotAnswerableError:
    """The refusal of a derivative."""
    return NotAnswerableError(f"`{question}` cannot be answered here: {why}. {instead}.", question)


def gradients(
    call: Call,
    wanted: tuple[bool, ...],
    tensors: tuple[torch.Tensor, ...],
    upstream: tuple[torch.Tensor | None, ...],
) -> tuple[torch.Tensor | None, ...]:
    """The gradients in the tensors."""
    arrays = {name: array(name, x) for name, x in zip(call.names, tensors)}
    used = False
    for name, gradient in zip(call.answered, upstream):
        if gradient is not None:
            used = True
            if gradient.dtype in _HALVES:
                gradient = gradient.float()
            arrays[f"grad.{name}"] = array(f"grad.{name}", gradient)
    if not used or call.kept is None:
        return (None,) * len(tensors)
    found = call.kept.backward(arrays)
    given: list[torch.Tensor | None] = []
    for name, tensor, is_wanted in zip(call.names, tensors, wanted):
        own = found.get(f"grad.{name}") if is_wanted else None
        if own is None:
            given.append(None)
            continue
        # That of a number comes with an axis for the heads, which one for all of them has not.
        gradient = torch.from_numpy(own)
        if gradient.shape != tensor.shape:
            gradient = gradient.reshape(tensor.shape)
        given.append(gradient if gradient.dtype == tensor.dtype else gradient.to(tensor.dtype))
    return tuple(given)


def tangents_of(
    node: Any, call: Call, tensors: tuple[torch.Tensor, ...], tangents: tuple[torch.Tensor | None, ...]
) -> tuple[torch.Tensor | None, ...]:
    """How fast the answers move as the tensors do."""
    moving = {
        f"tangent.{name}": tangent for name, tangent in zip(call.names, tangents) if tangent is not None
    }
    others = [
        name
        for name in call.answered
        if name != "mean" and (call.model.is_mechanism or name in call.asked.differentiable)
    ]
    if others or call.model.is_mechanism:
        raise no_derivative(
            others[0] if others else "mechanism",
            "in forward mode only the mean has a derivative",
            "Ask it in a pass of its own, or differentiate backwards",
        )
    jvp = asked(("jvp",), False)
    known = {f"tangent.{name}" for name in ("q", "k", "v", "bias")}
    for name in moving:
        if name not in known:
            raise no_derivative(
                "mean",
                f"in forward mode it has no derivative in `{name.removeprefix('tangent.')}`",
                "Differentiate backwards",
            )
    if not moving or "mean" not in call.answered:
        return (None,) * len(call.answered)
    names = (*call.names, *moving)
    tangent_call = Call(call.model, jvp, names, call.seed, False)
    # By way of the tape, which knows what transformations of functions have made of the tensors.
    (tangent,) = node.apply(tangent_call, *tensors, *moving.values())
    return tuple(tangent if name == "mean" else None for name in call.answered)


def folded_into_batch(
    names: tuple[str, ...], tensors: tuple[torch.Tensor, ...], in_dims: tuple[int | None, ...], size: int
) -> list[Any]:
    """The tensors with the axis that is mapped over as part of the batch's."""
    folded: list[Any] = []
    for name, tensor, dim in zip(names, tensors, in_dims):
        axes = tensor.dim() - (dim is not None)
        if axes != 4:
            if dim is not None:
                raise no_derivative(
                    name,
                    "only tensors of four axes, the batch's first, are mapped over",
                    "Give it an axis for the batch, or call in a loop",
                )
            folded.append(tensor)
            continue
        if dim is None:
            # What the whole batch shares stays shared.
            shared = tensor.shape[0] == 1 and name.removeprefix("tangent.") not in ("q", "k", "v", "scores")
            mapped = tensor if shared else tensor.expand(size, *tensor.shape).flatten(0, 1)
        else:
            mapped = tensor.movedim(dim, 0).flatten(0, 1)
        folded.append(mapped)
    return folded

"""Models and their posteriors."""

from __future__ import annotations

import copy
import difflib
import json
import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from . import _native, _numpy
from ._arrays import are_torch, is_array, is_compiling
from ._asking import asked, collected, handed_out
from ._names import kebab, snake
from ._native import Model as NativeModel
from ._parts import PARTS, Part, Product
from ._questions import BY_NAME, Question
from .errors import EntriesError, RangeError, UnknownNameError

#: What every posterior is between, and what its edges carry.
_NODES = ("q", "k", "v", "scores")

#: Names of tensors that parts and questions read, by the argument they are given as.
_READ = {
    snake(name): name
    for name in (
        *(name for part in PARTS for name, _, _ in part["tensors"]),
        *(name for question in BY_NAME.values() for name in question.reads),
    )
}


class Model:
    """A model of attention: which edges are possible, what is known about them, how content makes them
    likely, and what they are used for.

    The arguments are those of a model file, and so is what they hold: the name of a part, or a table of its
    settings under its name. Parts may also be given as objects (:mod:`marginals.prior` and its like), and
    priors combine by ``*``. A number of a part may be a tensor, which gradients then flow to.

    >>> import numpy as np
    >>> import marginals as mg
    >>> model = mg.Model(
    ...     structure="each-query-picks-one",
    ...     prior=mg.prior.Causal() * mg.prior.Geometric(rho=0.1),
    ...     potential="dot",
    ... )
    >>> q, k, v = np.random.default_rng(0).normal(size=(3, 1, 2, 5, 4))
    >>> out, entropy = model(q, k).ask(mg.Mean(v), mg.Entropy())  # one pass
    >>> out.shape, entropy.shape
    ((1, 2, 5, 4), (1, 2, 5))

    Args:
        structure: which sets of edges are possible.
        prior: what is known about edges; several multiply, none is uniform.
        potential: how content makes edges likely.
        value: the quantity whose expectation is the mean: ``"gather"`` or ``"average"``.
        query_offset: query i sits at position i + this, key j at position j.
        inference: what takes the place of exact inference, ``{"truncated": {"mass": 1e-3}}``.
        mechanism: a mechanism with unknown nodes, in place of all others:
            ``{"hopfield": {"beta": 8.0}}``.

    Raises:
        Error: naming the argument, where the model does not fit together.
    """

    __slots__ = ("_json", "_native", "_tensors")

    _json: str
    _native: NativeModel
    _tensors: dict[str, Any]

    def __init__(
        self,
        structure: Any = None,
        prior: Any = None,
        potential: Any = None,
        value: Any = None,
        query_offset: int | None = None,
        inference: Any = None,
        *,
        mechanism: Any = None,
    ) -> None:
        given = {
            "structure": structure,
            "prior": prior,
            "potential": potential,
            "value": value,
            "query_offset": query_offset,
            "inference": inference,
            "mechanism": mechanism,
        }
        found: list[tuple[tuple[Any, ...], Any]] = []
        file = {
            kebab(name): _entry(entry, (kebab(name),), found)
            for name, entry in given.items()
            if entry is not None
        }
        self._native = _from_data(file)
        self._json = self._native.to_json()
        self._tensors = _numbers(file, self._native, found) if found else {}

    @classmethod
    def from_toml(cls, text: str) -> Model:
        """Reads a model file in TOML.

        >>> Model.from_toml('structure = "independent"\\npotential = "dot"')
        Model.from_toml('structure = "independent"\\nprior = []\\npotential = "dot"\\nvalue = "gather"\\n')
        """
        return cls._of(_native.Model.from_toml(text))

    @classmethod
    def from_json(cls, text: str) -> Model:
        """Reads a model file in JSON."""
        return cls._of(_native.Model.from_json(text))

    @classmethod
    def _of(cls, native: NativeModel) -> Model:
        model = cls.__new__(cls)
        model._native, model._json, model._tensors = native, native.to_json(), {}
        return model

    def to_toml(self) -> str:
        """Writes the model file in TOML; tensors as the numbers they hold."""
        return self._native.to_toml()

    def to_json(self) -> str:
        """Writes the model file in JSON; tensors as the numbers they hold."""
        return self._json

    def __call__(self, q: Any = None, k: Any = None, **tensors: Any) -> Posterior:
        """The posterior over the edges between queries and keys. Nothing is computed until it is asked.

        Args:
            q: the queries, [B, H, N, D].
            k: the keys, [B, Hk, M, D], Hk a divisor of H.
            **tensors: what the parts and the questions read, by name, with underscores for other signs
                (``key_bias`` is ``key-bias``); one with the name of a number takes its place
                (``geometric_rho``). Those of a mechanism, such as ``states`` and ``patterns``.
        """
        named = dict(self._tensors)
        if q is not None:
            named["q"] = q
        if k is not None:
            named["k"] = k
        for argument, tensor in tensors.items():
            if tensor is not None:
                named[self._tensor(argument)] = tensor
        return Posterior(self, named)

    def _tensor(self, argument: str) -> str:
        """The name of the tensor that is given as an argument."""
        if argument in _NODES or self._native.is_mechanism:
            return _READ.get(argument, argument)
        numbers = {snake(name): name for name, _ in self._native.numbers()}
        names = {**_READ, **numbers}
        if argument in names:
            return names[argument]
        if argument in names.values():
            return argument
        near = difflib.get_close_matches(argument, names, 1)
        hint = f" (did you mean `{near[0]}`?)" if near else ""
        raise UnknownNameError(
            f"there is no tensor named `{argument}`{hint}. Known: {', '.join(sorted(names))}", argument
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Model):
            return NotImplemented
        same = self._tensors.keys() == other._tensors.keys() and all(
            tensor is other._tensors[name] for name, tensor in self._tensors.items()
        )
        return same and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())

    def __repr__(self) -> str:
        return f"Model.from_toml({self.to_toml()!r})"

    def __reduce__(self) -> Any:
        return _restored, (self.to_json(), self._tensors)


class Posterior:
    """The posterior of a model over the edges between some nodes. Nothing is computed until it is asked."""

    __slots__ = ("model", "tensors")

    #: The model.
    model: Model
    #: The tensors it was given, by name.
    tensors: dict[str, Any]

    def __init__(self, model: Model, tensors: dict[str, Any]) -> None:
        self.model = model
        self.tensors = tensors

    def ask(self, *questions: Question | str, seed: int = 0, check_nan: bool = False) -> Any:
        """Answers any questions in one pass over the keys, in O(N) memory.

        The answers are arrays of the kind that came in, in the order of asking; the only one by itself. One
        that has several parts is a named tuple. Questions may be named (``"top-k=4"``), and so may the
        answers that a mechanism has of its own (``"state"``); without questions, everything that it has comes
        by name, with the ``meanings`` of what is coded. PyTorch's gradients flow through every answer that has some.

        Numbers are computed in float32, and in float64 where they come so. Of float16 and bfloat16, what
        stands for a tensor of the network (the mean and whatever else averages values) comes out in the same
        format, and quantities of information in float32.

        Args:
            *questions: :class:`~marginals.Mean`, :class:`~marginals.Entropy` and so on.
            seed: of what is random.
            check_nan: refuses NaN in the nodes; otherwise it reaches its own rows.

        Raises:
            Error: naming the tensor or the question, where they do not fit the model.

        >>> import numpy as np
        >>> import marginals as mg
        >>> model = mg.Model("each-query-picks-one", potential="dot")
        >>> q, k = np.ones((2, 1, 1, 3, 4))
        >>> model(q, k).ask(mg.Entropy())  # of three equal keys: log 3
        array([[[1.09861229, 1.09861229, 1.09861229]]])
        >>> model(q, k).ask("top-k=2").index[0, 0]
        array([[0, 1],
               [0, 1],
               [0, 1]])
        """
        usages, tensors = collected(questions, self.tensors)
        model = self.model
        if is_compiling():
            from . import _compiled

            return _compiled.answers(model._json, usages, tensors, seed, check_nan)
        native = model._native
        named = asked(usages, native.is_mechanism)
        answers = _on_tape().answers if are_torch(tensors.values()) else _numpy.answers
        return handed_out(named, *answers(native, named, tensors, seed, check_nan))

    def __repr__(self) -> str:
        return f"<Posterior of {', '.join(self.tensors)} under {self.model!r}>"


@lru_cache(maxsize=1)
def _on_tape() -> Any:
    """What answers about PyTorch's tensors, imported where the first of them comes."""
    from . import _torch

    return _torch


def _restored(text: str, tensors: dict[str, Any]) -> Model:
    model = Model.from_json(text)
    model._tensors = tensors
    return model


def _from_data(file: Mapping[str, Any]) -> NativeModel:
    try:
        text = json.dumps(file)
    except TypeError as error:
        raise EntriesError(f"the model holds what no model file can: {error}") from None
    return _native.Model.from_json(text)


def _entry(entry: Any, path: tuple[Any, ...], found: list[tuple[tuple[Any, ...], Any]]) -> Any:
    """What a model file has for an entry; tensors are listed with their places, and leave numbers."""
    if isinstance(entry, Part):
        entry = entry.entry()
    if isinstance(entry, Mapping):
        return {name: _entry(value, (*path, name), found) for name, value in entry.items()}
    if isinstance(entry, (list, tuple, Product)):
        return [_entry(value, (*path, index), found) for index, value in enumerate(entry)]
    if isinstance(entry, np.generic):
        entry = entry.item()
    if isinstance(entry, float) and not math.isfinite(entry):
        raise RangeError(f"`{_dotted(path)}` is {entry}, expected a finite number", _dotted(path))
    if is_array(entry):
        found.append((path, entry))
        return entry.tolist()
    return entry


def _numbers(
    file: dict[str, Any], model: NativeModel, found: Iterable[tuple[tuple[Any, ...], Any]]
) -> dict[str, Any]:
    """The tensors by the names of the numbers that they are: those that change as they do."""
    tensors = {}
    before = model.numbers()
    for path, tensor in found:
        changed = copy.deepcopy(file)
        place = changed
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = _others(place[path[-1]])
        after = dict(_from_data(changed).numbers())
        names = [name for name, values in before if after.get(name) != values]
        if len(names) != 1:
            where = _dotted(path)
            raise RangeError(
                f"`{where}` is a tensor, expected numbers: what is learned there, if anything, is given as a "
                "tensor by its name, beside the queries",
                where,
            )
        tensors[names[0]] = tensor
    return tensors


def _dotted(path: Iterable[Any]) -> str:
    """`prior[1].geometric.rho`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")


def _others(values: Any) -> Any:
    """Other numbers, of the same layout."""
    if isinstance(values, list):
        return [_others(value) for value in values]
    return 0.71 if values != 0.71 else 0.73

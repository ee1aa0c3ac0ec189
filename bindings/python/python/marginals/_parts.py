"""Parts of a model, one class for each that the library lists."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from . import _native
from ._names import camel, kebab
from .errors import RangeError

#: Every part that the library lists.
PARTS = _native.parts()


class Part:
    """A part of a model: its name in model files, and its settings."""

    __slots__ = ("settings",)

    #: Structure, prior, potential or distance.
    kind: ClassVar[str]
    #: Its name in model files.
    name: ClassVar[str]
    #: Its definition, in symbols.
    meaning: ClassVar[str]

    #: Its settings as the model file has them.
    settings: dict[str, Any]

    def __init__(self, **settings: Any) -> None:
        self.settings = {kebab(name): value for name, value in settings.items()}

    def entry(self) -> Any:
        """What stands for it in a model file.

        >>> import marginals as mg
        >>> mg.prior.Causal().entry(), mg.prior.Geometric(rho=0.1).entry()
        ('causal', {'geometric': {'rho': 0.1}})
        """
        return {self.name: self.settings} if self.settings else self.name

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.settings.items())
        return f"{self.kind}.{type(self).__name__}({settings})"


class Prior(Part):
    """A prior over edges. Priors combine by ``*``, as their weights do."""

    __slots__ = ()

    def __mul__(self, other: Any) -> Product:
        return Product([self]).times(other)

    def __rmul__(self, other: Any) -> Product:
        return Product([]).times(other).times(self)


class Product:
    """A product of priors.

    >>> import marginals as mg
    >>> list(mg.prior.Causal() * mg.prior.Geometric(rho=0.1) * "alibi")
    [prior.Causal(), prior.Geometric(rho=0.1), 'alibi']
    """

    __slots__ = ("factors",)

    #: The priors.
    factors: list[Any]

    def __init__(self, factors: list[Any]) -> None:
        self.factors = factors

    def times(self, other: Any) -> Product:
        """The product with another prior, or with several."""
        more = other if isinstance(other, (list, tuple, Product)) else [other]
        for factor in more:
            if not isinstance(factor, (Prior, str, dict)):
                raise RangeError(
                    f"`prior` is {factor!r}, expected a prior, or its name or table in a model file",
                    "prior",
                )
        return Product([*self.factors, *more])

    def __mul__(self, other: Any) -> Product:
        return self.times(other)

    def __rmul__(self, other: Any) -> Product:
        return Product([]).times(other).times(self)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.factors)

    def __repr__(self) -> str:
        return " * ".join(map(repr, self.factors))


def description(part: dict[str, Any]) -> str:
    """The docstring of a part's class."""
    settings = ", ".join(f"`{name}`" for name in part["settings"])
    settings = f"\n\nSettings: {settings}." if settings else ""
    tensors = "".join(f"\n    {tensor}: {meaning}" for _, tensor, meaning in part["tensors"])
    tensors = f"\n\nTensors that it reads:{tensors}" if tensors else ""
    return f"{part['meaning']}\n\nIn a model file: ``{part['example']}``{settings}{tensors}\n"


def made(kind: str, module: str) -> dict[str, type[Part]]:
    """The classes of all parts of a kind by their names."""
    base = Prior if kind == "prior" else Part
    listed = (part for part in PARTS if part["kind"] == kind)
    classes = {}
    for part in listed:
        about = {"kind": kind, "name": part["name"], "meaning": part["meaning"]}
        about.update({"__slots__": (), "__doc__": description(part), "__module__": module})
        classes[camel(part["name"])] = type(camel(part["name"]), (base,), about)
    return classes

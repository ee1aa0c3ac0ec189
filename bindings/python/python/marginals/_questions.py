"""Questions, one class for each that the library lists."""

from __future__ import annotations

from typing import Any, ClassVar

from . import _native
from ._names import camel, snake
from .errors import EntriesError


class Question:
    """A question to a posterior, with the tensors and the number it is asked with."""

    __slots__ = ("tensors", "usage")

    #: Its name in model files and on the command line.
    name: ClassVar[str]
    #: Its definition, in a line.
    definition: ClassVar[str]
    #: The sizes of its answer; F counts the factors.
    shape: ClassVar[str]
    #: Whether its answer can be differentiated.
    differentiable: ClassVar[bool]
    #: Whether it averages values.
    averages_values: ClassVar[bool]
    #: The word for the number that it is asked with, if it is.
    argument: ClassVar[str | None]
    #: The tensors that it reads beside the values.
    reads: ClassVar[tuple[str, ...]]

    #: The tensors it was given, by name.
    tensors: dict[str, Any]
    #: The question as the command line asks it: ``top-k=4``.
    usage: str

    def __repr__(self) -> str:
        tensors = "".join(f", {name}" for name in self.tensors)
        return f"<{type(self).__name__} {self.usage}{tensors}>"


def description(entry: dict[str, Any]) -> str:
    """The docstring of a question's class."""
    reads = "".join(f"\n    {snake(name)}: the tensor `{name}`." for name in entry["reads"])
    values = "\n    v: the values, [B, Hk, M, D_v]." if entry["averages_values"] else ""
    number = entry["argument"]
    number = f"\n    {snake(number.lower())}: the number that it is asked with." if number else ""
    arguments = f"\n\nArgs:{values}{number}{reads}" if values or number or reads else ""
    gradient = "It can be differentiated." if entry["differentiable"] else "It has no gradient."
    return f"{entry['definition']}\n\nThe answer is {entry['shape']}. {gradient}{arguments}\n"


def number(argument: str, question: str, value: Any) -> str:
    """The number that a question is asked with, as text.

    >>> number("K", "top-k", 4)
    '4'
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise EntriesError(f"`{argument}` of `{question}` is {value!r}, expected a whole number", argument)
    return str(value.__index__())


def _init(entry: dict[str, Any]) -> Any:
    """The initialiser of a question's class: values, a number, and tensors by keyword. It is written out, as
    those of data classes are: to bind arguments by `inspect` would take longer than an answer."""
    name, argument = entry["name"], entry["argument"]
    parameters, usage, tensors = ["self"], repr(name), {}
    if entry["averages_values"]:
        parameters.append("v=None")
        tensors["v"] = "v"
    if argument is not None:
        parameters.append(snake(argument.lower()))
        usage = f"{name + '='!r} + number({argument!r}, {name!r}, {parameters[-1]})"
    if entry["reads"]:
        parameters.append("*")
    for tensor in entry["reads"]:
        parameters.append(f"{snake(tensor)}=None")
        tensors[snake(tensor)] = tensor
    lines = [f"def __init__({', '.join(parameters)}):", f" self.usage = {usage}", " tensors = {}"]
    for parameter, tensor in tensors.items():
        lines.append(f" if {parameter} is not None: tensors[{tensor!r}] = {parameter}")
    lines.append(" self.tensors = tensors")
    names: dict[str, Any] = {"number": number}
    exec("\n".join(lines), names)
    return names["__init__"]


def _made(entry: dict[str, Any]) -> type[Question]:
    members = {
        "__slots__": (),
        "__doc__": description(entry),
        "__init__": _init(entry),
        "__module__": "marginals",
    }
    members.update(entry)
    return type(camel(entry["name"]), (Question,), {**members, "reads": tuple(entry["reads"])})


#: Every question by the name of its class.
QUESTIONS: dict[str, type[Question]] = {camel(entry["name"]): _made(entry) for entry in _native.questions()}

#: The same by their names.
BY_NAME: dict[str, type[Question]] = {made.name: made for made in QUESTIONS.values()}

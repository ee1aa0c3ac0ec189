"""What is asked together, and how the answers are handed out."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from . import _native
from ._names import camel, snake
from ._questions import BY_NAME, Question
from .errors import EntriesError, RangeError, UnknownNameError


class Asked:
    """Questions, and names of a mechanism's own answers, in the order of asking."""

    __slots__ = ("averages", "differentiable", "names", "native", "usages")

    def __init__(self, usages: tuple[str, ...], is_mechanism: bool) -> None:
        self.usages = usages
        #: The name of each answer.
        self.names = tuple(usage.partition("=")[0].strip() for usage in usages)
        questions = [
            usage
            for usage, name in zip(usages, self.names)
            # A mechanism has answers of its own, which only it knows.
            if not is_mechanism or name in BY_NAME
        ]
        self.native = _native.Questions(questions)
        asked = {name: BY_NAME[name] for name in self.names if name in BY_NAME}
        #: The questions whose answers stand for tensors of the network, in its number format.
        self.averages = frozenset(name for name, made in asked.items() if made.averages_values)
        #: Those whose answers have gradients.
        self.differentiable = frozenset(name for name, made in asked.items() if made.differentiable)


asked = lru_cache(maxsize=1024)(Asked)


def collected(
    questions: Iterable[Question | str], tensors: Mapping[str, Any]
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The questions as names, and all tensors: those given before and those given with a question."""
    usages = []
    all_tensors = dict(tensors)
    for question in questions:
        if isinstance(question, str):
            usages.append(question)
            continue
        if not isinstance(question, Question):
            hint = ""
            if isinstance(question, type) and issubclass(question, Question):
                hint = f". Call it: `{question.__name__}(…)`"
            raise EntriesError(
                f"`questions` holds {question!r}, expected questions or their names{hint}", "questions"
            )
        usages.append(question.usage)
        for name, tensor in question.tensors.items():
            if all_tensors.setdefault(name, tensor) is not tensor:
                raise RangeError(
                    f"`{name}` is given twice, by `{question.name}` and before it, expected one of it in a "
                    "pass. Ask in two passes, or of values beside each other in one tensor",
                    name,
                )
    return tuple(usages), all_tensors


@lru_cache(maxsize=256)
def _several(name: str, suffixes: tuple[str, ...]) -> Callable[[Iterable[Any]], Any]:
    fields = [snake(suffix) or "value" for suffix in suffixes]
    made: Any = namedtuple(camel(name), fields)  # noqa: PYI024
    return made._make


class Everything(dict[str, Any]):
    """Every answer that a mechanism has, by name."""

    #: What the numbers under some names mean: ``"0 converged, 1 energy stands still, …"``.
    meanings: dict[str, str]


def handed_out(asked: Asked, answers: Mapping[str, Any], meanings: dict[str, str]) -> Any:
    """The answers in the order of asking; the only one by itself; all by name where nothing was asked."""
    if not asked.names:
        everything = Everything(answers)
        everything.meanings = meanings
        return everything
    all_answers = []
    for name in asked.names:
        exact = answers.get(name)
        dotted = name + "."
        parts = [key for key in answers if key.startswith(dotted)] if name in BY_NAME else ()
        if not parts:
            if exact is None:
                raise UnknownNameError(
                    f"there is no answer named `{name}`. Known: {', '.join(answers)}", name
                )
            all_answers.append(exact)
            continue
        keys = [name, *parts] if exact is not None else list(parts)
        suffixes = tuple(key[len(dotted) :] for key in keys)
        all_answers.append(_several(name, suffixes)(answers[key] for key in keys))
    return all_answers[0] if len(all_answers) == 1 else tuple(all_answers)

"""Errors: what was wrong, named after the argument at fault.

Every error of the library is an :class:`Error`, which is a ``ValueError``; its ``argument`` is the tensor,
setting or question at fault, where there is one.
"""

from __future__ import annotations

__all__ = [
    "DeviceError",
    "EntriesError",
    "Error",
    "InternalError",
    "MissingTensorError",
    "NoGradientError",
    "NotANumberError",
    "NotAnswerableError",
    "RangeError",
    "ShapeError",
    "SpecError",
    "UnknownNameError",
]


class Error(ValueError):
    """An answer that could not be given: which argument, what was expected, what came, what to do."""

    #: The tensor, setting or question at fault.
    argument: str | None

    def __init__(self, message: str, argument: str | None = None) -> None:
        super().__init__(message)
        self.argument = argument

    def __reduce__(self) -> tuple[type[Error], tuple[str, str | None]]:
        return type(self), (str(self), self.argument)


class ShapeError(Error):
    """A tensor or parameter of the wrong shape."""


class RangeError(Error):
    """A number or a choice outside its range."""


class NotANumberError(Error):
    """A tensor that holds NaN where it must not, or where the caller asked for checks."""


class UnknownNameError(Error):
    """A name that nothing answers to."""


class MissingTensorError(Error):
    """A tensor that the model or a question reads and nobody gave."""


class EntriesError(Error, TypeError):
    """A tensor whose entries, or an argument whose type, is not what is read."""


class DeviceError(Error):
    """A tensor that does not lie in the processor's memory."""


class NotAnswerableError(Error):
    """A question that this posterior, or this use of it, cannot answer."""


class NoGradientError(Error):
    """A part of the model that does not define its gradient."""


class SpecError(Error):
    """A description of a model that does not parse."""


class InternalError(RuntimeError):
    """A mistake of the library's own."""

    def __init__(self, message: str, argument: str | None = None) -> None:
        super().__init__(message)
        self.argument = argument

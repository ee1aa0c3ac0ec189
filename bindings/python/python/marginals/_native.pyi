"""What the Python part of the package stands on; use that."""

from collections.abc import Mapping
from typing import Any, final

import numpy as np

__version__: str

@final
class Model:
    """A model file: one posterior, or a mechanism."""

    @staticmethod
    def from_toml(text: str) -> Model: ...
    @staticmethod
    def from_json(text: str) -> Model: ...
    def to_toml(self) -> str: ...
    def to_json(self) -> str: ...
    def factors(self, queries: int, keys: int) -> int: ...
    def numbers(self) -> list[tuple[str, list[float]]]: ...
    @property
    def is_mechanism(self) -> bool: ...

@final
class Questions:
    """Questions that are asked together."""

    def __new__(cls, names: list[str]) -> Questions: ...

@final
class Kept:
    """What a forward leaves for its backward."""

    def backward(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]: ...

def ask(
    model: Model,
    questions: Questions,
    tensors: Mapping[str, np.ndarray],
    seed: int,
    refuse_nan: bool,
    keep: bool,
) -> tuple[dict[str, np.ndarray], dict[str, str], Kept | None]: ...
def parts() -> list[dict[str, Any]]: ...
def questions() -> list[dict[str, Any]]: ...

"""Distances: how far a key lies behind a query, for every prior of distance.

Every one that the library has, by its name in model files: ``each-query-picks-one`` is
``EachQueryPicksOne``. Settings are keywords.
"""

from . import _parts

_classes = _parts.made("distance", __name__)
globals().update(_classes)
__all__ = list(_classes)

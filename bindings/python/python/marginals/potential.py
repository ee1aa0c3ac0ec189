"""Potentials: how well the content of two nodes fits.

Every one that the library has, by its name in model files: ``each-query-picks-one`` is
``EachQueryPicksOne``. Settings are keywords.
"""

from . import _parts

_classes = _parts.made("potential", __name__)
globals().update(_classes)
__all__ = list(_classes)

"""Names in files, in Python and in arguments: `each-query-picks-one`, `EachQueryPicksOne`, `tangent_q`."""

from __future__ import annotations


def camel(name: str) -> str:
    """The class of a name.

    >>> camel("each-query-picks-one")
    'EachQueryPicksOne'
    """
    return "".join(word.capitalize() for word in name.split("-"))


def snake(name: str) -> str:
    """The argument of a name.

    >>> snake("tangent.q"), snake("top-k")
    ('tangent_q', 'top_k')
    """
    return name.replace(".", "_").replace("-", "_")


def kebab(name: str) -> str:
    """The setting of an argument.

    >>> kebab("query_offset")
    'query-offset'
    """
    return name.replace("_", "-")

"""Writes the package's stubs: what editors and type checkers know of the classes that are made as it is imported.

python tools/stubs.py            writes them beside the package's files in this folder
python tools/stubs.py --check    says whether they are what it would write
"""

from __future__ import annotations

import argparse
import inspect
import sys
from pathlib import Path

from marginals import _native
from marginals._names import camel, kebab, snake
from marginals._parts import description as part_description
from marginals._questions import QUESTIONS, description

FOLDER = Path(__file__).resolve().parent.parent / "python" / "marginals"
WRITTEN = "# Written by tools/stubs.py.\n"


def docstring(text: str, indent: str) -> str:
    """A docstring of a class, with its quotes."""
    lines = text.strip().splitlines()
    body = ("\n" + indent).join(lines).replace("\n" + indent + "\n", "\n\n")
    end = f"\n{indent}" if len(lines) > 1 else ""
    return f'{indent}"""{body}{end}"""\n'


def questions() -> str:
    """The stub of the package."""
    text = WRITTEN + (
        "from typing import Any\n\n"
        "from . import distance as distance, errors as errors, potential as potential\n"
        "from . import prior as prior, structure as structure\n"
        "from ._model import Model as Model, Posterior as Posterior\n"
        "from ._questions import Question as Question\n"
        "from .errors import Error as Error\n\n"
        "__version__: str\n"
    )
    for entry in _native.questions():
        text += f"\nclass {camel(entry['name'])}(Question):\n" + docstring(description(entry), "    ")
        arguments = "self"
        by_keyword = False
        for parameter in inspect.signature(QUESTIONS[camel(entry["name"])]).parameters.values():
            if parameter.kind is parameter.KEYWORD_ONLY and not by_keyword:
                arguments, by_keyword = arguments + ", *", True
            optional = parameter.default is None
            arguments += f", {parameter.name}: " + ("Any = None" if optional else "int")
        text += f"\n    def __init__({arguments}) -> None: ...\n"
    return text


def parts(kind: str) -> str:
    """The stub of the module of a kind of parts."""
    base = "Prior" if kind == "prior" else "Part"
    text = WRITTEN + f"from typing import Any\n\nfrom ._parts import {base}\n"
    for part in _native.parts():
        if part["kind"] != kind:
            continue
        text += f"\nclass {camel(part['name'])}({base}):\n" + docstring(part_description(part), "    ")
        settings = "".join(f", {snake(name)}: Any = ..." for name in part["settings"])
        text += f"\n    def __init__(self{', *' if settings else ''}{settings}) -> None: ...\n"
        assert all(kebab(snake(name)) == name for name in part["settings"])
    return text


def stubs() -> dict[str, str]:
    """All stubs by the names of their files."""
    kinds = ("structure", "prior", "potential", "distance")
    return {"__init__.pyi": questions(), **{f"{kind}.pyi": parts(kind) for kind in kinds}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    arguments = parser.parse_args()
    stale = [
        name
        for name, text in stubs().items()
        if not (FOLDER / name).is_file() or (FOLDER / name).read_text(encoding="utf-8") != text
    ]
    if arguments.check:
        if stale:
            print(f"{', '.join(stale)} are not what tools/stubs.py writes: run it", file=sys.stderr)
        return 1 if stale else 0
    for name in stale:
        beside = FOLDER / f".{name}.new"
        beside.write_text(stubs()[name], encoding="utf-8")
        beside.replace(FOLDER / name)
        print(f"wrote {FOLDER / name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

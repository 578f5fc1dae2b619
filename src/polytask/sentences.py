"""The problems that pydantic finds, in our words."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from polytask.errors import nearest, shown


def wanted(problem: Mapping[str, Any], nameable: Collection[str] = ()) -> str:
    """Return what one of pydantic's problems says was wanted, such as "a whole number".

    ``nameable`` are the classes of tables that a name alone may stand for.
    """
    kind, bounds = str(problem["type"]), problem.get("ctx", {})
    if bounds.get("class_name") in nameable:
        return "a name or a table"
    if kind in _WANTED:
        return _WANTED[kind]
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        return f"{words} {bounds[key]:g}"
    if kind == "literal_error":
        return str(bounds["expected"])
    if kind == "too_short":
        return f"{bounds['min_length']} or more of them"
    if kind == "too_long":
        return f"{bounds['max_length']} of them"
    return str(problem["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")


def unlike(value: object, problems: Iterable[Mapping[str, Any]], nameable: Collection[str] = ()) -> str:
    """Return "is 3; wanted a text or a table." for a value that pydantic refused, with the near miss of a choice."""
    found = list(problems)
    # A number out of range is no table either, but that is not what is wrong with it.
    found = [problem for problem in found if problem["type"] in _BOUNDS] or found
    alternatives = list(dict.fromkeys(wanted(problem, nameable) for problem in found))
    choices = [name for text in alternatives for name in re.findall("'([^']*)'", text)]
    near = nearest(value, choices) if isinstance(value, str) else ""
    numbers = isinstance(value, int | float) and not isinstance(value, bool)
    hint = f' Write it as "{value}".' if numbers and alternatives == ["a text"] else ""
    wish = " or ".join(part for part in (", ".join(alternatives[:-1]), alternatives[-1]) if part)
    return f"is {shown(value)}; wanted {wish}.{near}{hint}"


_WANTED = {
    **dict.fromkeys(("int_type", "int_from_float", "int_parsing", "int_parsing_size"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("list_type", "tuple_type"), "a list"),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type", "dataclass_type"), "a table"),
    "string_type": "a text",
    "finite_number": "a finite number",
    "none_required": "nothing at all",
}


_BOUNDS = {
    "greater_than": ("a number above", "gt"),
    "greater_than_equal": ("a number of at least", "ge"),
    "less_than": ("a number below", "lt"),
    "less_than_equal": ("a number of at most", "le"),
}

"""
Unions that lead back to themselves, and a bound on the work that they make.

``Expr = And | Or | Leaf``, where both ``And`` and ``Or`` hold an ``Expr``: to find the
member that fits best, pydantic tries each one to the bottom, at each level anew. Sixteen
levels of such an expression are 180 characters and take seconds. To stop at the first
member that fits would not help with what fits none, and would choose others than pydantic
does. So all is tried as ever, with two cures: a member with a literal that is not the one
given (``op: Literal["and"]``) is not looked into any further, and what is looked at again
and again is counted.

Below lie ``_core_schema`` and ``_invalid``, above ``_validator``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ._core_schema import Node, every

# Values that may be looked at again in one validation. Each costs a microsecond or two.
_AGAIN = 2_000

Enter = Callable[[Any, Callable[[Any], Any]], Any]


def branching(core_schema: Node) -> frozenset[str]:
    """
    The definitions with a union of which two members or more lead back to them.

    With one such member, as in ``Branch | Leaf``, everything is looked at once.
    """
    definitions = {node["ref"]: node for node in every(core_schema) if "ref" in node}
    direct = {ref: _references(node) for ref, node in definitions.items()}

    def leads_to(node: Node, ref: str) -> bool:
        found = _references(node)
        waiting = list(found)
        for each in waiting:
            new = direct.get(each, set()) - found
            found |= new
            waiting.extend(new)
        return ref in found

    return frozenset(
        ref
        for ref, definition in definitions.items()
        for node in every(definition)
        if node["type"] == "union" and sum(leads_to(m, ref) for m in members(node)) > 1
    )


def members(union: Node) -> list[Node]:
    """
    The members of a union, without their labels.
    """
    return [each[0] if isinstance(each, tuple) else each for each in union["choices"]]


def _references(node: Node) -> set[str]:
    return {n["schema_ref"] for n in every(node) if n["type"] == "definition-ref"}


class Visits(threading.local):
    """
    Ends a validation in which values were looked at again too often. One for a validator
    (and, as a schema may be used in several threads, one a thread).

    A value counts from the second time that a definition meets it, with all that is in
    it: the first look is no more than any validation does.
    """

    def __init__(self) -> None:
        self._start()

    def bounding(self, read: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """
        A validation with a count of its own.
        """

        def bounded(given: Any) -> Any:
            self._start()
            try:
                return read(given)
            finally:
                self._start()  # what was seen is let go

        return bounded

    def _start(self) -> None:
        # The values are kept, so that none of them is freed and its id used again.
        self._seen: dict[tuple[str, int], Any] = {}
        self._left = _AGAIN

    def counting(self, definition: Node) -> Enter:
        """
        The wrap validator for a definition.
        """
        ref, literals = definition["ref"], _literals(definition)

        def enter(value: Any, validate: Callable[[Any], Any]) -> Any:
            if isinstance(value, (dict, list)):
                for name, expected in literals.items():
                    _check_literal(value, name, expected)
                key = (ref, id(value))
                if key in self._seen:
                    self._again(value)
                self._seen[key] = value
            return validate(value)

        return enter

    def _again(self, value: Any) -> None:
        waiting = [value]
        for each in waiting:
            self._left -= 1 + len(each)
            if self._left < 0:
                # What pydantic raises too where the nesting is too deep for it. No
                # ValueError, which would only be the end of one member of the union.
                raise RecursionError("a union was entered too often")
            for item in each.values() if isinstance(each, dict) else each:
                if isinstance(item, (dict, list)):
                    waiting.append(item)  # noqa: PERF401


def _literals(definition: Node) -> dict[str, list[str]]:
    """
    The fields of an object that can hold no more than certain words, by the keys under
    which they are looked for. One that is left out may have a default, and says nothing.
    """
    node = definition
    while node["type"] in {"function-after", "model", "dataclass"}:
        if node.get("custom_init"):
            return {}
        node = node["schema"]
    fields = node.get("fields", {})
    if node["type"] == "dataclass-args":
        fields = {field["name"]: field for field in fields}
    found = {}
    for name, field in fields.items():
        key, schema = field.get("validation_alias", name), field["schema"]
        if schema["type"] == "default":
            schema = schema["schema"]
        if schema["type"] != "literal" or not isinstance(key, str):
            continue
        if all(type(word) is str for word in schema["expected"]):
            found[key] = schema["expected"]
    return found


def _check_literal(value: Any, name: str, expected: list[str]) -> None:
    from pydantic_core import InitErrorDetails, ValidationError

    given = value.get(name) if type(value) is dict else None
    if type(given) is str and given not in expected:
        *words, last = map(repr, expected)
        details = InitErrorDetails(
            type="literal_error",
            loc=(name,),
            input=given,
            ctx={"expected": f"{', '.join(words)} or {last}" if words else last},
        )
        raise ValidationError.from_exception_data("arguments", [details])

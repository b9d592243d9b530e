"""
Frozen records for the price of plain ones.

The constructor of a frozen dataclass goes through ``object.__setattr__`` for every field
(seen: five times the price of a plain one, which alone was a third of a whole call). So a
record that every call makes is made by a class of the same layout, and frozen by changing
its class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, field, fields, make_dataclass
from typing import Any, TypeVar, cast

Record = TypeVar("Record")


def quick(cls: type[Record]) -> Callable[..., Record]:
    """
    What makes records of a frozen dataclass with slots. It takes the same arguments, by
    name or in the order of the fields; one whose default is made anew for each is to be
    given, by name.
    """

    def become(self: Any) -> None:
        self.__class__ = cls

    layout: list[tuple[str, Any, Any]] = []
    for each in fields(cast("Any", cls)):
        is_made = each.default_factory is not MISSING
        made_field = field(kw_only=True) if is_made else field(default=each.default)
        layout.append((each.name, Any, made_field))
    made = make_dataclass(
        f"_{cls.__name__}",
        layout,
        bases=cls.__bases__,
        namespace={"__post_init__": become},
        repr=False,
        eq=False,
        match_args=False,
        slots=True,
    )
    return cast("Callable[..., Record]", made)

"""
What a callable says of itself: its parameters, their types and its docstring.

No pydantic here, so that a registry can look for a context parameter before anyone needs
a schema. Below lies ``_docstring``, above ``_schema``.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from inspect import Parameter
from typing import Annotated, Any

from . import _docstring

CURE = (
    "annotate it with a type that pydantic can read from JSON, "
    "or give the tool `parameters=` or `validate=False`"
)
# Names that are local to a function can be seen from the frame in which a tool is defined,
# and nowhere else.
_CURE_OF_NAMES = (
    "define what it names at the top of the module; what is local to a function is found "
    "only by `@registry.tool`, written where the tool is defined. Or give the tool "
    "`parameters=` or `validate=False`"
)


def context_parameter(
    fn: Callable[..., Any], context_type: type, namespace: Mapping[str, Any] | None = None
) -> str | None:
    """
    Name of the parameter that is annotated with a type, or ``None``.

    The annotation may be a string, optional, or ``Annotated``.

    Raises:
        TypeError: Two parameters are, or the one that is can only be given by position.
    """
    parameters = parameters_of(fn)
    scope = scope_of(fn, namespace)
    # The import may stand under `if TYPE_CHECKING`, where no annotation can find it.
    scope.setdefault(context_type.__name__, context_type)
    found = [p for p in parameters if _asks_for(context_type, p, scope)]
    if len(found) > 1:
        names = " and ".join(p.name for p in found)
        raise TypeError(f"only one parameter may be a {context_type.__name__}, not {names}")
    if found and found[0].kind is Parameter.POSITIONAL_ONLY:
        raise TypeError(
            f"parameter {found[0].name!r} cannot be given by name; remove the '/'"
        )
    return found[0].name if found else None


def defining_namespace(fn: Callable[..., Any], depth: int) -> Mapping[str, Any] | None:
    """
    The local names that a nested function's annotations use, as far as they are there.

    Args:
        fn: The callable.
        depth: How many frames above the caller of this function the definition stands;
            0 is the caller itself.

    Returns:
        A snapshot, or ``None`` if the function is not nested or no annotation is text.
    """
    function = _function(fn)
    if "<locals>" not in getattr(function, "__qualname__", ""):
        return None
    written = [repr(note) for note in getattr(function, "__annotations__", {}).values()]
    # A quote: the annotation is a string, or holds one that typing has wrapped.
    words = {
        word for text in written if "'" in text or '"' in text for word in _words(text)
    }
    if not words:
        return None
    try:
        found = sys._getframe(depth + 1).f_locals
    except ValueError:
        return None
    # Only what is named: a frame's whole locals would live as long as the snapshot.
    return {name: found[name] for name in words if name in found}


def describe(fn: Callable[..., Any]) -> str:
    """
    The description in a callable's docstring; empty if there is none.
    """
    return documented(fn)[0]


def documented(fn: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """
    The description in a callable's docstring, and those of its arguments.
    """
    function = fn if inspect.isclass(fn) else _function(fn)
    text = inspect.getdoc(function) or ""
    if not text and not inspect.isroutine(fn) and not isinstance(fn, functools.partial):
        text = inspect.getdoc(type(fn)) or ""
    return _docstring.split(text)


def bound_names(fn: Any) -> set[str]:
    """
    The arguments that a ``functools.partial`` has filled in by name.
    """
    return set(fn.keywords) if isinstance(fn, functools.partial) else set()


def parameters_of(fn: Callable[..., Any]) -> list[Parameter]:
    """
    The parameters of a callable, without ``self``.

    Raises:
        TypeError: It has no signature, as some functions written in C.
    """
    try:
        return list(inspect.signature(fn).parameters.values())
    except ValueError as error:
        raise TypeError(f"{error}; give the tool `parameters=`") from None


def scope_of(fn: Callable[..., Any], namespace: Mapping[str, Any] | None) -> dict[str, Any]:
    """
    The names that a callable's annotations can use.
    """
    function = _function(fn)
    own = {p.__name__: p for p in getattr(function, "__type_params__", ())}
    return {
        **getattr(function, "__globals__", {}),
        **_enclosed(function),
        **own,
        **(namespace or {}),
    }


def _enclosed(function: Any) -> dict[str, Any]:
    """
    The local names of functions around it that a function uses itself.
    """
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    found = {}
    for name, cell in zip(
        names, getattr(function, "__closure__", None) or (), strict=False
    ):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            pass  # it gets its value later
    return found


def evaluated_hint(parameter: Parameter, scope: dict[str, Any], tool_name: str) -> Any:
    """
    The type of a parameter; ``Any`` if it has no annotation.

    Raises:
        TypeError: The annotation is a string that names what is not there.
    """
    if parameter.annotation is Parameter.empty:
        return Any
    try:
        return _evaluated(parameter.annotation, scope)
    except Exception as error:
        cure = _CURE_OF_NAMES if isinstance(error, NameError) else CURE
        raise TypeError(
            f"tool {tool_name!r}: the annotation of parameter {parameter.name!r}, "
            f"{parameter.annotation!r}, cannot be read ({error}); {cure}"
        ) from error


def refuse_positional(parameter: Parameter, tool_name: str) -> None:
    """
    Raise a ``TypeError`` for a parameter that cannot be given by name.
    """
    if parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.POSITIONAL_ONLY):
        cure = (
            f"take a list instead of '*{parameter.name}'"
            if parameter.kind is Parameter.VAR_POSITIONAL
            else "remove the '/'"
        )
        raise TypeError(
            f"tool {tool_name!r}: parameter {parameter.name!r} can only be given by "
            f"position, and a model gives arguments by name; {cure}"
        )


def _function(fn: Any) -> Any:
    """
    The function inside a partial, a decorator, a bound method or a callable object.
    """
    while isinstance(fn, functools.partial):
        fn = fn.func
    if not inspect.isroutine(fn) and not inspect.isclass(fn):
        fn = type(fn).__call__
    if inspect.isclass(fn):
        fn = fn.__init__
    unwrapped = inspect.unwrap(getattr(fn, "__func__", fn))
    return unwrapped if inspect.isroutine(unwrapped) else _function(unwrapped)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def _evaluated(annotation: Any, scope: dict[str, Any]) -> Any:
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    return typing.get_type_hints(holder, scope, scope, include_extras=True)["it"]


def _asks_for(context_type: type, parameter: Parameter, scope: dict[str, Any]) -> bool:
    if parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
        return False
    try:
        annotation = _evaluated(parameter.annotation, scope)
    except Exception:
        # What cannot be read is no context; where a schema needs it, `derive` complains.
        return False
    return any(member is context_type for member in _members(annotation))


def _members(annotation: Any) -> Iterator[Any]:
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        yield from _members(annotation.__origin__)
    elif origin in (typing.Union, types.UnionType):
        for member in typing.get_args(annotation):
            yield from _members(member)
    else:
        yield annotation

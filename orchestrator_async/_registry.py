"""
Tools, by name.

A registry is a dict with good words around it: a frozen record a tool, ``in``, ``len``,
iteration. It runs tools too, without any protection; that is the orchestrator's work.
The shape is that of svcs.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeVar, overload

from ._calls import ToolContext
from ._errors import (
    DuplicateToolError,
    InvalidArgumentsError,
    UnknownToolError,
)
from ._policy import (
    INHERIT,
    BreakerPolicy,
    Inherit,
    ToolPolicy,
    as_tool_policy,
    is_async,
    join,
)
from ._threads import Slots, ThreadedCall

if TYPE_CHECKING:
    from ._outcome import Judge
    from ._schema import Schema

MAX_NAME: Final = 128
"""Characters that a tool's name may have."""

Function = TypeVar("Function", bound=Callable[..., Any])
Format = Literal["openai", "anthropic", "mcp"]


@dataclass(frozen=True, kw_only=True, slots=True, weakref_slot=True)
class Tool:
    """
    One tool.

    Args:
        fn: What is run: a coroutine function, a plain function (which runs in a worker
            thread), a bound method or an object that can be called.
        name: What the model calls it by. Default: the function's name.
        description: What the model reads of it. Default: from the docstring.
        parameters: JSON schema of the arguments, written by hand. They are then passed
            as they come, without validation. Default: derived from the signature.
        policy: How it is run and judged.
        circuit: Name of the circuit. Tools that name the same share it, as one dead
            service takes all its tools with it. Default: a circuit of its own.
        idempotent: Whether running it twice does what running it once does.
        validate: Whether the arguments are validated against the type hints.
        alternatives: At most three names of tools that a refusal points to.

    Raises:
        TypeError: ``fn`` cannot be run, or a field has the wrong type.
        ValueError: The name cannot be, or there are too many alternatives.
    """

    fn: Callable[..., Any] = field(repr=False)
    name: str = ""
    description: str | None = field(default=None, repr=False)
    parameters: Mapping[str, Any] | None = field(default=None, repr=False)
    policy: ToolPolicy = field(default=ToolPolicy(), repr=False)
    circuit: str | None = None
    idempotent: bool = False
    validate: bool = True
    alternatives: tuple[str, ...] = ()
    _locals: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)
    _schema: Schema | None = field(
        default=None, init=False, repr=False, compare=False, hash=False
    )

    def __post_init__(self) -> None:
        if not callable(self.fn):
            raise TypeError(f"a tool must be callable, not {self.fn!r}")
        if not self.name:
            object.__setattr__(self, "name", _name_of(self.fn))
        object.__setattr__(self, "alternatives", tuple(self.alternatives))
        _check_name("name", self.name)
        if self.circuit is not None:
            _check_name("circuit", self.circuit)
        if len(self.alternatives) > 3:
            raise ValueError(f"{self.name}: at most 3 alternatives can be named")
        if self.parameters is not None and not isinstance(self.parameters, Mapping):
            raise TypeError(f"{self.name}: parameters must be a JSON schema, a mapping")
        if inspect.isasyncgenfunction(_unwrapped(self.fn)):
            raise TypeError(f"{self.name} is an async generator; a tool returns its result")

    @property
    def is_async(self) -> bool:
        """
        Whether it runs in the event loop. Otherwise it runs in a worker thread.
        """
        return is_async(_unwrapped(self.fn))

    @property
    def circuit_name(self) -> str:
        """
        Name of its circuit, shared or its own.
        """
        return self.name if self.circuit is None else self.circuit

    @property
    def validates(self) -> bool:
        """
        Whether its arguments are validated: not with a schema written by hand.
        """
        return self.validate and self.parameters is None

    @property
    def context_parameter(self) -> str | None:
        """
        The parameter that is filled with the ``ToolContext``, or ``None``.
        """
        from . import _schema

        return _schema.context_parameter(self.fn, ToolContext, self._locals)

    def schema(self) -> Schema:
        """
        The derived schema, made once. The first one imports pydantic.

        Raises:
            TypeError: The signature does not lend itself to one; says which part.
        """
        if self._schema is None:
            from . import _schema

            schema = _schema.derive(
                self.fn,
                tool_name=self.name,
                context_parameter=self.context_parameter,
                namespace=self._locals,
            )
            object.__setattr__(self, "_schema", schema)
        assert self._schema is not None
        return self._schema

    def definition(self, format: Format = "openai") -> dict[str, Any]:
        """
        How a model's API wants to be told of the tool.

        Raises:
            ValueError: There is no such format.
        """
        if self.parameters is None:
            parameters, description = self.schema().parameters, self.schema().description
        else:
            from . import _schema

            parameters, description = dict(self.parameters), _schema.describe(self.fn)
        if self.description is not None:
            description = self.description
        told = {"name": self.name, "description": description}
        match format:
            case "openai":
                return {"type": "function", "function": {**told, "parameters": parameters}}
            case "anthropic":
                return {**told, "input_schema": parameters}
            case "mcp":
                return {**told, "inputSchema": parameters}
        raise ValueError(f"format={format!r}: expected 'openai', 'anthropic' or 'mcp'")


class Binder:
    """
    Makes keyword arguments of what a caller gave, for one tool. Made once a tool.

    Attributes:
        context_parameter: The parameter that the caller's arguments can never fill.
        check: Validates a mapping and returns keyword arguments; ``None`` where
            nothing has to be checked.
    """

    __slots__ = ("_check_json", "_max_size", "_name", "check", "context_parameter")

    def __init__(self, tool: Tool, max_size: int) -> None:
        self._name = tool.name
        self._max_size = max_size
        self._check_json: Callable[[str | bytes], dict[str, Any]] | None = None
        self.check: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
        self.context_parameter = tool.context_parameter
        if tool.validates:
            schema = tool.schema()
            self.check, self._check_json = schema.validate, schema.validate_json

    def bind(self, args: object) -> Mapping[str, Any]:
        """
        The keyword arguments.

        Raises:
            InvalidArgumentsError: They do not fit; says which and why.
        """
        if args is None:
            args = {}
        if isinstance(args, (str, bytes, bytearray)):
            return self._from_text(args)
        if not isinstance(args, Mapping):
            raise self._wrong("(all)", f"an object, not a {type(args).__name__}")
        if self.check is not None:
            return self.check(args)
        return self._as_given(args)

    def _from_text(self, text: str | bytes | bytearray) -> Mapping[str, Any]:
        if len(text) > self._max_size:
            raise self._wrong("(all)", f"at most {self._max_size} characters of JSON")
        if isinstance(text, bytearray):
            text = bytes(text)
        if not text.strip():
            text = "{}"  # what some models send for a tool without arguments
        if self._check_json is not None:
            return self._check_json(text)
        from . import _schema

        return self._as_given(_schema.parse_arguments(text, tool_name=self._name))

    def _as_given(self, args: Mapping[Any, Any]) -> Mapping[str, Any]:
        args = dict(args)
        if self.context_parameter is not None and self.context_parameter in args:
            raise self._wrong(self.context_parameter, "not to be given")
        if not all(isinstance(key, str) for key in args):
            raise self._wrong("(all)", "names that are text")
        return args

    def _wrong(self, argument: str, expected: str) -> InvalidArgumentsError:
        return InvalidArgumentsError(
            tool_name=self._name, errors=[{"argument": argument, "expected": expected}]
        )


class Watcher(Protocol):
    """
    Whoever keeps something of a tool and must let go of it.
    """

    def tool_changed(self, tool: Tool, *, removed: bool) -> None:
        """The tool was replaced or removed."""


class Registry:
    """
    The tools that an agent has, by name.

    ``name in registry``, ``len(registry)``, ``registry[name]``, and iteration over the
    tools in the order in which they came.
    """

    def __init__(self) -> None:
        self._tools: dict[str, Tool] = {}
        self._binders: dict[str, Binder] = {}
        self._watchers: weakref.WeakSet[Any] = weakref.WeakSet()

    def __repr__(self) -> str:
        return f"<Registry with {len(self._tools)} tools>"

    def __len__(self) -> int:
        return len(self._tools)

    def __contains__(self, name: object) -> bool:
        return name in self._tools if isinstance(name, str) else False

    def __iter__(self) -> Iterator[Tool]:
        return iter(tuple(self._tools.values()))

    def __getitem__(self, name: str) -> Tool:
        tool = self.get(name)
        if tool is None:
            raise self.unknown(name)
        return tool

    def get(self, name: object) -> Tool | None:
        """
        The tool of that name, or ``None``.
        """
        return self._tools.get(name) if isinstance(name, str) else None

    @overload
    def tool(self, fn: Function, /) -> Function: ...

    @overload
    def tool(
        self,
        fn: None = None,
        /,
        *,
        name: str | None = None,
        description: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        timeout: float | None | Inherit = INHERIT,
        circuit: str | None = None,
        judge: Judge | Inherit = INHERIT,
        is_failure: Callable[[Any], bool] | Inherit = INHERIT,
        idempotent: bool = False,
        validate: bool = True,
        policy: ToolPolicy | BreakerPolicy | None = None,
        alternatives: Sequence[str] = (),
        replace: bool = False,
    ) -> Callable[[Function], Function]: ...

    def tool(
        self,
        fn: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        description: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        timeout: float | None | Inherit = INHERIT,
        circuit: str | None = None,
        judge: Judge | Inherit = INHERIT,
        is_failure: Callable[[Any], bool] | Inherit = INHERIT,
        idempotent: bool = False,
        validate: bool = True,
        policy: ToolPolicy | BreakerPolicy | None = None,
        alternatives: Sequence[str] = (),
        replace: bool = False,
    ) -> Any:
        """
        Register a function, as a decorator with or without arguments.

        The function is returned as it was, so it can still be called directly.

        Args:
            fn: The function.
            name: See ``Tool``, as for those that are not explained here.
            description: See ``Tool``.
            parameters: See ``Tool``.
            timeout: Seconds that one execution may take; ``None`` for no timeout.
            circuit: See ``Tool``.
            judge: What an outcome says of the tool.
            is_failure: The judge in short: of returned values, true for a failure.
            idempotent: See ``Tool``.
            validate: See ``Tool``.
            policy: Further settings, of the tool or of its circuit.
            alternatives: See ``Tool``.
            replace: Whether it takes the place of a tool of that name.

        Raises:
            DuplicateToolError: The name is taken.
            TypeError: This cannot be run as a tool.
            ValueError: A setting cannot be, is given twice, or is not that of the
                others on the same circuit.
        """
        given = ToolPolicy(timeout=timeout, judge=judge, is_failure=is_failure)
        settings = join(given, as_tool_policy(policy))

        def register(fn: Function, depth: int = 1) -> Function:
            from . import _schema

            self.add(
                Tool(
                    fn=fn,
                    name=_name_of(fn) if name is None else name,
                    description=description,
                    parameters=parameters,
                    policy=settings,
                    circuit=circuit,
                    idempotent=idempotent,
                    validate=validate,
                    alternatives=tuple(alternatives),
                    _locals=_schema.defining_namespace(fn, depth),
                ),
                replace=replace,
            )
            return fn

        return register if fn is None else register(fn, 2)

    def add(self, tool: Tool, *, replace: bool = False) -> Tool:
        """
        Add a tool, and return it.

        Args:
            tool: The tool.
            replace: Whether it takes the place of a tool of that name, whose circuit
                and figures it goes on with.

        Raises:
            DuplicateToolError: The name is taken by a tool, or by a circuit that other
                tools share.
            ValueError: Its settings of a shared circuit are not those of the others.
        """
        if not isinstance(tool, Tool):
            raise TypeError(
                f"add takes a Tool, not {tool!r}; for a function there is Registry.tool"
            )
        if tool.name in self._tools and not replace:
            raise DuplicateToolError(
                f"There is a tool named {tool.name} already; replace=True replaces it.",
                tool_name=tool.name,
            )
        others = [each for each in self._tools.values() if each.name != tool.name]
        _check_circuits(tool, others)
        before = self._tools.get(tool.name)
        self._tools[tool.name] = tool
        if before is not None:
            self._forget(before, removed=False)
        return tool

    def remove(self, name: str) -> Tool:
        """
        Remove a tool, and return it. Its circuit goes with the last tool that has it.

        Raises:
            UnknownToolError: There is none.
        """
        tool = self[name]
        del self._tools[name]
        self._forget(tool, removed=True)
        return tool

    def build(self) -> None:
        """
        Prepare the schemas of all tools, so that no first call has to.

        It imports pydantic. ``definitions`` calls it; call it yourself before the event
        loop runs if you do not use that.

        Raises:
            TypeError: A signature does not lend itself to a schema; names the tool.
        """
        import pydantic_core

        for tool in self:
            if tool.validates:
                tool.schema()
        pydantic_core.to_json(None)

    def definitions(self, format: Format = "openai") -> list[dict[str, Any]]:
        """
        How a model's API wants to be told of the tools.

        Args:
            format: ``"openai"``, ``"anthropic"`` or ``"mcp"``.

        Raises:
            TypeError: A signature does not lend itself to a schema; names the tool.
            ValueError: There is no such format.
        """
        self.build()
        return [tool.definition(format) for tool in self]

    async def dispatch(self, name: str, args: Any = None, /, **context: Any) -> Any:
        """
        Run a tool without protection: no circuit, no timeout, no verdict.

        Args:
            name: Name of the tool.
            args: The arguments: a mapping, JSON text, or ``None``.
            **context: What a parameter annotated ``ToolContext`` has as its ``data``.

        Returns:
            The tool's own value.

        Raises:
            UnknownToolError: There is no such tool.
            InvalidArgumentsError: The arguments do not fit.
            Exception: Whatever the tool raises.
        """
        tool = self[name]
        binder = self._binders.get(name)
        if binder is None:
            binder = self._binders[name] = Binder(tool, 1_000_000)
        arguments = dict(binder.bind(args))
        if binder.context_parameter is not None:
            arguments[binder.context_parameter] = ToolContext(
                tool_name=name, idempotency_key=uuid.uuid4().hex, data=context
            )
        if tool.is_async:
            return await tool.fn(**arguments)
        slots = Slots(1)
        slots.take()
        value = await ThreadedCall(slots).wait(functools.partial(tool.fn, **arguments))
        return await value if inspect.isawaitable(value) else value

    def unknown(self, name: object) -> UnknownToolError:
        """
        The error for a name that no tool has, with the closest that there are.

        A name of more than 128 characters is not compared with anything.
        """
        from ._text import quote_name

        close: Sequence[str] = ()
        if isinstance(name, str) and len(name) <= MAX_NAME:
            close = difflib.get_close_matches(name, self._tools, n=3, cutoff=0.6)
        return UnknownToolError(tool_name=quote_name(name), did_you_mean=close)

    def watch(self, watcher: Watcher) -> None:
        """
        Tell it of every tool that is replaced or removed, as long as it lives.
        """
        self._watchers.add(watcher)

    def sharing(self, circuit: str) -> list[Tool]:
        """
        The tools on the circuit of that name.
        """
        return [tool for tool in self._tools.values() if tool.circuit_name == circuit]

    def _forget(self, tool: Tool, *, removed: bool) -> None:
        self._binders.pop(tool.name, None)
        for watcher in tuple(self._watchers):
            watcher.tool_changed(tool, removed=removed)


registry: Final = Registry()
"""The registry that an orchestrator uses if it is given none."""


def _check_name(what: str, name: object) -> None:
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        raise ValueError(
            f"{what}={name!r:.200} cannot be; expected text of 1 to {MAX_NAME} characters"
        )


def _check_circuits(tool: Tool, others: Sequence[Tool]) -> None:
    for other in others:
        if other.circuit == tool.name and tool.circuit != tool.name:
            raise DuplicateToolError(
                f"{tool.name} is the name of a circuit that {other.name} uses, so no "
                "other tool can be named like it.",
                tool_name=tool.name,
            )
        if tool.circuit == other.name and other.circuit != other.name:
            raise DuplicateToolError(
                f"{tool.name} cannot use a circuit named {tool.circuit}: that is the "
                "name of another tool, which has a circuit of its own.",
                tool_name=tool.name,
            )
        if tool.circuit_name == other.circuit_name:
            _check_agreement(tool, other)


def _check_agreement(tool: Tool, other: Tool) -> None:
    for name in BreakerPolicy.__slots__:
        mine = getattr(tool.policy.breaker, name)
        theirs = getattr(other.policy.breaker, name)
        if INHERIT not in (mine, theirs) and mine != theirs:
            raise ValueError(
                f"{tool.name} and {other.name} share the circuit {tool.circuit_name} "
                f"and disagree on its {name}: {mine!r} and {theirs!r}"
            )


def _unwrapped(fn: Any) -> Any:
    while isinstance(fn, functools.partial):
        fn = fn.func
    return fn


def _name_of(fn: Any) -> str:
    fn = _unwrapped(fn)
    name = getattr(fn, "__name__", None) or type(fn).__name__
    if name == "<lambda>":
        raise ValueError("a lambda has no name to be called by: give name=")
    return str(name)

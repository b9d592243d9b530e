"""
Tools, by name.

A registry is a dict with good words around it: a frozen record a tool, ``in``, ``len``,
iteration. It runs tools too, without any protection; that is the orchestrator's work.
The shape is that of svcs.
"""

from __future__ import annotations

import functools
import inspect
import os
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, overload

from ._callable import name_of
from ._calls import ToolContext, check_context
from ._checks import INHERIT, Inherit
from ._errors import DuplicateToolError, UnknownToolError
from ._generators import joined
from ._names import MAX_NAME, closest
from ._policy import (
    INHERITED,
    BreakerPolicy,
    ToolPolicy,
    ToolSettings,
    as_tool_policy,
    join,
)
from ._threads import Slots, ThreadedCall
from ._tool import Binder, Format, KeyFunction, Tool, check_format

if TYPE_CHECKING:
    from ._outcome import Judge

Function = TypeVar("Function", bound=Callable[..., Any])


class Watcher(Protocol):
    """
    Whoever keeps something of a tool and must let go of it.
    """

    def check(self, tool: Tool) -> None:
        """The tool is to come; raises ``ValueError`` where it cannot."""

    def tool_changed(self, tool: Tool, *, removed: bool) -> None:
        """The tool was replaced or removed."""

    def tool_added(self, tool: Tool) -> None:
        """The tool is new, or has taken the place of another."""


class ToolSource(Protocol):
    """
    Where tools come from that come and go, such as servers.
    """

    def attach(self, registry: Registry) -> None:
        """Put the tools into the registry, and change them there from now on."""

    def detach(self, registry: Registry) -> None:
        """Take them out again, and change nothing more."""

    def why_unknown(self, name: str) -> str:
        """
        What is known of why there is no tool of that name, as a sentence for a model; empty
        if nothing is.
        """


class Registry:
    """
    The tools that an agent has, by name.

    ``name in registry``, ``len(registry)``, ``registry[name]``, and iteration over the
    tools in the order in which they came.
    """

    def __init__(self) -> None:
        self._tools: dict[str, Tool] = {}
        self._shared: dict[str, dict[str, Tool]] = {}  # by the circuits that tools name
        self._binders: dict[str, Binder] = {}
        self._writers: set[str] = set()  # names of tools that say they change something
        self._watchers: weakref.WeakSet[Any] = weakref.WeakSet()
        self._sources: list[ToolSource] = []

    def __repr__(self) -> str:
        return f"<Registry with {len(self._tools)} tools>"

    def __len__(self) -> int:
        return len(self._tools)

    def __bool__(self) -> bool:
        # ``registry or default`` must not take an empty one for none.
        return True

    def __contains__(self, name: object) -> bool:
        return self.get(name) is not None

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
        try:
            return self._tools.get(name) if isinstance(name, str) else None
        except Exception:
            return None  # text of a class that cannot be compared

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
        circuit: str | KeyFunction | None = None,
        judge: Judge | Inherit = INHERIT,
        is_failure: Callable[[Any], bool] | Inherit = INHERIT,
        idempotent: bool = False,
        read_only: bool | None = None,
        polling: bool = False,
        validate: bool = True,
        policy: ToolPolicy | BreakerPolicy | None = None,
        alternatives: Sequence[str] = (),
        render: Callable[[Any], str] | None = None,
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
        circuit: str | KeyFunction | None = None,
        judge: Judge | Inherit = INHERIT,
        is_failure: Callable[[Any], bool] | Inherit = INHERIT,
        idempotent: bool = False,
        read_only: bool | None = None,
        polling: bool = False,
        validate: bool = True,
        policy: ToolPolicy | BreakerPolicy | None = None,
        alternatives: Sequence[str] = (),
        render: Callable[[Any], str] | None = None,
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
            read_only: See ``Tool``.
            polling: See ``Tool``.
            validate: See ``Tool``.
            policy: Further settings, of the tool or of its circuit.
            alternatives: See ``Tool``.
            render: See ``Tool``.
            replace: Whether it takes the place of a tool of that name.

        Raises:
            DuplicateToolError: The name is taken.
            TypeError: This cannot be run as a tool.
            ValueError: A setting cannot be, is given twice, or is not that of the
                others on the same circuit; or the names of fallbacks lead back to it.
        """
        given = ToolPolicy(timeout=timeout, judge=judge, is_failure=is_failure)
        settings = join(given, as_tool_policy(policy))
        if settings == INHERITED:
            settings = INHERITED

        def register(fn: Function, depth: int = 1) -> Function:
            from . import _schema

            self.add(
                Tool(
                    fn=fn,
                    name=name_of(fn) if name is None else name,
                    description=description,
                    parameters=parameters,
                    policy=settings,
                    circuit=circuit,
                    idempotent=idempotent,
                    read_only=read_only,
                    polling=polling,
                    validate=validate,
                    alternatives=alternatives,
                    render=render,
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
            ValueError: Its settings of a shared circuit are not those of the others, its
                own or those that an orchestrator has for its name; or the names of
                fallbacks lead back to it. Names them all.
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
        self._check_circuits(tool)
        self._check_fallbacks(tool)
        for watcher in tuple(self._watchers):
            watcher.check(tool)
        before = self._tools.get(tool.name)
        self._tools[tool.name] = tool
        self._note_writer(tool)
        if before is not None:
            self._leave_circuit(before)
        if isinstance(tool.circuit, str):
            self._shared.setdefault(tool.circuit, {})[tool.name] = tool
        if before is not None:
            self._forget(before, removed=False)
        for watcher in tuple(self._watchers):
            watcher.tool_added(tool)
        return tool

    def remove(self, name: str) -> Tool:
        """
        Remove a tool, and return it. Its circuit goes with the last tool that has it.

        Raises:
            UnknownToolError: There is none.
        """
        tool = self[name]
        del self._tools[name]
        self._writers.discard(name)
        self._leave_circuit(tool)
        self._forget(tool, removed=True)
        return tool

    def include(self, source: ToolSource) -> None:
        """
        Have the tools of a source, those that it has now and as they come and go: of
        ``McpServers``, say, which leave out a tool whose name is taken, and tell of it. Does
        nothing if they are included already.
        """
        if source not in self._sources:
            source.attach(self)
            self._sources.append(source)

    def exclude(self, source: ToolSource) -> None:
        """
        Take the tools of a source out again. Does nothing if they are not included.
        """
        if source in self._sources:
            self._sources.remove(source)
            source.detach(self)

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
        check_format(format)
        self.build()
        return [tool.definition(format) for tool in self]

    async def dispatch(self, name: str, args: Any = None, /, **context: Any) -> Any:
        """
        Run a tool without protection: no guard, no circuit, no timeout, no limit, no
        retry, no fallback, no verdict.

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
        check_context(context)
        tool = self[name]
        binder = self._binders.get(name)
        if binder is None:
            settings = ToolSettings.of(tool.policy)
            binder = self._binders[name] = Binder(tool, settings)
        arguments = dict(binder.bind(args))
        if binder.context_parameter is not None:
            arguments[binder.context_parameter] = ToolContext(
                tool_name=name, idempotency_key=os.urandom(16).hex(), data=context
            )
        if tool.streams:
            return await joined(tool.fn(**arguments))
        if tool.is_async:
            return await tool.fn(**arguments)
        slots = Slots(1)
        slots.take()
        value = await ThreadedCall(slots).wait(functools.partial(tool.fn, **arguments))
        return await value if inspect.isawaitable(value) else value

    def unknown(
        self, name: object, allows: Callable[[str], bool] | None = None
    ) -> UnknownToolError:
        """
        The error for a name that no tool has, with the closest that there are, of those
        that may be told of.

        A name of more than 128 characters is not compared with anything.
        """
        from ._text import quote_name

        names = self._tools if allows is None else [*filter(allows, self._tools)]
        close = closest(name, names)
        return UnknownToolError(
            tool_name=quote_name(name), did_you_mean=close, reason=self._why_unknown(name)
        )

    def _why_unknown(self, name: object) -> str:
        # One that is there may be kept from a conversation, which is not to be told of it.
        if type(name) is not str or len(name) > MAX_NAME or name in self._tools:
            return ""
        return next(filter(None, (each.why_unknown(name) for each in self._sources)), "")

    def watch(self, watcher: Watcher) -> None:
        """
        Ask it of every tool that is to come, and tell it of every one that is replaced or
        removed, as long as it lives.
        """
        self._watchers.add(watcher)

    def sharing(self, circuit: str) -> list[Tool]:
        """
        The tools on the circuit of that name.
        """
        if circuit in self._shared:
            return list(self._shared[circuit].values())
        tool = self._tools.get(circuit)
        return [tool] if tool is not None and tool.circuit_name == circuit else []

    @property
    def has_writers(self) -> bool:
        """
        Whether there are tools that are marked ``read_only=False``.
        """
        return bool(self._writers)

    def _note_writer(self, tool: Tool) -> None:
        if tool.read_only is False:
            self._writers.add(tool.name)
        else:
            self._writers.discard(tool.name)

    def _leave_circuit(self, tool: Tool) -> None:
        if isinstance(tool.circuit, str):
            group = self._shared[tool.circuit]
            del group[tool.name]
            if not group:
                del self._shared[tool.circuit]

    def _check_circuits(self, tool: Tool) -> None:
        """
        Names of circuits are those of tools without one, or of none; and tools that share
        a circuit agree on it.
        """
        for other in self.sharing(tool.name):
            if other.name != tool.name and tool.circuit != tool.name:
                raise DuplicateToolError(
                    f"{tool.name} is the name of a circuit that {other.name} uses, so no "
                    "other tool can be named like it.",
                    tool_name=tool.name,
                )
        named = self.get(tool.circuit)
        if named is not None and named.name != tool.name and named.circuit != named.name:
            raise DuplicateToolError(
                f"{tool.name} cannot use a circuit named {tool.circuit}: that is the "
                "name of another tool, which has a circuit of its own.",
                tool_name=tool.name,
            )
        for other in self.sharing(tool.circuit_name):
            if other.name != tool.name:
                _check_agreement(tool, other)

    def _check_fallbacks(self, tool: Tool) -> None:
        """
        What answers in a tool's place, and in that one's, must not come back to the tool.
        """
        way, other = [tool.name], tool
        while isinstance(other.policy.fallback, str):
            way.append(other.policy.fallback)
            if way[-1] == tool.name:
                raise ValueError(f"fallbacks go round in a circle: {' -> '.join(way)}")
            following = self.get(way[-1])
            if following is None:
                return
            other = following

    def _forget(self, tool: Tool, *, removed: bool) -> None:
        self._binders.pop(tool.name, None)
        for watcher in tuple(self._watchers):
            watcher.tool_changed(tool, removed=removed)


registry: Final = Registry()
"""The registry that an orchestrator uses if it is given none."""


def _check_agreement(tool: Tool, other: Tool) -> None:
    for name in BreakerPolicy.__slots__:
        mine = getattr(tool.policy.breaker, name)
        theirs = getattr(other.policy.breaker, name)
        if INHERIT not in (mine, theirs) and mine != theirs:
            raise ValueError(
                f"{tool.name} and {other.name} share the circuit {tool.circuit_name} "
                f"and disagree on its {name}: {mine!r} and {theirs!r}"
            )

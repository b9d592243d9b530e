"""
The tools of hermes, as tools of our registries.

Everything in hermes blocks: importing it, asking what is available, and each call. All of
that is done in threads.
"""

from __future__ import annotations

import functools
import json
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack, nullcontext
from dataclasses import fields, replace
from fnmatch import fnmatchcase
from logging import getLogger
from types import TracebackType
from typing import Any, Final, Self

import anyio
import anyio.to_thread

from orchestrator_async import (
    BreakerPolicy,
    DuplicateToolError,
    LimitExceededError,
    Registry,
    Tool,
    ToolContext,
    ToolPolicy,
)
from orchestrator_async._policy import as_tool_policy
from orchestrator_async._threads import NoThreadError, Slots, ThreadedCall

from . import _hermes
from ._judge import hermes_errors
from ._known import NEEDS_AN_AGENT, READ_ONLY, WRITERS
from ._stopping import Stoppable, stopped_with_its_script
from ._streams import own_streams

logger: Final = getLogger("orchestrator_async.hermes")

_PASSED_ON: Final = ("task_id", "session_id", "user_task", "enabled_tools")
"""What hermes itself hands to all handlers, and we from the context of a call."""

_FAREWELL: Final = 3.0
"""Seconds that commands have to end when the tools are left."""


_Told = tuple[str, str, Mapping[str, Any], float]
"""A tool's name, its description, the schema of its arguments, and the most characters of a
result."""


class HermesTools:
    """
    The tools of hermes-agent, for registries.

    ``async with HermesTools() as tools: registry.include(tools)``. What hermes says is not
    available is not offered, and asked for again now and then. A call that is cancelled or
    out of time stops the command that it has started; leaving the ``async with`` stops them
    all.

    A call's ``task_id``, ``session_id``, ``user_task`` and ``enabled_tools`` go to hermes
    from its context: ``orch.dispatch(name, args, task_id="ada")``.

    Args:
        tools: Patterns of the names of those to take. Default: all.
        handler_kwargs: What the handlers of some tools get besides, by tool. Tools that
            need something of an agent (``todo`` and ``memory`` a ``store``, ``clarify`` a
            ``callback``) are offered only where they are named here.
        policy: How they are run and judged, before what is known of them: the judge
            ``hermes_errors``, and hermes' own limit of a result's size.
        circuit: Name of one circuit for all tools that change files or run commands.
            Their calls then keep their order in a turn, and what kills one takes away
            all. Default: each has its own, and keeps its own calls in order.
        refresh_every: Seconds after which hermes is asked again what is available, or
            ``None`` for never.
        max_threads: Calls at one time, those included that were given up and still run.

    Raises:
        ImportError: hermes-agent is not installed, or in another version.
        TypeError: An argument is of another type than that.
        ValueError: ``refresh_every``, ``max_threads`` or ``policy`` is none that there is.
    """

    def __init__(
        self,
        *,
        tools: Iterable[str] = ("*",),
        handler_kwargs: Mapping[str, Mapping[str, Any]] | None = None,
        policy: ToolPolicy | BreakerPolicy | None = None,
        circuit: str | None = None,
        refresh_every: float | None = 30.0,
        max_threads: int = 40,
    ) -> None:
        self._patterns = _patterns(tools)
        self._handler_kwargs = _by_name(handler_kwargs)
        if circuit is not None and not isinstance(circuit, str):
            raise TypeError(f"circuit must be a name or None, not {circuit!r}")
        _check_seconds(refresh_every)
        if type(max_threads) is not int or max_threads < 1:
            raise ValueError(f"max_threads={max_threads!r}: expected a whole number from 1")
        _hermes.check()
        self._policy = as_tool_policy(policy)
        self._circuit = circuit
        self._refresh_every = refresh_every
        self._slots = Slots(max_threads)
        self._registries: list[Registry] = []
        self._offered: dict[str, Tool] = {}
        self._left_out: set[str] = set()
        self._running: set[Stoppable] = set()
        self._stack: AsyncExitStack | None = None

    def __repr__(self) -> str:
        return f"<HermesTools, {len(self._offered)} of them>"

    async def __aenter__(self) -> Self:
        if self._stack is not None:
            raise RuntimeError("these tools are entered already")
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._close)
            await self.refresh()
            group = await stack.enter_async_context(anyio.create_task_group())
            stack.callback(group.cancel_scope.cancel)
            if self._refresh_every is not None:
                group.start_soon(self._keep_fresh, self._refresh_every)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._stack is not None
        stack, self._stack = self._stack, None
        # Not with the error, which would come out in a group.
        await stack.__aexit__(None, None, None)

    async def _close(self) -> None:
        for registry in tuple(self._registries):
            registry.exclude(self)
        self._offered.clear()
        for call in tuple(self._running):
            call.give_up()
        with anyio.move_on_after(_FAREWELL, shield=True):
            # They end in threads, of which some wait for none of our loops.
            while self._running:  # noqa: ASYNC110
                await anyio.sleep(0.02)

    async def _keep_fresh(self, seconds: float) -> None:
        while True:
            await anyio.sleep(seconds)
            try:
                await self.refresh()
            except Exception:
                logger.exception("hermes could not be asked what is available")

    async def refresh(self) -> None:
        """
        Ask hermes what is available, and change the registries accordingly. Hermes itself
        remembers for some 30 s what it has found out.

        A tool that is new, and whose name a registry has already, is left out there.
        """
        told = await anyio.to_thread.run_sync(self._definitions, abandon_on_cancel=True)
        before, self._offered = self._offered, self._made(told)
        for registry in self._registries:
            for name, tool in before.items():
                if name not in self._offered and registry.get(name) is tool:
                    registry.remove(name)
            for name, tool in self._offered.items():
                known = before.get(name)
                if known is not tool:
                    _add(registry, tool, replaces=known)

    def _made(self, told: Iterable[_Told]) -> dict[str, Tool]:
        """
        The tools that hermes tells of: the same ones as long as it tells the same.
        """
        made: dict[str, Tool] = {}
        for name, description, parameters, size in told:
            tool = self._offered.get(name)
            if tool is None or (tool.description, tool.parameters) != (
                description,
                parameters,
            ):
                try:
                    tool = self._tool(name, description, parameters, size)
                except (TypeError, ValueError) as error:
                    if name not in self._left_out:
                        logger.warning("a tool of hermes is left out: %s", error)
                    self._left_out.add(name)
                    continue
            made[name] = tool
        return made

    def _definitions(self) -> list[_Told]:
        """
        In a thread: those that are available.
        """
        registry = _hermes.registry()
        _hermes.tools_module()
        names = {name for name in registry.get_all_tool_names() if self._takes(name)}
        if "execute_code" in names:
            _hermes.have_between(_between)
        told = []
        for each in registry.get_definitions(names, quiet=True):
            function = each["function"]
            told.append(
                (
                    function["name"],
                    function.get("description") or "",
                    function.get("parameters") or {"type": "object", "properties": {}},
                    registry.get_max_result_size(function["name"]),
                )
            )
        return told

    def _takes(self, name: str) -> bool:
        if name in NEEDS_AN_AGENT and name not in self._handler_kwargs:
            return False
        return any(fnmatchcase(name, pattern) for pattern in self._patterns)

    def _tool(
        self, name: str, description: str, parameters: Mapping[str, Any], size: float
    ) -> Tool:
        known = ToolPolicy(
            judge=hermes_errors,
            max_result_size=int(size) if 200 <= size < float("inf") else None,
        )
        return Tool(
            fn=HermesTool(self, name),
            name=name,
            description=description,
            parameters=parameters,
            policy=over(self._policy, known),
            circuit=self._circuit if name in WRITERS else None,
            read_only=name in READ_ONLY,
            idempotent=name in READ_ONLY,
            render=text_of,
        )

    # A source of tools

    def attach(self, registry: Registry) -> None:
        """
        See ``Registry.include``.
        """
        for name in self._offered:
            if name in registry:
                raise DuplicateToolError(
                    f"hermes has a tool named {name}, and so has the registry; leave it "
                    "out with tools=, or rename the other.",
                    tool_name=name,
                )
        for tool in self._offered.values():
            registry.add(tool)
        self._registries.append(registry)

    def detach(self, registry: Registry) -> None:
        """
        See ``Registry.exclude``.
        """
        self._registries.remove(registry)
        for name, tool in self._offered.items():
            if registry.get(name) is tool:
                registry.remove(name)

    def why_unknown(self, name: str) -> str:
        """
        See ``Registry.include``.
        """
        if _hermes.registry().get_entry(name) is None or not self._takes(name):
            return ""
        return "It is one of hermes, which says that it is not available now."

    # Calls

    async def run_tool(self, name: str, args: dict[str, Any], context: ToolContext) -> Any:
        """
        Run a tool in a thread, and stop it if nobody waits for it any more.
        """
        kwargs = {key: context.data[key] for key in _PASSED_ON if key in context.data}
        if name == "execute_code":
            kwargs.setdefault("enabled_tools", list(self._offered))
        kwargs.update(self._handler_kwargs.get(name, {}))
        if not self._slots.take():
            raise _no_thread(name, "threads", self._slots.size)
        call = Stoppable(_hermes.interrupts()[0])
        left: list[str] = []
        try:
            value = await ThreadedCall(self._slots).wait(
                functools.partial(self._dispatch, call, name, args, kwargs, left)
            )
            left.clear()
            return value
        except NoThreadError as error:
            count = threading.active_count()
            raise _no_thread(name, "system threads", count) from error
        finally:
            call.give_up()
            if left:  # it has ended, and nobody hears of it
                threading.Thread(target=_end, args=(left,), daemon=True).start()

    def _dispatch(
        self,
        call: Stoppable,
        name: str,
        args: dict[str, Any],
        kwargs: dict[str, Any],
        left: list[str],
    ) -> Any:
        """
        The thread's part.
        """
        self._running.add(call)
        try:
            if not call.begin():
                return None
            made = _hermes.tools_module().coerce_tool_args(name, args)
            with own_streams if name == "execute_code" else nullcontext():
                value = _hermes.registry().dispatch(name, made, **kwargs)
            if name == "terminal" and made.get("background"):
                left.extend(_in_background(value))
            return value
        finally:
            call.end()
            if call.told:
                _end(left)
            self._running.discard(call)


def _patterns(tools: object) -> tuple[str, ...]:
    if isinstance(tools, Iterable) and not isinstance(tools, str):
        found = tuple(tools)
        if all(isinstance(each, str) for each in found):
            return found
    raise TypeError(f"tools must be several names or patterns, not {tools!r}")


def _by_name(given: object) -> dict[str, Mapping[str, Any]]:
    found = {} if given is None else given
    if isinstance(found, Mapping) and all(
        isinstance(each, Mapping) for each in found.values()
    ):
        return dict(found)
    raise TypeError(
        f"handler_kwargs must be the arguments of handlers, by tool, not {given!r}"
    )


def _check_seconds(given: Any) -> None:
    if given is not None and (
        type(given) not in (int, float) or not 0 < given <= sys.float_info.max
    ):
        raise ValueError(
            f"refresh_every={given!r}: expected a finite number of seconds above 0, or None"
        )


def _between(*, args: Any, next_call: Callable[[Any], Any], **told: Any) -> Any:
    own_streams.put_back()
    return stopped_with_its_script(_hermes.interrupts()[0], next_call, args)


def _in_background(value: Any) -> Iterable[str]:
    """
    What hermes calls the process that a command has left in the background.
    """
    try:
        session = json.loads(value).get("session_id")
    except (TypeError, ValueError, AttributeError):
        return ()
    return (session,) if isinstance(session, str) else ()


def _end(left: list[str]) -> None:
    while left:
        _hermes.end_process(left.pop())


def _no_thread(name: str, limit: str, size: int) -> LimitExceededError:
    return LimitExceededError(tool_name=name, limit=limit, size=size, retry_after=1.0)


def _add(registry: Registry, tool: Tool, *, replaces: Tool | None) -> None:
    there = registry.get(tool.name)
    try:
        registry.add(tool, replace=there is not None and there is replaces)
    except (DuplicateToolError, ValueError) as error:
        logger.warning("a new tool of hermes is left out: %s", error)


class HermesTool:
    """
    One tool of hermes, as what a ``Tool`` runs.
    """

    def __init__(self, tools: HermesTools, name: str) -> None:
        self._tools = tools
        self.name = name

    async def __call__(self, /, *, __tool_context__: ToolContext, **arguments: Any) -> Any:
        return await self._tools.run_tool(self.name, arguments, __tool_context__)


def text_of(value: Mapping[str, Any]) -> str:
    """
    What a model reads of a result that is no text: of an envelope with images, its texts.
    """
    summary = value.get("text_summary")
    if isinstance(summary, str) and summary:
        return summary
    texts = [each.get("text") or f"[{each.get('type')}]" for each in value["content"]]
    return "\n".join(map(str, texts))


def over(given: ToolPolicy, known: ToolPolicy) -> ToolPolicy:
    """
    What is given, and what is known where nothing is.
    """
    nothing = ToolPolicy()
    said = {
        each.name: getattr(given, each.name)
        for each in fields(given)
        if getattr(given, each.name) != getattr(nothing, each.name)
    }
    if "is_failure" in said:
        known = replace(known, judge=nothing.judge)
    return replace(known, **said)

"""
Tools that a framework runs, each under a circuit of ours.

A framework hands over a call and the way to run it. The call goes through the orchestrator
like any other, and comes back as a ``ToolResult``, from which the adapter makes what its
framework expects. The tools are in the orchestrator's registry under their names, so that
its settings by name, its figures and its circuits are theirs as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, Protocol

from orchestrator_async import (
    BreakerPolicy,
    InvalidResultError,
    OrchestratorError,
    Tool,
    ToolOrchestrator,
    ToolPolicy,
    ToolResult,
)
from orchestrator_async._calls import check_context, given
from orchestrator_async._entry import Entry
from orchestrator_async._outcome import to_text
from orchestrator_async._text import type_name

Handler = Callable[[], Awaitable[Any]]
"""Runs the call in the way of its framework; again, where a retry is made."""


_NOTHING: Final[Mapping[str, Any]] = {}


class Runner(Protocol):
    """
    What runs calls: an orchestrator, or a conversation of one.
    """

    async def run(
        self, name: str, args: Any = None, /, *, call_id: str | None = None, **context: Any
    ) -> ToolResult: ...


class Guarding:
    """
    Runs calls of one framework's tools by an orchestrator.

    Args:
        orch: The orchestrator.
        framework: What the tools belong to, for error messages.
        policy: How they are run and judged. Default: as the orchestrator says.
        control_flow: Exception types by which the framework interrupts a run, which are
            raised on and give no verdict: besides those of the policy.
        ignore: Exception types that blame the call, besides those of the policy.
        checks_text: Whether it is a failure where a value cannot be made text, by the
            ``render`` of its tool. Default: a value is made text where somebody reads it.

    Raises:
        TypeError: ``orch`` is none, or ``policy`` is none.
    """

    def __init__(
        self,
        orch: ToolOrchestrator,
        *,
        framework: str,
        policy: ToolPolicy | BreakerPolicy | None = None,
        control_flow: tuple[type[BaseException], ...] = (),
        ignore: tuple[type[BaseException], ...] = (),
        checks_text: bool = False,
    ) -> None:
        given: object = orch
        if not isinstance(given, ToolOrchestrator):
            raise TypeError(f"orch must be a ToolOrchestrator, not {given!r:.100}")
        self.orch = orch
        self._framework = framework
        self._checks_text = checks_text
        self._policy = _with_types(policy, control_flow=control_flow, ignore=ignore)

    def run(
        self,
        name: str,
        args: Mapping[str, Any] | Callable[[], Mapping[str, Any]],
        handler: Handler,
        /,
        *,
        call_id: str | None = None,
        described: Callable[[], Mapping[str, Any]] | None = None,
        runner: Runner | None = None,
        context: Mapping[str, Any] | Callable[[], Mapping[str, Any]] = _NOTHING,
    ) -> Coroutine[Any, Any, ToolResult | None]:
        """
        Run a call of a framework's tool, or refuse it. To be awaited at once: whether it
        is refused is decided now.

        Args:
            name: The tool's name.
            args: Its arguments, for guards, events and circuits by key, or what gives them
                where somebody wants them. The handler has its own.
            handler: Runs it.
            call_id: The model's id of the call.
            described: Gives what is known of the tool as fields of a ``Tool``
                (``description``, ``parameters``, ``read_only``); asked when the tool is
                seen for the first time.
            runner: A conversation of the orchestrator, to run it in.
            context: What guards and observers find as the call's context, or what gives
                that where somebody wants it.

        Returns:
            What came of it; ``None`` where its handler has succeeded, the framework is to
            have what that gave, and there is nothing more to say: it is cheaper by half.

        Raises:
            ValueError: The registry has a tool of that name which is not this
                framework's.
            TypeError: The context has a name that looks like an option.
            BaseException: Cancellation, and control flow.
        """
        if not callable(context):
            check_context(context)
        short = None
        if runner is None and (type(args) is dict or callable(args)):
            short = self.orch._shortcut(name)
        if short is not None and self._is_ours(short[0]):
            return self.orch._execution.short(
                *short,
                args,
                call_id,
                context,
                render=self._checks_text,
                handler=handler,
                brief=True,
            )
        self.know(name, described)
        told = given(args), handler, call_id, given(context)
        return self._run(runner or self.orch, name, *told)

    async def _run(
        self,
        runner: Runner,
        name: str,
        args: Mapping[str, Any],
        handler: Handler,
        call_id: str | None,
        context: Mapping[str, Any],
    ) -> ToolResult:
        token = _call.set((name, handler))
        try:
            return await runner.run(name, args, call_id=call_id, **context)
        finally:
            _call.reset(token)

    def _is_ours(self, entry: Entry) -> bool:
        fn = entry.fn
        if type(fn) is not ForeignTool or entry.check is not None:
            return False
        return fn.framework == self._framework

    def knows(self, name: str) -> bool:
        """
        Whether the registry has a tool of that name.
        """
        return name in self.orch._entries or self.orch.registry.get(name) is not None

    def know(self, name: str, described: Callable[[], Mapping[str, Any]] | None) -> None:
        """
        Have a tool in the registry, so that it has a circuit and figures before its first
        call.

        Raises:
            ValueError: As ``run``.
        """
        registry = self.orch.registry
        known = registry.get(name)
        if known is None:
            fields: dict[str, Any] = {"parameters": _ANYTHING}
            if described is not None:
                fields = dict(described())
            if not self._checks_text:
                fields["render"] = partial(_shown, fields.get("render"))
            fn = ForeignTool(name, self._framework)
            registry.add(Tool(fn=fn, name=name, policy=self._policy, **fields))
        elif not is_foreign(known, self._framework):
            raise ValueError(
                f"the orchestrator's registry has a tool of its own named {name!r}, which "
                f"is not that of {self._framework}; rename one, or use two orchestrators"
            )


def _shown(render: Callable[[Any], str] | None, value: Any) -> str:
    """
    A value as text, for whoever reads it. That it can be made text says nothing of its tool.
    """
    try:
        return to_text(value, tool_name="", render=render)
    except InvalidResultError:
        return f"({type_name(value)})"


_ANYTHING: Final[Mapping[str, Any]] = {"type": "object"}
_call: Final[ContextVar[tuple[str, Handler] | None]] = ContextVar("_call", default=None)
"""The name and the handler of the call that is being made, until its tool is run."""


class ForeignTool:
    """
    Stands in a registry for a tool that only its framework can run.
    """

    def __init__(self, name: str, framework: str) -> None:
        self.name = name
        self.framework = framework

    async def __call__(self, /, **arguments: Any) -> Any:
        made = _call.get()
        if made is None or made[0] != self.name:
            raise OrchestratorError(
                f"{self.name} is a tool of {self.framework}, which alone can run it.",
                tool_name=self.name,
            )
        token = _call.set(None)  # what it calls itself are calls of their own
        try:
            return await made[1]()
        finally:
            _call.reset(token)


def is_foreign(tool: Tool, framework: str | None = None) -> bool:
    """
    Whether a tool stands for one of a framework's: of that one, if it is named.
    """
    fn = tool.fn
    return isinstance(fn, ForeignTool) and framework in (None, fn.framework)


def own_tools(orch: ToolOrchestrator) -> list[Tool]:
    """
    The tools of an orchestrator that it can run by itself, in their order.
    """
    return [tool for tool in orch.registry if not is_foreign(tool)]


def as_policy(policy: ToolPolicy | BreakerPolicy | None) -> ToolPolicy:
    """
    A policy that was given, as one of a tool.

    Raises:
        TypeError: It is none.
    """
    given: object = policy
    if isinstance(given, BreakerPolicy):
        return ToolPolicy(breaker=given)
    if given is None:
        return ToolPolicy()
    if isinstance(given, ToolPolicy):
        return given
    raise TypeError(f"policy must be a ToolPolicy or a BreakerPolicy, not {given!r:.100}")


def _with_types(
    policy: ToolPolicy | BreakerPolicy | None, **more: tuple[type[BaseException], ...]
) -> ToolPolicy:
    """
    The policy, with these types besides its own.
    """
    from dataclasses import replace

    made = as_policy(policy)
    fields: dict[str, Any] = {}
    for name, types in more.items():
        own = getattr(made, name)
        if types:
            fields[name] = (*types, *own) if isinstance(own, tuple) else types
    return replace(made, **fields)
